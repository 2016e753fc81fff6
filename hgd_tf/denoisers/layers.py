"""Layers that the denoisers need beyond Keras' own."""

from __future__ import annotations

from typing import Union

import tensorflow as tf

from hgd_tf.foundation.stack import keras

PACKAGE = "hgd_tf"
NO_FOLDING = "denoisers that fold pixels into channels are no longer supported"


@keras.saving.register_keras_serializable(PACKAGE)
class UpsampleLike(keras.layers.Layer):
    """Bilinear resize of one map to the height and width of another, with aligned corners.

    Input: [x (N, h, w, C), reference (N, H, W, D)]. Output: (N, H, W, C), where the corner pixels of `x` are
    those of the output (the authors' upsampling; `tf.image.resize` aligns edges instead).
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        x, reference = inputs
        resized = tf.raw_ops.ResizeBilinear(images=x, size=tf.shape(reference)[1:3], align_corners=True)
        return tf.cast(resized, x.dtype)  # it computes in float32 whatever it is given

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])


@keras.saving.register_keras_serializable(PACKAGE)
class AddNoise(keras.layers.Layer):
    """The denoised image: the input plus the scaled prediction of the negative noise (section 3.1.2).

    Input: [images (N, H, W, C) in [0, 255], prediction of the same shape]. Output: images + scale * prediction,
    unclipped.
    """

    def __init__(self, *, scale: Union[float, list[float]], **kwargs):
        super().__init__(**kwargs)
        self.scale = scale  # one for all channels, or one each

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        images, prediction = inputs
        return images + self.scale * prediction

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(PACKAGE)
class SpaceToDepth(keras.layers.Layer):
    """What files of denoisers that folded pixels begin with."""

    def __init__(self, **config):
        raise ValueError(NO_FOLDING)
