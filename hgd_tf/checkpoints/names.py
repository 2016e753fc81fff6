"""What other programs call a layer's variables, and how they lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.foundation.stack import keras


class Names(NamedTuple):
    """The naming of a file.

    Attributes:
      separator: between a layer's name and its variable's.
      variables: Keras' name of a variable to the file's; what is not in it is called the same.
      torch_layout: whether kernels are laid out (out, in, height, width) and (out, in).
    """

    separator: str
    variables: dict[str, str]
    torch_layout: bool = False


KERAS = Names("/", {})
SLIM = Names("/", {"kernel": "weights", "bias": "biases"})
TORCH = Names(
    ".",
    {
        "kernel": "weight",
        "depthwise_kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    torch_layout=True,
)


class Slot(NamedTuple):
    """A variable of a network and where a file keeps it.

    Attributes:
      kind: Keras' name of it, such as `kernel`.
      name: in the file, without a prefix.
      shape: in the file.
      keras_shape: in the network.
      variable: None where it is a scale that the network's batch normalization does without.
    """

    layer: keras.layers.Layer
    kind: str
    name: str
    shape: tuple[int, ...]
    keras_shape: tuple[int, ...]
    variable: Optional[tf.Variable]


def slots(
    network: keras.Model,
    names: Names,
    layer_name: Callable[[str], str] = lambda name: name,
    layer_order: Callable[[Sequence[str]], list[str]] = list,
    with_scale: bool = False,
) -> list[Slot]:
    """Every variable of `network`, with the name and shape that it has in a file of that naming.

    Args:
      layer_name: a layer's name to the file's.
      layer_order: layer names in the order of the forward pass to the order of the slots.
      with_scale: whether batch normalizations without a scale have a slot for one.
    """
    found = []
    for own_name in layer_order([layer.name for layer in network.layers]):
        layer = network.get_layer(own_name)
        variables = {variable.name.rsplit("/", 1)[-1].partition(":")[0]: variable for variable in layer.weights}
        if with_scale and isinstance(layer, keras.layers.BatchNormalization) and not layer.scale:
            variables = {"gamma": None, **variables}
        for kind, variable in variables.items():
            shape = tuple((layer.moving_mean if variable is None else variable).shape)
            name = names.separator.join((layer_name(own_name), names.variables.get(kind, kind)))
            file_shape = tuple(shape[axis] for axis in _file_axes(kind, len(shape), names))
            found.append(Slot(layer, kind, name, file_shape, shape, variable))
    return found


def to_keras_layout(array: np.ndarray, kind: str, names: Names) -> np.ndarray:
    """The array of a file in Keras' layout, float32."""
    return np.transpose(array, np.argsort(_file_axes(kind, np.ndim(array), names))).astype(np.float32)


def _file_axes(kind: str, rank: int, names: Names) -> tuple[int, ...]:
    """Which of Keras' axes each of the file's axes is."""
    if not names.torch_layout or rank < 2:
        return tuple(range(rank))
    if rank == 2:
        return (1, 0)
    # Keras: (height, width, in, out); depthwise (height, width, channels, 1), PyTorch (channels, 1, height, width).
    return (2, 3, 0, 1) if kind == "depthwise_kernel" else (3, 2, 0, 1)
