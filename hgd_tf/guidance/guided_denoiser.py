"""Training a denoiser under a frozen target's guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.pixel_range import PIXEL_MAX, warn_of_range
from hgd_tf.foundation.stack import is_keras_3_model, keras
from hgd_tf.guidance.guidances import Guidance, parse_guidance
from hgd_tf.targets import Target, resize_to


class Batch(NamedTuple):
    """Pairs of images: attacked and clean, float32 (N, H, W, C); label and attack's number, int64 (N,), where known."""

    attacked: tf.Tensor
    clean: tf.Tensor
    label: Optional[tf.Tensor] = None
    attack: Optional[tf.Tensor] = None


class GuidedDenoiser(keras.Model):
    """A denoiser, trained so that the target's response to D(x*) is its response to x (section 3.2).

    Only the denoiser's variables are optimized. The target answers in inference mode, and no more of it is computed
    than is compared: nothing for pixels, nothing for the clean image where the true label is the reference.

    It is compiled, fitted and evaluated like any Keras model, on arrays or a `tf.data.Dataset`: of attacked images with
    the clean ones, or (clean, labels), in the place of y. Images are (N, H, W, C) in [0, 255], labels (N,). Evaluation
    gives the loss and the target's accuracy on denoised images; without labels, how often it answers as to the clean.

    >>> import hgd_tf
    >>> images, labels = hgd_tf.load_fashion_mnist().train.head(64)
    >>> target = hgd_tf.load_target("mini_vgg")  # or a Keras classifier of your own
    >>> attacked = hgd_tf.SignGradientAttack([target])(images, 16, hgd_tf.ifgsm(2))
    >>> denoiser = hgd_tf.dunet(width=1 / 32, channels=1)
    >>> model = hgd_tf.GuidedDenoiser(denoiser, target, "feature+logits")
    >>> model.compile("adam")
    >>> history = model.fit(attacked, (images, labels), batch_size=32, epochs=2, verbose=0)
    >>> sorted(model.evaluate(attacked, (images, labels), verbose=0, return_dict=True))
    ['accuracy', 'loss']
    >>> defense = hgd_tf.Defense(denoiser, target)

    Args:
      denoiser: images to images of the same shape, a model of Keras 2 (TensorFlow 2.15's own, later tf-keras).
      target: the frozen classifier.
      guidance: what is compared: one of `GUIDANCES`, a sum of them or one of your own; a text as in `parse_guidance`.
      attacks: the attacks' names, by their number in a `Batch`; validation accuracy is measured for each.
      guide: the target that answers in training, such as its bfloat16 copy; None: the target itself.
      frozen_statistics: whether batch normalization uses, and keeps, the denoiser's statistics in training as well.

    Raises:
      TargetError: the target does not give what is compared, or the denoiser does not fit before it.
    """

    def __init__(
        self,
        denoiser: keras.Model,
        target: Target,
        guidance: Union[Guidance, str],
        attacks: Sequence[str] = (),
        guide: Optional[Target] = None,
        frozen_statistics: bool = False,
    ):
        super().__init__(name="guided_denoiser")
        if is_keras_3_model(denoiser):
            raise TargetError(f"expected a denoiser of Keras 2, such as dunet(), received {denoiser.name} of Keras 3")
        if isinstance(guidance, str):
            guidance = parse_guidance(guidance)
        given = ("image", *target.network.output_shape)
        for response in guidance.responses:
            if response not in given:
                raise TargetError(
                    f"guidance needs the {response} of {target.name}, received {', '.join(given)}; "
                    "features are the output of a `feature_layer`"
                )
        self.denoiser = denoiser
        self.target = target
        self.guide = guide or target
        self.guidance = guidance
        self.frozen_statistics = frozen_statistics
        self.loss_mean = keras.metrics.Mean("loss")
        self.accuracy = keras.metrics.Mean("accuracy")
        self.accuracy_by_attack = [keras.metrics.Mean(f"accuracy_{name}") for name in attacks]

    def compile(self, optimizer: Union[keras.optimizers.Optimizer, str] = "adam", **kwargs):
        """Compiles with the guidance's own loss; in the scope of the strategy, if there is one."""
        super().compile(optimizer, loss=[term.loss() for term in self.guidance.terms], **kwargs)
        if hasattr(self.optimizer, "build"):  # not Keras' legacy ones
            # In the scope, or the replicas would share the moments; and no failed first step leaves it half built.
            self.optimizer.build(self.denoiser.trainable_variables)

    def fit(self, x: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """As Keras' own; warns of attacked images whose pixels are not in [0, 255]."""
        warn_of_range(x, self)
        return super().fit(x, *args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_mean, self.accuracy, *self.accuracy_by_attack]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Denoised images."""
        return self.denoiser(images, training=training)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """One optimizer step on a `Batch`, (attacked, clean) or (attacked, (clean, labels))."""
        batch = self.prepared(data)
        reference = self._reference(self.guide, batch)
        with tf.GradientTape() as tape:
            response = self._response(self.guide, self.denoiser(batch.attacked, training=not self.frozen_statistics))
            loss = self._loss(reference, response)
        self.optimizer.minimize(loss, self.denoiser.trainable_variables, tape=tape)
        self.loss_mean.update_state(self._unscaled(loss), sample_weight=len_of(batch))
        return {"loss": self.loss_mean.result()}

    def test_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Loss on such a batch, and accuracy of the target on the denoised images, overall and by attack."""
        batch = _as_batch(data)
        return self._tested(self._resized(_never_empty(batch)), len_of(batch))

    def _tested(self, batch: Batch, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a test step adds and returns; `count`: 0 where the batch is a blank image in the place of none."""
        denoised = self.denoiser(batch.attacked, training=False)
        reference = self._reference(self.target, batch)
        loss = self._loss(reference, self._response(self.target, denoised))
        self.loss_mean.update_state(self._unscaled(loss), sample_weight=count)
        label = self._answers(batch.clean) if batch.label is None else batch.label
        right = tf.cast(self._answers(denoised) == label, tf.float32)
        weight = tf.minimum(count, 1.0)  # 0 for the blank image of an empty batch
        self.accuracy.update_state(right, sample_weight=weight)
        for number, accuracy in enumerate(() if batch.attack is None else self.accuracy_by_attack):
            accuracy.update_state(right, sample_weight=weight * tf.cast(batch.attack == number, tf.float32))
        return {metric.name: metric.result() for metric in self.metrics}

    def _answers(self, images: tf.Tensor) -> tf.Tensor:
        return tf.argmax(self.target(images)["logits"], axis=-1)

    def as_given(self, data: tuple) -> Batch:
        """What a step is given, as a `Batch`."""
        return _as_batch(data)

    def prepared(self, data: tuple) -> Batch:
        """The same, of images of the target's size."""
        return self._resized(_as_batch(data))

    def _resized(self, batch: Batch) -> Batch:
        """At the target's size, where a defense denoises."""
        size = self.target.image_size
        return batch._replace(attacked=resize_to(batch.attacked, size), clean=resize_to(batch.clean, size))

    def _reference(self, target: Target, batch: Batch) -> list[tf.Tensor]:
        """What the terms compare the response with."""
        terms = self.guidance.terms
        if self.guidance.uses_labels and batch.label is None:
            raise ValueError("guidance by label needs the true classes: expected y=(clean, labels), received y=clean")
        given = _responses(target, batch.clean, [term.response for term in terms if not term.uses_labels])
        return [batch.label if term.uses_labels else given[term.response] for term in terms]

    def _response(self, target: Target, images: tf.Tensor) -> list[tf.Tensor]:
        given = _responses(target, images, self.guidance.responses)
        return [given[term.response] for term in self.guidance.terms]

    def _loss(self, reference: list[tf.Tensor], response: list[tf.Tensor]) -> tf.Tensor:
        return self.compute_loss(y=reference, y_pred=response)

    @staticmethod
    def _unscaled(loss: tf.Tensor) -> tf.Tensor:
        """Keras divides a loss by the number of replicas, since their gradients are added."""
        return loss * tf.distribute.get_strategy().num_replicas_in_sync


def _responses(target: Target, images: tf.Tensor, wanted: Sequence[str]) -> dict[str, tf.Tensor]:
    """The image in [0, 1] and what the target gives, which is not asked where the image alone is wanted."""
    image = {"image": images / PIXEL_MAX}
    return image if set(wanted) <= image.keys() else {**image, **target(images)}


def _as_batch(data: tuple) -> Batch:
    """What Keras hands over: a `Batch`, or x with y, the clean images or (clean, labels)."""
    if len(data) == len(Batch._fields):
        return Batch(*data)
    if len(data) != 2:
        raise ValueError("expected pairs: x=attacked, y=clean or y=(clean, labels), and no sample weights")
    attacked, y = data
    clean, *label = y if isinstance(y, (tuple, list)) else (y,)
    # A column of labels would be compared with each of a batch's answers.
    return Batch(attacked, clean, *(tf.reshape(tf.cast(its_label, tf.int64), [-1]) for its_label in label))


def _never_empty(batch: Batch) -> Batch:
    """The batch, or one blank image where a replica gets none: oneDNN's fused convolutions fail on empty batches."""
    missing = tf.cast(tf.shape(batch.attacked)[0] == 0, tf.int32)

    def filled(values: Optional[tf.Tensor]) -> Optional[tf.Tensor]:
        if values is None:
            return None
        padded = tf.pad(values, [[0, missing]] + [[0, 0]] * (len(values.shape) - 1))
        return tf.ensure_shape(padded, [None, *values.shape[1:]])

    return Batch(*map(filled, batch))


def len_of(batch: Batch) -> tf.Tensor:
    """Number of images in a batch, float32."""
    return tf.cast(tf.shape(batch.attacked)[0], tf.float32)
