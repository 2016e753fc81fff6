"""Whether a copy of a defense answers as its source does: up to rounding, and no further."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from hgd_tf.defenses.ensemble import Classifier
from hgd_tf.errors import TargetError

EPSILON = float(np.finfo(np.float32).eps)
SAFETY = 4.0
STRENGTH = 16  # of the noise that stands for an attack, in pixel units

Classify = Callable[[tf.Tensor], Any]  # images uint8 (N, H, W, C) to a dict with float32 logits


class Comparison(NamedTuple):
    """How far two defenses' logits are apart.

    Attributes:
      largest_logit: of the source, without its sign.
      largest_difference: between the two.
      allowed_difference: what rounding explains.
    """

    images: int
    largest_logit: float
    largest_difference: float
    allowed_difference: float


def compare(classify: Classify, source: Classifier, name: str) -> Comparison:
    """Compares on a few images, of two sizes: smooth, noisy, and with the noise of an attack.

    Two orders of the same float32 sums differ like a random walk of as many steps as there are terms, one after the
    other, on the way to a logit. A step is as long as the format's epsilon makes it: that part of the largest logit,
    or what the logits change where every pixel is changed by that part of itself, if a network enlarges it.

    Args:
      classify: what is to answer as the source.
      source: computes in float32.

    Raises:
      TargetError: the difference is larger.
    """
    # Float32 to its last bit on GPUs too, whose products have ten bits otherwise.
    tensor_float32 = tf.config.experimental.tensor_float_32_execution_enabled()
    with temporarily(tf.config.experimental.enable_tensor_float_32_execution, False, tensor_float32):
        batches = probes(max(source.sizes), source.channels)
        answers = [np.asarray(classify(batch)["logits"]) for batch in batches]
        expected = [source(batch)["logits"].numpy() for batch in batches]
        nudged = [source(_nudged(batch))["logits"].numpy() for batch in batches]
    largest = max(np.abs(logits).max() for logits in expected)
    step = max(EPSILON * largest, _difference(nudged, expected))
    allowed = SAFETY * np.sqrt(_terms(source)) * step
    difference = _difference(answers, expected)
    if not difference <= allowed:  # nor NaN
        raise TargetError(
            f"{name}: expected logits equal to the source's but for rounding, at most {allowed:.2g} apart, received "
            f"some {difference:.2g} apart: a layer of it does not answer the same when it is made anew"
        )
    return Comparison(sum(map(len, batches)), *map(float, (largest, difference, allowed)))


def probes(size: int, channels: int) -> list[tf.Tensor]:
    """The images, uint8 (N, H, W, channels): three of the given size and one of another."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (1, 5, 5, channels))
    smooth = tf.image.resize(coarse, (size, size), "bicubic")
    noise = generator.uniform(0, 255, smooth.shape)
    attacked = smooth + STRENGTH * np.sign(noise - 127)
    other = tf.image.resize(coarse, (size * 3 // 4, size * 5 // 4), "bicubic")
    return [
        tf.cast(tf.clip_by_value(batch, 0, 255), tf.uint8)
        for batch in (np.concatenate([smooth, noise, attacked]), other)
    ]


def _nudged(images: tf.Tensor) -> tf.Tensor:
    parts = np.random.default_rng(1).choice([0.0, EPSILON], images.shape)
    return tf.cast(images, tf.float32) * (1.0 - parts).astype(np.float32)


def _difference(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    return float(np.max([np.abs(one - other).max() for one, other in zip(some, others)]))


def _terms(source: Classifier) -> int:
    """Of all sums of products on the way, one after the other."""
    return sum(int(np.prod(variable.shape[:-1])) for variable in source.variables if len(variable.shape) > 1)


@contextlib.contextmanager
def temporarily(choose: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    """Calls `choose` with a value, and in the end with the one before."""
    choose(value)
    try:
        yield
    finally:
        choose(before)
