"""Whether a classifier gives an image the same answer every time."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.answers import precision_of
from hgd_tf.targets.graph import exposing, places, producer


def check_steady(network: keras.Model, images: np.ndarray, model: keras.Model, inputs: Any, name: str) -> None:
    """Refuses a network whose responses change from call to call, or with the other images of a batch.

    What is drawn anew changes leading digits, rounding changes the last ones: between them lies half of the digits
    that the model's number format has.

    Args:
      network: from images to responses.
      images: some, an even number.
      model: the user's, in it.
      inputs: the same images as the model expects them.

    Raises:
      TargetError: they change; the layer where that begins is named.
    """
    tolerance = math.sqrt(precision_of(model).spacing)
    whole, half = (network(some, training=False) for some in (images, images[::-2]))
    if all(same(whole[key][::-2], half[key], tolerance) for key in whole):
        return
    raise unsteady_error(name, _first_unsteady(model, inputs, tolerance))


def unsteady_error(name: str, layer: Optional[str]) -> TargetError:
    """Of a model whose answers change, beginning at that layer, or at none alone."""
    if not layer:
        return TargetError(f"{name} answers an image differently beside other images of a batch")
    return TargetError(
        f"{name} answers differently twice on the same images, beginning at its layer {layer}: expected one that "
        "draws nothing at inference; a layer that was called with training=True does"
    )


def same_answers(one: keras.Model, other: keras.Model, images: np.ndarray) -> bool:
    """Whether two networks respond alike, up to the rounding of their number format."""
    tolerance = math.sqrt(precision_of(one).spacing)
    ones, others = one(images, training=False), other(images, training=False)
    return ones.keys() == others.keys() and all(same(ones[key], others[key], tolerance) for key in ones)


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether values are the same up to that part of the largest."""
    one, other = (tf.cast(values, tf.float32).numpy() for values in (one, other))
    return bool(np.all(np.abs(one - other) <= tolerance * np.abs(one).max()))


def _first_unsteady(model: keras.Model, inputs: Any, tolerance: float) -> Optional[str]:
    known = list(places(model))
    every = exposing(model, [place for _, place in known])
    for (name, place), one, other in zip(known, *(tf.nest.flatten(every(inputs, training=False)) for _ in range(2))):
        if not same(one, other, tolerance):
            _, node = producer(model, place) or (None, None)
            return f"{name!r} ({type(node.layer).__name__})" if node else repr(name)
    return None
