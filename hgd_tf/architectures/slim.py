"""What TF-Slim's Inception networks share. Layers bear the scopes of the published checkpoints as names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Union

import tensorflow as tf

from hgd_tf.architectures.outputs import IMAGENET_CLASSES
from hgd_tf.foundation.stack import keras

layers = keras.layers

NATIVE_SIZE = 299
REDUCE = {"strides": 2, "padding": "valid"}


def conv(
    x: tf.Tensor,
    name: str,
    filters: int,
    kernel: Union[int, tuple[int, int], None] = None,
    *,
    strides: int = 1,
    padding: str = "same",
) -> tf.Tensor:
    """Convolution without bias, batch normalization without scale (epsilon 1e-3), ReLU.

    Args:
      x: maps (N, h, w, C).
      name: its scope in the checkpoint.
      kernel: None: as the name's ending says ("1x7" is 1 high and 7 wide).
    """
    if kernel is None:
        height, width = name.rsplit("_", 1)[-1].split("x")
        kernel = (int(height), int(width))
    x = layers.Conv2D(filters, kernel, strides, padding=padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.9997, scale=False, name=f"{name}/BatchNorm")(x)
    return layers.ReLU(name=f"{name}/Relu")(x)


def branch(x: tf.Tensor, scope: str, *convolutions: tuple) -> tf.Tensor:
    """Convolutions in a row, each (name, filters), (name, filters, kernel) or with a dict of options at the end."""
    for name, filters, *rest in convolutions:
        options = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        x = conv(x, f"{scope}/{name}", filters, *rest, **options)
    return x


def fan(x: tf.Tensor, scope: str, filters: int, *names: str) -> list[tf.Tensor]:
    """Convolutions side by side on the same maps."""
    return [branch(x, scope, (name, filters)) for name in names]


def max_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """3x3 at stride 2, unpadded."""
    return layers.MaxPooling2D(3, 2, name=name)(x)


def pool_branch(x: tf.Tensor, scope: str, filters: int) -> tf.Tensor:
    """3x3 average at stride 1, whose padding does not count, then a 1x1 convolution."""
    x = layers.AveragePooling2D(3, 1, padding="same", name=f"{scope}/AvgPool_0a_3x3")(x)
    return branch(x, scope, ("Conv2d_0b_1x1", filters))


def concat(name: str, *branches: tf.Tensor) -> tf.Tensor:
    """The branches' channels in a row."""
    return layers.Concatenate(name=name)(list(branches))


def branches(x: tf.Tensor, scope: str, *rows: tuple) -> list[tf.Tensor]:
    """`branch` of each row of convolutions on the same maps: SCOPE/Branch_0, SCOPE/Branch_1, …."""
    return [branch(x, f"{scope}/Branch_{number}", *row) for number, row in enumerate(rows)]


def mixed(x: tf.Tensor, scope: str, pool_filters: int, *rows: tuple) -> tf.Tensor:
    """`branches` and a pooling one, as a block of unchanged height and width."""
    pooled = f"{scope}/Branch_{len(rows)}"
    return concat(scope, *branches(x, scope, *rows), pool_branch(x, pooled, pool_filters))


def reduction(x: tf.Tensor, scope: str, *rows: tuple) -> tf.Tensor:
    """`branches` that end at stride 2 beside a maximum, as a block of half the height and width."""
    pooled = f"{scope}/Branch_{len(rows)}/MaxPool_1a_3x3"
    return concat(scope, *branches(x, scope, *rows), max_pool(x, pooled))


def dense_logits(x: tf.Tensor, scope: str) -> tf.Tensor:
    """Logits from vectors (N, C) by a fully connected layer."""
    return layers.Dense(IMAGENET_CLASSES, name=scope)(x)


def conv_logits(x: tf.Tensor, scope: str) -> tf.Tensor:
    """Logits from maps (N, 1, 1, C) by a 1x1 convolution."""
    x = layers.Conv2D(IMAGENET_CLASSES, 1, name=scope)(x)
    return layers.Flatten(name=f"{scope}/SpatialSqueeze")(x)


def definition_order(names: Sequence[str]) -> list[str]:
    """Layer names in the order in which PyTorch conversions define them: block by block, in each branch by branch.

    Args:
      names: in the order of the forward pass, which takes a block's branches side by side.
    """
    blocks = list(dict.fromkeys(name.split("/")[0] for name in names))
    return sorted(names, key=lambda name: (blocks.index(name.split("/")[0]), _natural(name)))


def _natural(name: str) -> list[Union[str, int]]:
    """Sorts "block35_10" behind "block35_9"."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", name))]
