"""Inception v3 (Szegedy et al. 2016, arXiv 1512.00567) as TF-Slim has it."""

from __future__ import annotations

from hgd_tf.architectures import slim
from hgd_tf.architectures.outputs import responses, rgb_images
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION

layers = keras.layers


def inception_v3(image_size: int = slim.NATIVE_SIZE) -> keras.Model:
    """Images (N, size, size, 3) in [0, 255] to features (Mixed_7c), logits and, at 299, aux_logits."""
    images = rgb_images(image_size)
    x = slim.conv(INCEPTION.layer()(images), "Conv2d_1a_3x3", 32, strides=2, padding="valid")
    x = slim.conv(x, "Conv2d_2a_3x3", 32, padding="valid")
    x = slim.max_pool(slim.conv(x, "Conv2d_2b_3x3", 64), "MaxPool_3a_3x3")
    x = slim.conv(x, "Conv2d_3b_1x1", 80, padding="valid")
    x = slim.max_pool(slim.conv(x, "Conv2d_4a_3x3", 192, padding="valid"), "MaxPool_5a_3x3")
    x = _mixed_5(x, "Mixed_5b", 32)
    # The published checkpoints have these two odd names.
    x = _mixed_5(x, "Mixed_5c", 64, five=(("Conv2d_0b_1x1", 48), ("Conv_1_0c_5x5", 64)))
    x = _mixed_5(x, "Mixed_5d", 64)
    x = _mixed_6a(x)
    for letter, filters in zip("bcde", (128, 160, 160, 192)):
        x = _mixed_6(x, f"Mixed_6{letter}", filters)
    aux_logits = _aux_logits(x) if image_size == slim.NATIVE_SIZE else None
    x = _mixed_7a(x)
    x = _mixed_7(x, "Mixed_7b", tall="Conv2d_0b_3x1")
    features = _mixed_7(x, "Mixed_7c", tall="Conv2d_0c_3x1")
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="Logits/AvgPool_1a_8x8")(features)
    logits = slim.conv_logits(pooled, "Logits/Conv2d_1c_1x1")
    return responses(images, "inception_v3", features, logits, aux_logits)


def _mixed_5(x, scope: str, pool_filters: int, five=(("Conv2d_0a_1x1", 48), ("Conv2d_0b_5x5", 64))):
    triple = (("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96))
    return slim.mixed(x, scope, pool_filters, (("Conv2d_0a_1x1", 64),), five, triple)


def _mixed_6a(x):
    # Named 1x1 in the checkpoints, these two are 3x3.
    double = (("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_1a_1x1", 96, 3, slim.REDUCE))
    return slim.reduction(x, "Mixed_6a", (("Conv2d_1a_1x1", 384, 3, slim.REDUCE),), double)


def _mixed_6(x, scope: str, filters: int):
    single = (("Conv2d_0a_1x1", filters), ("Conv2d_0b_1x7", filters), ("Conv2d_0c_7x1", 192))
    double = (
        ("Conv2d_0a_1x1", filters),
        ("Conv2d_0b_7x1", filters),
        ("Conv2d_0c_1x7", filters),
        ("Conv2d_0d_7x1", filters),
        ("Conv2d_0e_1x7", 192),
    )
    return slim.mixed(x, scope, 192, (("Conv2d_0a_1x1", 192),), single, double)


def _mixed_7a(x):
    three = (("Conv2d_0a_1x1", 192), ("Conv2d_1a_3x3", 320, slim.REDUCE))
    seven = (
        ("Conv2d_0a_1x1", 192),
        ("Conv2d_0b_1x7", 192),
        ("Conv2d_0c_7x1", 192),
        ("Conv2d_1a_3x3", 192, slim.REDUCE),
    )
    return slim.reduction(x, "Mixed_7a", three, seven)


def _mixed_7(x, scope: str, tall: str):
    single = slim.branch(x, f"{scope}/Branch_1", ("Conv2d_0a_1x1", 384))
    double = slim.branch(x, f"{scope}/Branch_2", ("Conv2d_0a_1x1", 448), ("Conv2d_0b_3x3", 384))
    return slim.concat(
        scope,
        slim.branch(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 320)),
        *slim.fan(single, f"{scope}/Branch_1", 384, "Conv2d_0b_1x3", tall),
        *slim.fan(double, f"{scope}/Branch_2", 384, "Conv2d_0c_1x3", "Conv2d_0d_3x1"),
        slim.pool_branch(x, f"{scope}/Branch_3", 192),
    )


def _aux_logits(x):
    x = layers.AveragePooling2D(5, 3, name="AuxLogits/AvgPool_1a_5x5")(x)
    x = slim.branch(x, "AuxLogits", ("Conv2d_1b_1x1", 128), ("Conv2d_2a_5x5", 768, {"padding": "valid"}))
    return slim.conv_logits(x, "AuxLogits/Conv2d_2b_1x1")
