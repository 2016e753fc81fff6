"""What a guarded classifier of Keras 3 is made of: a Keras 2 model as a layer, and a class for its files to name."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf

import hgd_tf.denoisers  # noqa: F401  registers the layers that a description names
from hgd_tf.foundation.stack import import_keras_3, keras

keras_3 = import_keras_3()
Model: Any = keras_3.Model
Layer: Any = keras_3.layers.Layer


@keras_3.saving.register_keras_serializable("hgd_tf")
class GuardedClassifier(Model):
    """As `guarding.GuardedClassifier`; Keras 3.15 imports no module that a file names, and says so."""


keras_3.saving.get_custom_objects()[GuardedClassifier.__name__] = GuardedClassifier  # by which an .h5 file has it


@keras_3.saving.register_keras_serializable("hgd_tf")
class Keras2Layer(Layer):
    """A Keras 2 model, always in inference mode; the layer's weights are its variables, never trained.

    Args:
      model: functional, from one tensor to one.
    """

    def __init__(self, model: keras.Model, **kwargs):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.supports_jit = False
        self._model = lambda: model  # no part that Keras 3 or TensorFlow would save once more
        for weight in model.weights:
            self._adopt(weight)
        self.built = True

    def _adopt(self, weight: tf.Variable) -> None:
        with tf.variable_creator_scope(lambda create, **kwargs: weight):
            name = weight.name.partition(":")[0].replace("/", "_")
            self.add_weight(shape=weight.shape, dtype=weight.dtype.name, trainable=False, name=name)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self._model()(images, training=False)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._model().output_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": json.dumps(keras.saving.serialize_keras_object(self._model()))}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Keras2Layer:
        model = keras.saving.deserialize_keras_object(json.loads(config["model"]), safe_mode=True)
        return cls(**{**config, "model": model})
