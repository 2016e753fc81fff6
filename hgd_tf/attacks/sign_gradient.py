"""The one attack loop: FGSM, iterative FGSM and projected gradient descent are schedules of its steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Callable, Optional

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import compute_gradient, optimize_linear

Model = Callable[[tf.Tensor], "dict[str, tf.Tensor]"]
Steps = tuple[float, ...]

UNTARGETED_LABELS = ("predicted", "true")
TARGETED_LABELS = ("least_likely", "random", "given")
LABELS = UNTARGETED_LABELS + TARGETED_LABELS
PIXEL_MAX = 255.0


def ifgsm_steps(count: int) -> Steps:
    """Steps of IFGSM_k (Kurakin et al. 2017): k of epsilon / k. FGSM (Goodfellow et al. 2015) is k = 1."""
    if count < 1:
        raise ValueError(f"count must be at least 1, received {count}")
    return (1.0 / count,) * count


def projected_gradient_descent_steps(count: int, fraction: float) -> Steps:
    """Steps of projected gradient descent (Madry et al. 2018): `count` of `fraction` * epsilon."""
    return (fraction,) * count


class SignGradientAttack(tf.Module):
    """Moves each pixel along the sign of the loss gradient, inside the epsilon ball and the pixel range.

    The loss is the cross-entropy of the models' mean logits, increased for the label in an untargeted attack and
    decreased in a targeted one. Every step ends in the L-infinity ball around the image and in [0, 255]; the result
    is rounded to integer pixels, which stay in the ball since image and epsilon are integers.

    Args:
      models: attacked together; each maps images (N, H, W, C) in [0, 255] to a dict with `logits` (N, classes).
      label: whose cross-entropy is followed. Untargeted: `predicted` (argmax of the models' summed probabilities on
        the clean image, which avoids label leaking; section 2.1) or `true`. Targeted: `least_likely` by the same
        sum, `random` (any class but the predicted one) or `given`.
      random_start: whether to start from a uniformly random point of the ball.

    Raises:
      ValueError: there is no model, or the label is none of `LABELS`.
    """

    def __init__(self, models: Sequence[Model], label: str = "predicted", random_start: bool = False):
        super().__init__()
        if not models:
            raise ValueError("expected at least one model to attack, received none")
        if label not in LABELS:
            raise ValueError(f"label must be one of {LABELS}, received {label!r}")
        self.models = list(models)
        self.label = label
        self.targeted = label in TARGETED_LABELS
        self.random_start = random_start
        self._model_fn = self._mean_logits  # one object: compute_gradient traces anew for every other one
        self._compiled = functools.lru_cache(maxsize=None)(self._compile)

    def __call__(
        self,
        images: np.ndarray,
        epsilon: np.ndarray,
        steps: Steps = (1.0,),
        labels: Optional[np.ndarray] = None,
        *,
        seed: int = 0,
        first_index: int = 0,
    ) -> tf.Tensor:
        """Attacks a batch.

        Args:
          images: uint8 or integer-valued float32, (N, H, W, C), in [0, 255].
          epsilon: integers (N,) or one for all, the L-infinity radius of each image in pixel units.
          steps: the length of each step, in units of epsilon.
          labels: int (N,), 0-based; needed where `label` is `true` or `given`.
          seed: of the random start and the random label.
          first_index: number of the batch's first image in its set; random draws depend on an image's number and the
            seed alone, not on the batch it is in.

        Returns:
          uint8 tensor of the images' shape.

        Raises:
          ValueError: labels are needed and absent, or epsilon is negative or no integer.
        """
        if labels is None:
            if self.label in ("true", "given"):
                raise ValueError(f"label={self.label!r} needs labels, received none")
            labels = np.zeros(len(images), np.int64)
        epsilon = np.broadcast_to(np.asarray(epsilon), (len(images),))
        if not np.all(np.isfinite(epsilon)) or np.any(epsilon < 0) or np.any(epsilon != np.round(epsilon)):
            raise ValueError(f"epsilon must be integers of at least 0, received {epsilon}")
        attack = self._compiled(tuple(images.shape[1:]))
        numbers = np.stack([np.full(len(images), seed), first_index + np.arange(len(images))], axis=1)
        return attack(
            tf.cast(images, tf.float32),
            tf.constant(epsilon, tf.float32),
            tf.constant(steps, tf.float32),
            tf.cast(labels, tf.int64),
            tf.constant(numbers, tf.int64),
        )

    def _compile(self, image_shape: tuple[int, int, int]):
        signature = [
            tf.TensorSpec((None, *image_shape), tf.float32),
            tf.TensorSpec((None,), tf.float32),
            tf.TensorSpec((None,), tf.float32),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None, 2), tf.int64),
        ]
        return tf.function(self._attack, input_signature=signature)

    def _attack(self, images, epsilon, steps, labels, seeds):
        radius = epsilon[:, tf.newaxis, tf.newaxis, tf.newaxis]
        lowest = tf.maximum(images - radius, 0.0)
        highest = tf.minimum(images + radius, PIXEL_MAX)
        followed = self._followed_labels(images, labels, seeds)
        attacked = images
        if self.random_start:
            attacked = tf.clip_by_value(images + radius * _uniform(seeds, images.shape[1:]), lowest, highest)
        for step in steps:
            gradient = compute_gradient(self._model_fn, _cross_entropy, attacked, followed, self.targeted)
            attacked = tf.clip_by_value(attacked + optimize_linear(gradient, step * radius), lowest, highest)
        return tf.cast(tf.round(attacked), tf.uint8)

    def _mean_logits(self, images: tf.Tensor) -> tf.Tensor:
        return tf.add_n([model(images)["logits"] for model in self.models]) / len(self.models)

    def _followed_labels(self, images, labels, seeds):
        if self.label in ("true", "given"):
            return labels
        probabilities = tf.add_n([tf.nn.softmax(model(images)["logits"]) for model in self.models])
        if self.label == "least_likely":
            return tf.argmin(probabilities, axis=-1)
        predicted = tf.argmax(probabilities, axis=-1)
        if self.label == "predicted":
            return predicted
        classes = tf.shape(probabilities, tf.int64)[-1]
        shift = tf.map_fn(lambda seed: tf.random.stateless_uniform((), seed, 1, classes, tf.int64), seeds)
        return (predicted + shift) % classes


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def _uniform(seeds: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Uniform values in [-1, 1) for each image from its own seed, (N, *shape)."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform(shape, seed, -1.0, 1.0),
        seeds,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
