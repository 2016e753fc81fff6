"""What an attack increases, by name: each image's loss from its logits; targeted ones grow towards a given class.

- `cross_entropy`: of the true class; `targeted_cross_entropy`: minus that of the target class.
- `margin`: the largest other logit less the true class's (Carlini & Wagner 2017, arXiv 1608.04644, f6), positive where
  the class is missed; `targeted_margin`: the target's logit less the largest other one.
- `dlr`: the difference of logits ratio, the margin over the distance of the first logit to the third (Croce & Hein
  2020, arXiv 2003.01690, equation 6), which rescaled logits do not change; `targeted_dlr`: its equation 7.
"""

from __future__ import annotations

from typing import Callable, Optional

import tensorflow as tf

Loss = Callable[..., tf.Tensor]

TARGETED = "targeted_"
LEAST_CLASSES = {"dlr": 3, "targeted_dlr": 4}
TINY = 1e-12  # keeps equal logits from a division by zero


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, targets: Optional[tf.Tensor] = None) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def targeted_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return -cross_entropy(logits, targets)


def margin(logits: tf.Tensor, labels: tf.Tensor, targets: Optional[tf.Tensor] = None) -> tf.Tensor:
    return _largest_other(logits, labels) - _of_class(logits, labels)


def targeted_margin(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return -margin(logits, targets)


def dlr(logits: tf.Tensor, labels: tf.Tensor, targets: Optional[tf.Tensor] = None) -> tf.Tensor:
    check_classes("dlr", logits.shape[-1])
    first, _, third = tf.unstack(tf.math.top_k(logits, 3).values, axis=-1)
    return margin(logits, labels) / (first - third + TINY)


def targeted_dlr(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    check_classes("targeted_dlr", logits.shape[-1])
    first, _, third, fourth = tf.unstack(tf.math.top_k(logits, 4).values, axis=-1)
    return (_of_class(logits, targets) - _of_class(logits, labels)) / (first - (third + fourth) / 2 + TINY)


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (cross_entropy, margin, dlr, targeted_cross_entropy, targeted_margin, targeted_dlr)
}


def check_classes(name: str, classes: Optional[int]) -> None:
    """That a loss can be told of logits of so many classes; None: not known yet.

    Raises:
      ValueError: there are too few.
    """
    least = LEAST_CLASSES.get(name, 2)
    if classes is not None and classes < least:
        raise ValueError(f"loss {name!r} needs at least {least} classes, received logits of {classes}")


def _of_class(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, labels, axis=1, batch_dims=1)


def _largest_other(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    of_label = tf.one_hot(labels, tf.shape(logits)[-1], on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_max(tf.where(of_label, logits.dtype.min, logits), axis=-1)
