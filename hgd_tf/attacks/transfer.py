"""What lets an attack's gradient hold for networks that it does not see."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SMALLEST = 0.9  # of the side: the authors' 299 of 330
DEVIATIONS = 3  # from the kernel's middle to its ends, as in the authors' program
DRAWS = 4


def shrunk(images: tf.Tensor, draws: tf.Tensor, probability: float) -> tf.Tensor:
    """Input diversity (Xie et al. 2019): some images smaller, at a random place on black of their own size.

    Args:
      images: float32 (N, H, W, C).
      draws: float32 (N, 4), uniform in [0, 1): whether an image is shrunk, how much, how far down and right it lies.
      probability: of an image to be shrunk, bilinearly, by a factor that is uniform in (0.9, 1]. The others stay
        exactly as they are.
    """
    chosen = draws[:, 0] < probability
    factor = tf.where(chosen, 1.0 - (1.0 - SMALLEST) * draws[:, 1], 1.0)
    rows, columns = (_lines(images.shape[axis], factor, draws[:, 1 + axis]) for axis in (1, 2))
    smaller = tf.einsum("njw,niwc->nijc", columns, tf.einsum("nih,nhwc->niwc", rows, images))
    return tf.where(chosen[:, tf.newaxis, tf.newaxis, tf.newaxis], smaller, images)  # GPUs round products to 10 bits


def _lines(side: int, factor: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """(N, side, side): how much of each line of an image is in each of the smaller one's, the first axis."""
    lines = tf.range(side, dtype=tf.float32)
    first = (1.0 - factor) * place * (side - 1.0)
    position = (lines - first[:, tf.newaxis]) / factor[:, tf.newaxis]
    return tf.nn.relu(1.0 - tf.abs(position[:, :, tf.newaxis] - lines))


def smoothed(gradient: tf.Tensor, size: int) -> tf.Tensor:
    """Translation invariance (Dong et al. 2019): each channel convolved with a Gaussian kernel whose sum is 1.

    Args:
      gradient: float32 (N, H, W, C); beyond its edges it counts as 0.
      size: pixels of the kernel's side, which spans 3 standard deviations either way: of 15, one is 7/3 pixels.
    """
    weights = np.exp(-0.5 * np.linspace(-DEVIATIONS, DEVIATIONS, size) ** 2)
    line = (weights / weights.sum()).reshape(size, 1, 1, 1).astype(np.float32)
    column = np.repeat(line, gradient.shape[-1], axis=2)
    for kernel in (column, column.transpose(1, 0, 2, 3)):
        gradient = tf.nn.depthwise_conv2d(gradient, kernel, (1, 1, 1, 1), "SAME")
    return gradient


def of_unit_mean(gradient: tf.Tensor) -> tf.Tensor:
    """Momentum (Dong et al. 2018): each image's gradient (N, H, W, C), divided by its mean absolute value."""
    return tf.math.divide_no_nan(gradient, tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True))
