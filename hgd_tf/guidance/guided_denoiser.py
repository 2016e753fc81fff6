"""Training a denoiser under a frozen target's guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.guidance.guidances import Guidance
from hgd_tf.stack import keras
from hgd_tf.targets import Target, resize_to

PIXEL_MAX = 255.0


class Batch(NamedTuple):
    """Pairs of images: attacked and clean, float32 (N, H, W, C); label and attack's number, int64 (N,)."""

    attacked: tf.Tensor
    clean: tf.Tensor
    label: tf.Tensor
    attack: tf.Tensor


class GuidedDenoiser(keras.Model):
    """A denoiser, trained so that the target's response to D(x*) is its response to x (section 3.2).

    Only the denoiser's variables are optimized. The target answers in inference mode, and no more of it is computed
    than is compared: nothing for pixels, nothing for the clean image where the true label is the reference.

    Args:
      denoiser: images to images.
      target: the frozen classifier.
      guidance: what is compared: one of `GUIDANCES`, a sum of them, or one of your own.
      attacks: the attacks' names, by their number in a batch; validation accuracy is measured for each.
      guide: the target that answers in training, such as its bfloat16 copy; None: the target itself.
      frozen_statistics: whether batch normalization uses, and keeps, the denoiser's statistics in training as well.

    Raises:
      TargetError: the target does not give what is compared.
    """

    def __init__(
        self,
        denoiser: keras.Model,
        target: Target,
        guidance: Guidance,
        attacks: Sequence[str],
        guide: Optional[Target] = None,
        frozen_statistics: bool = False,
    ):
        super().__init__(name="guided_denoiser")
        given = ("image", *target.network.output_shape)
        for response in guidance.responses:
            if response not in given:
                raise TargetError(
                    f"guidance needs the {response} of {target.name}, received {', '.join(given)}; "
                    "features are the output of a --feature_layer"
                )
        self.denoiser = denoiser
        self.target = target
        self.guide = guide or target
        self.guidance = guidance
        self.frozen_statistics = frozen_statistics
        self.loss_mean = keras.metrics.Mean("loss")
        self.accuracy = keras.metrics.Mean("accuracy")
        self.accuracy_by_attack = [keras.metrics.Mean(f"accuracy_{name}") for name in attacks]

    def compile(self, optimizer: keras.optimizers.Optimizer, **kwargs):
        """Compiles with the guidance's own loss."""
        super().compile(optimizer, loss=[term.loss() for term in self.guidance.terms], **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_mean, self.accuracy, *self.accuracy_by_attack]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Denoised images."""
        return self.denoiser(images, training=training)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """One optimizer step on a `Batch`."""
        batch = self._resized(Batch(*data))
        reference = self._reference(self.guide, batch)
        with tf.GradientTape() as tape:
            response = self._response(self.guide, self.denoiser(batch.attacked, training=not self.frozen_statistics))
            loss = self.compute_loss(y=reference, y_pred=response)
        self.optimizer.minimize(loss, self.denoiser.trainable_variables, tape=tape)
        self.loss_mean.update_state(self._unscaled(loss), sample_weight=len_of(batch))
        return {"loss": self.loss_mean.result()}

    def test_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Loss on a `Batch`, and accuracy of the target on the denoised images, overall and by attack."""
        count = len_of(Batch(*data))
        batch = self._resized(_never_empty(Batch(*data)))
        denoised = self.denoiser(batch.attacked, training=False)
        reference = self._reference(self.target, batch)
        loss = self.compute_loss(y=reference, y_pred=self._response(self.target, denoised))
        self.loss_mean.update_state(self._unscaled(loss), sample_weight=count)
        right = tf.cast(tf.argmax(self.target(denoised)["logits"], axis=-1) == batch.label, tf.float32)
        weight = tf.minimum(count, 1.0)
        self.accuracy.update_state(right, sample_weight=weight)
        for number, accuracy in enumerate(self.accuracy_by_attack):
            accuracy.update_state(right, sample_weight=weight * tf.cast(batch.attack == number, tf.float32))
        return {metric.name: metric.result() for metric in self.metrics}

    def _resized(self, batch: Batch) -> Batch:
        """At the target's size, where a defense denoises."""
        size = self.target.image_size
        return batch._replace(attacked=resize_to(batch.attacked, size), clean=resize_to(batch.clean, size))

    def _reference(self, target: Target, batch: Batch) -> list[tf.Tensor]:
        """What the terms compare the response with."""
        terms = self.guidance.terms
        given = _responses(target, batch.clean, [term.response for term in terms if not term.uses_labels])
        return [batch.label if term.uses_labels else given[term.response] for term in terms]

    def _response(self, target: Target, images: tf.Tensor) -> list[tf.Tensor]:
        given = _responses(target, images, self.guidance.responses)
        return [given[term.response] for term in self.guidance.terms]

    @staticmethod
    def _unscaled(loss: tf.Tensor) -> tf.Tensor:
        """Keras divides a loss by the number of replicas, since their gradients are added."""
        return loss * tf.distribute.get_strategy().num_replicas_in_sync


def _responses(target: Target, images: tf.Tensor, wanted: Sequence[str]) -> dict[str, tf.Tensor]:
    """The image in [0, 1] and what the target gives, which is not asked where the image alone is wanted."""
    image = {"image": images / PIXEL_MAX}
    return image if set(wanted) <= image.keys() else {**image, **target(images)}


def _never_empty(batch: Batch) -> Batch:
    """The batch, or one blank image where a replica gets none: oneDNN's fused convolutions fail on empty batches."""
    missing = tf.cast(tf.shape(batch.label)[0] == 0, tf.int32)

    def filled(values: tf.Tensor) -> tf.Tensor:
        padded = tf.pad(values, [[0, missing]] + [[0, 0]] * (len(values.shape) - 1))
        return tf.ensure_shape(padded, [None, *values.shape[1:]])

    return Batch(*map(filled, batch))


def len_of(batch: Batch) -> tf.Tensor:
    """Number of images in a batch, float32."""
    return tf.cast(tf.shape(batch.label)[0], tf.float32)
