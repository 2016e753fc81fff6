"""Denoisers that need no training: median and Gaussian filters.

The one module that uses tensorflow-addons' image filters, so that they can be replaced.
"""

from __future__ import annotations

import warnings

import tensorflow as tf

from hgd_tf.denoisers.layers import PACKAGE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # tensorflow-addons announces its end of life at every import
    from tensorflow_addons.image import gaussian_filter2d, median_filter2d


@tf.keras.saving.register_keras_serializable(PACKAGE)
class MedianFilter(tf.keras.layers.Layer):
    """Median over a `size` x `size` window, mirrored at the border; images (N, H, W, C) float32."""

    def __init__(self, *, size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return median_filter2d(images, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@tf.keras.saving.register_keras_serializable(PACKAGE)
class GaussianFilter(tf.keras.layers.Layer):
    """Gaussian blur of standard deviation `sigma` pixels over a `size` x `size` window, mirrored at the border."""

    def __init__(self, *, size: int = 3, sigma: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.sigma = sigma

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return gaussian_filter2d(images, self.size, self.sigma)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "sigma": self.sigma}


def median(channels: int, size: int = 3) -> tf.keras.Model:
    """Median filter as a denoiser: images to images, (N, H, W, channels) float32 in [0, 255]."""
    return _model(MedianFilter(size=size), channels, "median")


def gaussian(channels: int, size: int = 3, sigma: float = 1.0) -> tf.keras.Model:
    """Gaussian filter as a denoiser: images to images, (N, H, W, channels) float32 in [0, 255]."""
    return _model(GaussianFilter(size=size, sigma=sigma), channels, "gaussian")


def _model(layer: tf.keras.layers.Layer, channels: int, name: str) -> tf.keras.Model:
    images = tf.keras.Input((None, None, channels), name="images")
    return tf.keras.Model(images, layer(images), name=name)
