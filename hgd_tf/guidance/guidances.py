"""Which of the target's responses is compared, and how (sections 3.1 and 3.2)."""

from __future__ import annotations

import dataclasses
from typing import Callable, NamedTuple

import tensorflow as tf

from hgd_tf.errors import HgdError
from hgd_tf.foundation.stack import keras


class Term(NamedTuple):
    """One comparison, whose loss guides.

    Attributes:
      response: what is compared: `image`, or one of a target's responses, such as `features` or `logits`.
      loss: makes the Keras loss, (reference, response) -> scalar.
      uses_labels: the reference is the true class, not the response to the clean image.
    """

    response: str
    loss: Callable[[], keras.losses.Loss] = keras.losses.MeanAbsoluteError
    uses_labels: bool = False


@dataclasses.dataclass(frozen=True)
class Guidance:
    """One way to guide a denoiser; `+` makes one of several, whose losses are added.

    Attributes:
      terms: what is compared, and how; the loss is their sum.
    """

    terms: tuple[Term, ...]

    def __post_init__(self):
        if not self.terms:
            raise ValueError("a guidance needs at least one term, received none")

    def __add__(self, other: Guidance) -> Guidance:
        return Guidance(self.terms + other.terms)

    @property
    def responses(self) -> tuple[str, ...]:
        """What is compared, each once."""
        return tuple(dict.fromkeys(term.response for term in self.terms))

    @property
    def uses_labels(self) -> bool:
        """Whether it needs the true classes."""
        return any(term.uses_labels for term in self.terms)


class DistillationLoss(keras.losses.Loss):
    """How far the class probabilities of the logits are from the reference's: their Kullback-Leibler divergence.

    Reference and response are logits, float32 (N, classes). Knowledge distillation at temperature 1
    (Hinton et al. 2015).
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        probabilities = tf.nn.softmax(y_true)
        entropy = tf.nn.softmax_cross_entropy_with_logits(probabilities, y_true)
        return tf.nn.softmax_cross_entropy_with_logits(probabilities, y_pred) - entropy


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The paper writes L1 norms; like the authors' program, these are means over the batch and all elements.
GUIDANCES: dict[str, Guidance] = {
    "pixel": Guidance((Term("image"),)),  # the paper's PGD
    "feature": Guidance((Term("features"),)),  # FGD
    "logits": Guidance((Term("logits"),)),  # LGD
    "distillation": Guidance((Term("logits", DistillationLoss),)),
    "label": Guidance((Term("logits", _cross_entropy, uses_labels=True),)),  # CGD
}
# The distance of the logits still pulls where the classes agree. Shipped defences have the sum under this name.
GUIDANCES["logits_distillation"] = GUIDANCES["logits"] + GUIDANCES["distillation"]

PLUS = "+"
OLD_NAMES = {"feature_logits": "feature+logits"}
"""Spellings of earlier versions and today's; the next version forgets them."""


def parse_guidance(text: str) -> Guidance:
    """The guidance of a name of `GUIDANCES`, or the sum of several: `feature+logits`.

    Raises:
      HgdError: a name is unknown.
    """
    names = OLD_NAMES.get(text, text).split(PLUS)
    unknown = [name for name in names if name not in GUIDANCES]
    if unknown:
        raise HgdError(
            f"expected a guidance of {', '.join(GUIDANCES)}, or a sum such as feature+logits; received {text!r}"
        )
    first, *others = (GUIDANCES[name] for name in names)
    return sum(others, first)
