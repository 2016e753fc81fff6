"""Inception v4 (Szegedy et al. 2017, arXiv 1602.07261) as TF-Slim has it."""

from __future__ import annotations

from hgd_tf.architectures import slim
from hgd_tf.architectures.outputs import responses, rgb_images
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION

layers = keras.layers

VALID = {"padding": "valid"}


def inception_v4(image_size: int = slim.NATIVE_SIZE) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (Mixed_7d), logits and, at 299, aux_logits."""
    images = rgb_images(image_size)
    x = _stem(INCEPTION.layer()(images))
    for letter in "bcde":
        x = _inception_a(x, f"Mixed_5{letter}")
    x = _reduction_a(x)
    for letter in "bcdefgh":
        x = _inception_b(x, f"Mixed_6{letter}")
    aux_logits = _aux_logits(x) if image_size == slim.NATIVE_SIZE else None
    x = _reduction_b(x)
    for letter in "bcd":
        x = _inception_c(x, f"Mixed_7{letter}")
    logits = slim.dense_logits(layers.GlobalAveragePooling2D(name="Logits/AvgPool_1a")(x), "Logits/Logits")
    return responses(images, "inception_v4", x, logits, aux_logits)


def _stem(x):
    x = slim.conv(x, "Conv2d_1a_3x3", 32, strides=2, padding="valid")
    x = slim.conv(x, "Conv2d_2a_3x3", 32, padding="valid")
    x = slim.conv(x, "Conv2d_2b_3x3", 64)
    pooled = slim.max_pool(x, "Mixed_3a/Branch_0/MaxPool_0a_3x3")
    x = slim.concat("Mixed_3a", pooled, slim.branch(x, "Mixed_3a/Branch_1", ("Conv2d_0a_3x3", 96, slim.REDUCE)))
    seven = (("Conv2d_0a_1x1", 64), ("Conv2d_0b_1x7", 64), ("Conv2d_0c_7x1", 64), ("Conv2d_1a_3x3", 96, VALID))
    x = slim.concat(
        "Mixed_4a",
        slim.branch(x, "Mixed_4a/Branch_0", ("Conv2d_0a_1x1", 64), ("Conv2d_1a_3x3", 96, VALID)),
        slim.branch(x, "Mixed_4a/Branch_1", *seven),
    )
    strided = slim.branch(x, "Mixed_5a/Branch_0", ("Conv2d_1a_3x3", 192, slim.REDUCE))
    return slim.concat("Mixed_5a", strided, slim.max_pool(x, "Mixed_5a/Branch_1/MaxPool_1a_3x3"))


def _inception_a(x, scope: str):
    double = (("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96))
    return slim.mixed(x, scope, 96, (("Conv2d_0a_1x1", 96),), double, (*double, ("Conv2d_0c_3x3", 96)))


def _reduction_a(x):
    double = (("Conv2d_0a_1x1", 192), ("Conv2d_0b_3x3", 224), ("Conv2d_1a_3x3", 256, slim.REDUCE))
    return slim.reduction(x, "Mixed_6a", (("Conv2d_1a_3x3", 384, slim.REDUCE),), double)


def _inception_b(x, scope: str):
    single = (("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x7", 224), ("Conv2d_0c_7x1", 256))
    double = (
        ("Conv2d_0a_1x1", 192),
        ("Conv2d_0b_7x1", 192),
        ("Conv2d_0c_1x7", 224),
        ("Conv2d_0d_7x1", 224),
        ("Conv2d_0e_1x7", 256),
    )
    return slim.mixed(x, scope, 128, (("Conv2d_0a_1x1", 384),), single, double)


def _reduction_b(x):
    three = (("Conv2d_0a_1x1", 192), ("Conv2d_1a_3x3", 192, slim.REDUCE))
    seven = (
        ("Conv2d_0a_1x1", 256),
        ("Conv2d_0b_1x7", 256),
        ("Conv2d_0c_7x1", 320),
        ("Conv2d_1a_3x3", 320, slim.REDUCE),
    )
    return slim.reduction(x, "Mixed_7a", three, seven)


def _inception_c(x, scope: str):
    single = slim.branch(x, f"{scope}/Branch_1", ("Conv2d_0a_1x1", 384))
    double = slim.branch(x, f"{scope}/Branch_2", ("Conv2d_0a_1x1", 384), ("Conv2d_0b_3x1", 448), ("Conv2d_0c_1x3", 512))
    return slim.concat(
        scope,
        slim.branch(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 256)),
        *slim.fan(single, f"{scope}/Branch_1", 256, "Conv2d_0b_1x3", "Conv2d_0c_3x1"),
        *slim.fan(double, f"{scope}/Branch_2", 256, "Conv2d_0d_1x3", "Conv2d_0e_3x1"),
        slim.pool_branch(x, f"{scope}/Branch_3", 256),
    )


def _aux_logits(x):
    x = layers.AveragePooling2D(5, 3, name="AuxLogits/AvgPool_1a_5x5")(x)
    x = slim.branch(x, "AuxLogits", ("Conv2d_1b_1x1", 128), ("Conv2d_2a", 768, 5, VALID))
    return slim.dense_logits(layers.Flatten(name="AuxLogits/Flatten")(x), "AuxLogits/Aux_logits")
