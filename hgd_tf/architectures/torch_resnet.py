"""ResNet-152 (He et al. 2016, arXiv 1512.03385) and ResNeXt-101 32x4d (Xie et al. 2017, arXiv 1611.05431) of PyTorch.

Another graph than TF-Slim's ResNet v1: a block's stride is in the 3x3 convolution of its first unit. Layers bear
torchvision's names.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hgd_tf.architectures.convolution import InputGradientConv2D
from hgd_tf.architectures.outputs import IMAGENET_CLASSES, responses, rgb_images
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import TORCH

layers = keras.layers

NATIVE_SIZE = 224
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


def torch_resnet(
    name: str, units: tuple[int, int, int, int], groups: int, group_width: int, image_size: int = NATIVE_SIZE
) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (the last block's output) and logits.

    Args:
      units: of each of the four blocks.
      groups: of the 3x3 convolutions (ResNeXt's cardinality); 1 is ResNet.
      group_width: channels of a group in the first block.
    """
    images = rgb_images(image_size)
    x = _conv_relu(TORCH.layer()(images), 64, 7, 2, "conv1", "bn1")
    x = layers.ZeroPadding2D(1, name="maxpool.pad")(x)  # with zeros, which never are the maximum after a ReLU
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for block, (width, count) in enumerate(zip(WIDTHS, units), start=1):
        bottleneck = width * group_width // 64 * groups
        for number in range(count):
            stride = 2 if number == 0 and block > 1 else 1
            x = _unit(x, f"layer{block}.{number}", bottleneck, EXPANSION * width, stride, groups)
    pooled = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return responses(images, name, x, layers.Dense(IMAGENET_CLASSES, name="fc")(pooled))


resnet152 = functools.partial(torch_resnet, "resnet152", (3, 8, 36, 3), 1, 64)
resnext101_32x4d = functools.partial(torch_resnet, "resnext101_32x4d", (3, 4, 23, 3), 32, 4)


def _unit(x, scope: str, bottleneck: int, filters: int, stride: int, groups: int):
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _conv(x, filters, 1, stride, f"{scope}.downsample.0", f"{scope}.downsample.1")
    residual = _conv_relu(x, bottleneck, 1, 1, f"{scope}.conv1", f"{scope}.bn1")
    residual = _conv_relu(residual, bottleneck, 3, stride, f"{scope}.conv2", f"{scope}.bn2", groups)
    residual = _conv(residual, filters, 1, 1, f"{scope}.conv3", f"{scope}.bn3")
    return layers.ReLU(name=f"{scope}.relu")(layers.Add(name=f"{scope}.add")([shortcut, residual]))


def _conv_relu(x, filters: int, kernel: int, stride: int, name: str, norm: str, groups: int = 1):
    return layers.ReLU(name=f"{norm}.relu")(_conv(x, filters, kernel, stride, name, norm, groups))


def _conv(x, filters: int, kernel: int, stride: int, name: str, norm: str, groups: int = 1):
    """Convolution without bias, padded by half its kernel on every side, and batch normalization."""
    padding = "same"
    if stride > 1 and kernel > 1:
        x, padding = layers.ZeroPadding2D(kernel // 2, name=f"{name}.pad")(x), "valid"
    layer, options = (InputGradientConv2D, {"groups": groups}) if groups > 1 else (layers.Conv2D, {})
    x = layer(filters, kernel, stride, padding=padding, use_bias=False, name=name, **options)(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=norm)(x)


def definition_order(names: Sequence[str]) -> list[str]:
    """Layer names in PyTorch's order of definition, where a unit's shortcut comes last.

    Args:
      names: in the order of the forward pass, which takes the shortcut beside the residual.
    """
    units = list(dict.fromkeys(_unit_of(name) for name in names))
    return sorted(names, key=lambda name: (units.index(_unit_of(name)), "downsample" in name))


def _unit_of(name: str) -> str:
    """ "layer1.0.conv2" is in unit "layer1.0", "conv1" in "conv1"."""
    return ".".join(name.split(".")[:2])
