"""Which of the target's responses is compared, and how (sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from hgd_tf.stack import keras


class Guidance(NamedTuple):
    """One way to guide a denoiser.

    Attributes:
      paper_name: what the paper calls it; empty where the paper has none.
      responses: some of `image`, `features` and `logits`: what is compared; the losses are added.
      loss: Keras loss of each, (reference, response) -> scalar.
      uses_labels: the reference is the true class, not the response to the clean image.
    """

    paper_name: str
    responses: tuple[str, ...]
    loss: Callable[[], keras.losses.Loss]
    uses_labels: bool = False


class DistillationLoss(keras.losses.Loss):
    """How far the class probabilities of the logits are from the reference's: their Kullback-Leibler divergence.

    Reference and response are logits, float32 (N, classes). Knowledge distillation at temperature 1
    (Hinton et al. 2015).
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        probabilities = tf.nn.softmax(y_true)
        entropy = tf.nn.softmax_cross_entropy_with_logits(probabilities, y_true)
        return tf.nn.softmax_cross_entropy_with_logits(probabilities, y_pred) - entropy


class LogitsDistillationLoss(DistillationLoss):
    """The same and the mean absolute difference of the logits, which still pulls where the classes agree."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return super().call(y_true, y_pred) + keras.losses.mean_absolute_error(y_true, y_pred)


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The paper writes L1 norms; like the authors' program, these are means over the batch and all elements.
GUIDANCES: dict[str, Guidance] = {
    "pixel": Guidance("PGD", ("image",), keras.losses.MeanAbsoluteError),
    "feature": Guidance("FGD", ("features",), keras.losses.MeanAbsoluteError),
    "logits": Guidance("LGD", ("logits",), keras.losses.MeanAbsoluteError),
    "feature_logits": Guidance("FGD + LGD", ("features", "logits"), keras.losses.MeanAbsoluteError),
    "distillation": Guidance("", ("logits",), DistillationLoss),
    "logits_distillation": Guidance("", ("logits",), LogitsDistillationLoss),
    "label": Guidance("CGD", ("logits",), _cross_entropy, uses_labels=True),
}
