"""Layers of residual networks beyond Keras' own."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.foundation.stack import keras

PACKAGE = "hgd_tf"


@keras.saving.register_keras_serializable(PACKAGE)
class ScaledAdd(keras.layers.Layer):
    """Input: [x, residual] of one shape. Output: x + scale * residual."""

    def __init__(self, *, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        x, residual = inputs
        return x + self.scale * residual

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
