"""A warning of images whose pixels are not in [0, 255]: everything here takes pixels, and scales them itself.

A classifier that is given pixels in 0..1 sees almost black images; it answers, and is wrong.
"""

from __future__ import annotations

import contextvars
import functools
import warnings
import weakref
from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

PIXEL_MAX = 255.0
OVERSHOOT = 0.25  # of the images' own range, by which a denoiser or noise may leave [0, 255]

_inside = contextvars.ContextVar("inside", default=False)
_warned: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


class PixelRangeWarning(UserWarning):
    """Pixels that are not finite, or whose range is another than [0, 255]."""


def checks_pixels(entry: Optional[Callable] = None, *, overshoot: float = 0.0) -> Callable:
    """Decorates a method whose first argument is images: its object warns once of each kind of range.

    Nothing is looked at in a graph, nor in calls within another checked one, whose images are not the caller's.

    Args:
      overshoot: how far beyond [0, 255] is no matter for a warning, as part of the images' own range.
    """
    if entry is None:
        return functools.partial(checks_pixels, overshoot=overshoot)

    @functools.wraps(entry)
    def checked(self, images, *args, **kwargs):
        if not tf.executing_eagerly() or _inside.get():
            return entry(self, images, *args, **kwargs)
        warn_of_range(images, self, overshoot)
        token = _inside.set(True)
        try:
            return entry(self, images, *args, **kwargs)
        finally:
            _inside.reset(token)

    return checked


def warn_of_range(images: Any, owner: Any, overshoot: float = 0.0) -> None:
    """Warns a function's caller where the values of an array or eager tensor cannot be pixels in [0, 255].

    Images may be black: of values in [0, 1] it is the brightest that gives them away.

    Args:
      images: of any shape and number type; whatever holds no values, such as a symbolic tensor, passes.
      owner: who is given them; of each kind of range it warns once.
      overshoot: as in `checks_pixels`.
    """
    kind, received = _fault(images, overshoot)
    if kind and kind not in _warned.setdefault(owner, set()):
        _warned[owner].add(kind)
        message = f"expected images with pixels in [0, {PIXEL_MAX:.0f}], received {received}"
        warnings.warn(message, PixelRangeWarning, stacklevel=3)


def _fault(images: Any, overshoot: float) -> tuple[str, str]:
    """What is wrong with the values, and in words; two empty strings where nothing is."""
    if not _holds_values(images):
        return "", ""
    low, high = _extremes(images)
    if not np.isfinite([low, high]).all():
        return "infinite", "values that are not finite (NaN or infinite)"
    received = f"values from {low:.4g} to {high:.4g}"
    if 0 < high <= 1:
        return "scaled", received
    margin = overshoot * (high - low)
    return ("outside", received) if low < -margin or high > PIXEL_MAX + margin else ("", "")


def _holds_values(images: Any) -> bool:
    has_values = isinstance(images, (np.ndarray, list, tuple)) or hasattr(images, "numpy")
    return has_values and 0 not in np.shape(images)


def _extremes(images: Any) -> tuple[float, float]:
    """The least and the greatest value; NaN where one of them is."""
    if not hasattr(images, "numpy"):
        return float(np.min(images)), float(np.max(images))
    if images.dtype == tf.bool:
        return 0.0, float(tf.reduce_any(images))
    if images.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(images)):  # a GPU's extremes may pass over NaN
        return np.nan, np.nan
    return float(tf.reduce_min(images)), float(tf.reduce_max(images))
