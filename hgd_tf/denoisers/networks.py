"""DUNET and DAE, the paper's denoising networks (sections 3.1.1 and 3.1.2, Figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hgd_tf.denoisers.layers import AddNoise, UpsampleLike
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION, Normalization

layers = keras.layers

Blocks = Sequence["tuple[int, int]"]
"""Of each block: number of convolutions, channels at width 1."""

# Figure 3. The first convolution of every feedforward block but the first has stride 2.
FEEDFORWARD = ((2, 64), (3, 128), (3, 256), (3, 256), (3, 256))
FEEDBACK = ((3, 256), (3, 256), (3, 128), (2, 64))
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # and Keras' names
MIN_IMAGE_SIZE = 16  # four halvings leave one pixel


def dunet(
    width: float = 1.0,
    channels: int = 3,
    *,
    feedforward: Blocks = FEEDFORWARD,
    feedback: Blocks = FEEDBACK,
    lateral: bool = True,
    output_scale: float = 1.0,
    zero_head: bool = False,
    synchronized: bool = False,
    precision: str = "float32",
    statistics_momentum: float = 0.9,
    normalization: Normalization = INCEPTION,
    name: str = "dunet",
) -> keras.Model:
    """Denoising U-net: images to denoised images, both (N, H, W, channels) float32 in pixel units, output unclipped.

    Args:
      width: factor on every layer's channels; 1 is the paper's network, 11,033,984 trainable parameters at 3 channels.
      channels: of the images.
      feedforward: blocks from the images down, each after the first at half the side of the one before.
      feedback: blocks back up again, one fewer.
      lateral: whether a feedback block sees the feedforward block of its side too, by concatenation.
      output_scale: factor on the predicted negative noise; 2 is the paper's PGD x2 (appendix B).
      zero_head: start with a zero head, so that the untrained network is the identity.
      synchronized: normalize over the batch of all replicas; for training under a `tf.distribute` strategy.
      precision: in which convolutions are computed, `float32` or `bfloat16`; variables and images stay float32.
      statistics_momentum: of batch normalization's moving mean and variance; the authors' is 0.9.
      normalization: of the pixels inside; the predicted noise is in its units.
      name: of the model.

    Returns:
      A functional model for any height and width of at least 16, the side that the paper's halvings leave one pixel of.

    Raises:
      ValueError: width leaves a layer without channels, blocks do not match, or an argument is not positive.
    """
    _check(width, channels, feedforward, feedback, output_scale, precision)
    policy = PRECISIONS[precision]

    def convolution(x, filters: int, strides: int = 1):
        """C of Figure 3. Padding is 1 on every side, which Keras' `same` is at stride 1 only."""
        if strides > 1:
            x = layers.ZeroPadding2D(1, dtype=policy)(x)
        padding = "same" if strides == 1 else "valid"
        x = layers.Conv2D(filters, 3, strides, padding=padding, use_bias=False, dtype=policy)(x)
        # Keras' synchronized batch norm is not fused, hence slower: only where there is something to synchronize.
        extra = {"synchronized": True} if synchronized else {}
        x = layers.BatchNormalization(epsilon=1e-5, momentum=statistics_momentum, dtype=policy, **extra)(x)
        return layers.ReLU(dtype=policy)(x)

    def block(x, count: int, base_filters: int, strides: int = 1):
        for number in range(count):
            x = convolution(x, round(base_filters * width), strides if number == 0 else 1)
        return x

    images = keras.Input((None, None, channels), name="images")
    x = normalization.layer()(images)
    levels = []
    for number, (count, filters) in enumerate(feedforward):
        x = block(x, count, filters, strides=1 if number == 0 else 2)
        levels.append(x)
    for (count, filters), level in zip(feedback, reversed(levels[:-1])):
        x = UpsampleLike(dtype=policy)([x, level])
        if lateral:
            x = layers.Concatenate(dtype=policy)([x, level])
        x = block(x, count, filters)
    initializer = "zeros" if zero_head else "glorot_uniform"
    head = layers.Conv2D(channels, 1, use_bias=False, kernel_initializer=initializer, dtype=policy, name="head")
    scale = np.multiply(normalization.std, output_scale).tolist()
    denoised = AddNoise(scale=scale, name="denoised")([images, head(x)])
    return keras.Model(images, denoised, name=name)


def _check(width, channels, feedforward, feedback, output_scale, precision) -> None:
    fewest = min(filters for _, filters in (*feedforward, *feedback))
    if round(fewest * width) < 1:
        raise ValueError(f"width must leave every layer a channel (at least 1/{fewest}), received {width}")
    if len(feedback) != len(feedforward) - 1:
        raise ValueError(f"expected a feedback block for each but one of {len(feedforward)}, received {len(feedback)}")
    if channels < 1:
        raise ValueError(f"channels must be at least 1, received {channels}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, received {precision!r}")
    if not output_scale > 0:
        raise ValueError(f"output_scale must be positive, received {output_scale}")


def dae(width: float = 1.0, channels: int = 3, *, name: str = "dae", **options: Any) -> keras.Model:
    """Denoising autoencoder: `dunet` without its lateral connections (Figure 2, left); other arguments as there."""
    return dunet(width, channels, lateral=False, name=name, **options)


def rescaled(denoiser: keras.Model, factor: float) -> keras.Model:
    """A copy with the same weights whose predicted noise is multiplied by `factor` (PGD x2 is 2; appendix B)."""

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, AddNoise):
            config["scale"] = np.multiply(config["scale"], factor).tolist()
        return type(layer).from_config(config)

    copy = keras.models.clone_model(denoiser, clone_function=clone)
    copy.set_weights(denoiser.get_weights())
    return copy
