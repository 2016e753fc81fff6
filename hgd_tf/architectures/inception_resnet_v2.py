"""Inception-ResNet v2 (Szegedy et al. 2017, arXiv 1602.07261) as TF-Slim has it."""

from __future__ import annotations

from hgd_tf.architectures import slim
from hgd_tf.architectures.outputs import responses, rgb_images
from hgd_tf.architectures.residual import ScaledAdd
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION

layers = keras.layers

BLOCK35 = (
    (("Conv2d_1x1", 32),),
    (("Conv2d_0a_1x1", 32), ("Conv2d_0b_3x3", 32)),
    (("Conv2d_0a_1x1", 32), ("Conv2d_0b_3x3", 48), ("Conv2d_0c_3x3", 64)),
)
BLOCK17 = ((("Conv2d_1x1", 192),), (("Conv2d_0a_1x1", 128), ("Conv2d_0b_1x7", 160), ("Conv2d_0c_7x1", 192)))
BLOCK8 = ((("Conv2d_1x1", 192),), (("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x3", 224), ("Conv2d_0c_3x1", 256)))


def inception_resnet_v2(image_size: int = slim.NATIVE_SIZE) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (Conv2d_7b_1x1), logits and, at 299, aux_logits."""
    images = rgb_images(image_size)
    x = _stem(INCEPTION.layer()(images))
    for number in range(1, 11):
        x = _block(x, f"Repeat/block35_{number}", BLOCK35, scale=0.17)
    x = _mixed_6a(x)
    for number in range(1, 21):
        x = _block(x, f"Repeat_1/block17_{number}", BLOCK17, scale=0.10)
    aux_logits = _aux_logits(x) if image_size == slim.NATIVE_SIZE else None
    x = _mixed_7a(x)
    for number in range(1, 10):
        x = _block(x, f"Repeat_2/block8_{number}", BLOCK8, scale=0.20)
    x = _block(x, "Block8", BLOCK8, scale=1.0, relu=False)
    features = slim.conv(x, "Conv2d_7b_1x1", 1536)
    pooled = layers.GlobalAveragePooling2D(name="Logits/AvgPool_1a_8x8")(features)
    return responses(images, "inception_resnet_v2", features, slim.dense_logits(pooled, "Logits/Logits"), aux_logits)


def _stem(x):
    x = slim.conv(x, "Conv2d_1a_3x3", 32, strides=2, padding="valid")
    x = slim.conv(x, "Conv2d_2a_3x3", 32, padding="valid")
    x = slim.max_pool(slim.conv(x, "Conv2d_2b_3x3", 64), "MaxPool_3a_3x3")
    x = slim.conv(x, "Conv2d_3b_1x1", 80, padding="valid")
    x = slim.max_pool(slim.conv(x, "Conv2d_4a_3x3", 192, padding="valid"), "MaxPool_5a_3x3")
    five = (("Conv2d_0a_1x1", 48), ("Conv2d_0b_5x5", 64))
    triple = (("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96))
    return slim.mixed(x, "Mixed_5b", 64, (("Conv2d_1x1", 96),), five, triple)


def _block(x, scope: str, rows: tuple, scale: float, relu: bool = True):
    """The input plus `scale` times what the branches and a linear 1x1 convolution make of it."""
    joined = slim.concat(f"{scope}/concat", *slim.branches(x, scope, *rows))
    residual = layers.Conv2D(x.shape[-1], 1, name=f"{scope}/Conv2d_1x1")(joined)
    x = ScaledAdd(scale=scale, name=f"{scope}/add")([x, residual])
    return layers.ReLU(name=f"{scope}/Relu")(x) if relu else x


def _mixed_6a(x):
    double = (("Conv2d_0a_1x1", 256), ("Conv2d_0b_3x3", 256), ("Conv2d_1a_3x3", 384, slim.REDUCE))
    return slim.reduction(x, "Mixed_6a", (("Conv2d_1a_3x3", 384, slim.REDUCE),), double)


def _mixed_7a(x):
    single = (("Conv2d_0a_1x1", 256), ("Conv2d_1a_3x3", 384, slim.REDUCE))
    other = (("Conv2d_0a_1x1", 256), ("Conv2d_1a_3x3", 288, slim.REDUCE))
    double = (("Conv2d_0a_1x1", 256), ("Conv2d_0b_3x3", 288), ("Conv2d_1a_3x3", 320, slim.REDUCE))
    return slim.reduction(x, "Mixed_7a", single, other, double)


def _aux_logits(x):
    x = layers.AveragePooling2D(5, 3, name="AuxLogits/Conv2d_1a_3x3")(x)
    x = slim.branch(x, "AuxLogits", ("Conv2d_1b_1x1", 128), ("Conv2d_2a_5x5", 768, {"padding": "valid"}))
    return slim.dense_logits(layers.Flatten(name="AuxLogits/Flatten")(x), "AuxLogits/Logits")
