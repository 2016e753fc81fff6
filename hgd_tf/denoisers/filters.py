"""Denoisers that need no training: median and Gaussian filters."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.denoisers.layers import PACKAGE
from hgd_tf.foundation.stack import keras


@keras.saving.register_keras_serializable(PACKAGE)
class MedianFilter(keras.layers.Layer):
    """Median over a `size` x `size` window, mirrored at the border; images (N, H, W, C) float32."""

    def __init__(self, *, size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return _median(_windows(images, self.size))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(PACKAGE)
class GaussianFilter(keras.layers.Layer):
    """Gaussian blur of standard deviation `sigma` pixels over a `size` x `size` window, mirrored at the border."""

    def __init__(self, *, size: int = 3, sigma: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.sigma = sigma

    def call(self, images: tf.Tensor) -> tf.Tensor:
        offsets = tf.range(self.size, dtype=images.dtype) - (self.size - 1) // 2
        weights = tf.nn.softmax(-(offsets**2) / (2.0 * self.sigma**2))
        return tf.tensordot(_windows(images, self.size), tf.reshape(tf.tensordot(weights, weights, 0), [-1]), 1)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "sigma": self.sigma}


def _windows(images: tf.Tensor, size: int) -> tf.Tensor:
    """The `size` x `size` pixels around each, (N, H, W, C, size²), mirrored at the border."""
    before, shape = (size - 1) // 2, tf.shape(images)
    margin = (before, size - 1 - before)
    padded = tf.pad(images, ((0, 0), margin, margin, (0, 0)), "REFLECT")
    shifted = [
        padded[:, row : row + shape[1], column : column + shape[2]] for row in range(size) for column in range(size)
    ]
    return tf.stack(shifted, axis=-1)


def _median(values: tf.Tensor) -> tf.Tensor:
    """Over the last axis; of an even number the mean of both in the middle."""
    count = values.shape[-1]
    largest = tf.nn.top_k(values, count // 2 + 1).values
    return largest[..., -1] if count % 2 else tf.reduce_mean(largest[..., -2:], axis=-1)


def median(channels: int, size: int = 3) -> keras.Model:
    """Median filter as a denoiser: images to images, (N, H, W, channels) float32 in [0, 255]."""
    return _model(MedianFilter(size=size), channels, "median")


def gaussian(channels: int, size: int = 3, sigma: float = 1.0) -> keras.Model:
    """Gaussian filter as a denoiser: images to images, (N, H, W, channels) float32 in [0, 255]."""
    return _model(GaussianFilter(size=size, sigma=sigma), channels, "gaussian")


def _model(layer: keras.layers.Layer, channels: int, name: str) -> keras.Model:
    images = keras.Input((None, None, channels), name="images")
    return keras.Model(images, layer(images), name=name)
