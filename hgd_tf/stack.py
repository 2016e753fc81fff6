"""The two stacks that this package runs on, and what differs between them; no other module asks for a version.

| Python | TensorFlow | Keras 2 |
| --- | --- | --- |
| 3.9 to 3.11 | 2.15 | its own, `tf.keras` |
| 3.12, 3.13 | 2.18 to 2.21 | the package tf-keras of the same minor version; `tf.keras` is Keras 3 there |

`keras` is Keras 2 on both. Importing it sets no environment variable and leaves the process's own `tf.keras` as it is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from tensorflow import keras
else:
    try:
        import tf_keras as keras
    except ImportError:
        keras = tf.keras

_KERAS = keras.Model.__module__.partition(".")[0]  # the package that is behind `keras`

# While it lasts, files of every format are read without running Python code inside them; Keras' argument `safe_mode`
# holds for the `.keras` format alone.
SafeModeScope = importlib.import_module(f"{_KERAS}.src.saving.serialization_lib").SafeModeScope

__all__ = ["SafeModeScope", "keras"]
