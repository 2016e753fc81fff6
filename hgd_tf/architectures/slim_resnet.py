"""ResNet v1 and v2 (He et al. 2016, arXiv 1512.03385 and 1603.05027) as TF-Slim has them.

A block's stride is in its last unit. At stride 2 a 3x3 convolution is padded by 1 on every side; Keras' `same` would
pad on one side only.
"""

from __future__ import annotations

from typing import Callable

from hgd_tf.architectures.outputs import IMAGENET_CLASSES, responses, rgb_images
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION, VGG

layers = keras.layers

NATIVE_SIZE = 224
WIDTHS = (64, 128, 256, 512)  # of a block's bottlenecks; its output is four times as wide
UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


def resnet_v1(depth: int, image_size: int = NATIVE_SIZE) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (the last block's output) and logits.

    Args:
      depth: 50, 101 or 152.
    """
    images = rgb_images(image_size)
    x = _relu(_batch_norm(_root(VGG.layer()(images), use_bias=False), "conv1/BatchNorm"), "conv1/Relu")
    x = _blocks(layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x), depth, _unit_v1)
    return responses(images, f"resnet_v1_{depth}", x, _logits(x))


def resnet_v2(depth: int, image_size: int = NATIVE_SIZE) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (after `postnorm`) and logits; arguments as `resnet_v1`."""
    images = rgb_images(image_size)
    x = _root(INCEPTION.layer()(images), use_bias=True)
    x = _blocks(layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x), depth, _unit_v2)
    x = _relu(_batch_norm(x, "postnorm"), "postnorm/Relu")
    return responses(images, f"resnet_v2_{depth}", x, _logits(x))


def _blocks(x, depth: int, unit: Callable):
    for block, (width, units) in enumerate(zip(WIDTHS, UNITS[depth]), start=1):
        for number in range(1, units + 1):
            stride = 2 if number == units and block < len(WIDTHS) else 1
            x = unit(x, f"block{block}/unit_{number}", width, stride)
    return x


def _unit_v1(x, unit: str, width: int, stride: int):
    """Batch normalization after each convolution, ReLU after the addition."""
    scope = f"{unit}/bottleneck_v1"
    if x.shape[-1] == EXPANSION * width:
        shortcut = _subsampled(x, stride, f"{scope}/shortcut")
    else:
        shortcut = _batch_norm(
            _conv(x, EXPANSION * width, 1, stride, f"{scope}/shortcut"), f"{scope}/shortcut/BatchNorm"
        )
    residual = _normalized_conv(x, width, 1, 1, f"{scope}/conv1")
    residual = _normalized_conv(residual, width, 3, stride, f"{scope}/conv2")
    residual = _batch_norm(_conv(residual, EXPANSION * width, 1, 1, f"{scope}/conv3"), f"{scope}/conv3/BatchNorm")
    return _relu(layers.Add(name=f"{scope}/add")([shortcut, residual]), f"{scope}/Relu")


def _unit_v2(x, unit: str, width: int, stride: int):
    """Pre-activation: batch normalization and ReLU before each convolution."""
    scope = f"{unit}/bottleneck_v2"
    preact = _relu(_batch_norm(x, f"{scope}/preact"), f"{scope}/preact/Relu")
    if x.shape[-1] == EXPANSION * width:
        shortcut = _subsampled(x, stride, f"{scope}/shortcut")
    else:
        shortcut = _conv(preact, EXPANSION * width, 1, stride, f"{scope}/shortcut", use_bias=True)
    residual = _normalized_conv(preact, width, 1, 1, f"{scope}/conv1")
    residual = _normalized_conv(residual, width, 3, stride, f"{scope}/conv2")
    residual = _conv(residual, EXPANSION * width, 1, 1, f"{scope}/conv3", use_bias=True)
    return layers.Add(name=f"{scope}/add")([shortcut, residual])


def _root(x, use_bias: bool):
    return _conv(x, 64, 7, 2, "conv1", use_bias)


def _normalized_conv(x, filters: int, kernel: int, stride: int, name: str):
    return _relu(_batch_norm(_conv(x, filters, kernel, stride, name), f"{name}/BatchNorm"), f"{name}/Relu")


def _conv(x, filters: int, kernel: int, stride: int, name: str, use_bias: bool = False):
    padding = "same"
    if stride > 1 and kernel > 1:
        x, padding = layers.ZeroPadding2D(kernel // 2, name=f"{name}/pad")(x), "valid"
    return layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=use_bias, name=name)(x)


def _subsampled(x, stride: int, name: str):
    return x if stride == 1 else layers.MaxPooling2D(1, stride, name=name)(x)


def _batch_norm(x, name: str):
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.997, name=name)(x)


def _relu(x, name: str):
    return layers.ReLU(name=name)(x)


def _logits(x):
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="pool5")(x)
    return layers.Flatten(name="SpatialSqueeze")(layers.Conv2D(IMAGENET_CLASSES, 1, name="logits")(pooled))
