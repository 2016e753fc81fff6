"""The two stacks that this package runs on, and what differs between them; no other module asks for a version.

| Python | TensorFlow | Keras 2 |
| --- | --- | --- |
| 3.9 to 3.11 | 2.15 | its own, `tf.keras` |
| 3.12, 3.13 | 2.18 to 2.21 | the package tf-keras of the same minor version; `tf.keras` is Keras 3 there |

`keras` is Keras 2 on both. Importing it sets no environment variable and leaves the process's own `tf.keras` as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import tensorflow as tf

if TYPE_CHECKING:
    from tensorflow import keras
else:
    try:
        import tf_keras as keras
    except ImportError:
        keras = tf.keras

__all__ = ["IS_SECOND", "keras", "load_model"]

IS_SECOND = keras.__name__.startswith("tf_keras")


def load_model(path: Union[str, Path], custom_objects: Optional[dict[str, Any]] = None) -> keras.Model:
    """The uncompiled Keras 2 model of a `.keras` or `.h5` file or a SavedModel, whichever stack wrote it.

    Raises:
      OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile: there is none.
    """
    if IS_SECOND:
        return keras.models.load_model(path, custom_objects, compile=False)
    with _input_layers_of_tf_keras():
        # tf-keras names this class by a module of its own.
        return keras.models.load_model(path, {"Functional": keras.Model, **(custom_objects or {})}, compile=False)


@contextlib.contextmanager
def _input_layers_of_tf_keras() -> Iterator[None]:
    """Keras 2.15 reads the input layers of tf-keras, which have one word more."""
    kind = keras.layers.InputLayer
    read = kind.from_config

    def from_config(config: dict[str, Any]) -> keras.layers.Layer:
        return read({name: value for name, value in config.items() if (name, value) != ("optional", False)})

    kind.from_config = from_config
    try:
        yield
    finally:
        del kind.from_config  # the class has inherited it
