"""What attacks on floats take and give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

from hgd_tf.foundation.pixel_range import PIXEL_MAX


class Attacked(NamedTuple):
    """N attacked images and what they took.

    Attributes:
      images: float32 (N, H, W, C) in [0, 255] and in the ball: misclassified where such were found, else of the
        highest loss seen.
      fooled: bool (N,), whether the image is misclassified.
      gradients: int (N,), gradient evaluations spent.
      queries: int (N,), forward evaluations spent, those of the gradients and that of the clean image among them.
      losses: float (steps + 1,), the mean loss along the iterates of the first run on the images that are classified
        correctly; NaN where there are none.
    """

    images: np.ndarray
    fooled: np.ndarray
    gradients: np.ndarray
    queries: np.ndarray
    losses: np.ndarray


class Problem(NamedTuple):
    """Arguments, one an image."""

    images: np.ndarray
    labels: np.ndarray
    epsilon: np.ndarray
    numbers: np.ndarray


def checked(images, labels, epsilon, numbers: Optional[np.ndarray], rounding: bool) -> Problem:
    """An attack's arguments as float32, int64, float32 and int64.

    Raises:
      ValueError: they do not fit together, epsilon is negative, or rounding is asked of images between integers.
    """
    images = np.asarray(images, np.float32)
    labels = np.asarray(labels)
    if images.ndim != 4:
        raise ValueError(f"images must be (N, H, W, C), received an array of shape {images.shape}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {len(images)} integers, received {labels.dtype} of shape {labels.shape}")
    if not (np.min(images, initial=0) >= 0 and np.max(images, initial=0) <= PIXEL_MAX):
        raise ValueError(f"images must be in [0, 255], received {np.min(images):.4g} to {np.max(images):.4g}")
    if rounding and np.any(images != np.round(images)):
        raise ValueError("rounding=True needs images of integer pixels, received others")
    if np.ndim(epsilon) and np.shape(epsilon) != labels.shape:
        raise ValueError(f"epsilon must be one number or {len(images)}, received shape {np.shape(epsilon)}")
    epsilon = np.broadcast_to(np.asarray(epsilon, np.float32), labels.shape)
    if not np.all(np.isfinite(epsilon)) or np.any(epsilon < 0):
        raise ValueError(f"epsilon must be at least 0, received {epsilon}")
    numbers = np.arange(len(images)) if numbers is None else np.asarray(numbers)
    return Problem(images, labels.astype(np.int64), epsilon, numbers.astype(np.int64))


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raises:
    ValueError: a label is none of the model's classes.
    """
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels must be in [0, {classes}), received {labels.min()} to {labels.max()}")


def nothing_attacked(images: np.ndarray, steps: int) -> Attacked:
    """Of no images, (0, H, W, C)."""
    counts = np.zeros(0, np.int64)
    return Attacked(images, np.zeros(0, bool), counts, counts, np.full(steps + 1, np.nan))


def in_batches(numbers: np.ndarray, batch_size: Optional[int]) -> Iterator[np.ndarray]:
    """The numbers, so many at a time; None: all at once."""
    size = batch_size or max(len(numbers), 1)
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]
