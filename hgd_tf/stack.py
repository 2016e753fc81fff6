"""The two stacks that this package runs on, and what differs between them; no other module asks for a version.

| Python | TensorFlow | Keras 2 | Keras 3 |
| --- | --- | --- | --- |
| 3.9 to 3.11 | 2.15 | its own, `tf.keras` | none |
| 3.12, 3.13 | 2.18 to 2.21 | the package tf-keras of the same minor version | its own, `tf.keras` |

`keras` is Keras 2 on both. Importing it sets no environment variable and leaves the process's own `tf.keras` as it is.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

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

__all__ = [
    "KERAS_3_STACK",
    "SafeModeScope",
    "has_keras_3",
    "import_keras_3",
    "is_keras_3_model",
    "keras",
    "keras_package_version",
]

KERAS_3_STACK = "Python 3.12 or newer, where hgd-tf installs TensorFlow 2.18 or newer with Keras 3"


@functools.lru_cache(None)
def keras_package_version() -> str:
    """Of the package `keras`; "none" where it is not installed."""
    try:
        return importlib.metadata.version("keras")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def has_keras_3() -> bool:
    """Whether the package `keras` is Keras 3."""
    return keras_package_version().startswith("3.")


def import_keras_3() -> ModuleType:
    """The package `keras`.

    Raises:
      ImportError: it is absent, or what it computes with is.
    """
    return importlib.import_module("keras")


def is_keras_3_model(model: Any) -> bool:
    """Whether an object is a Keras 3 model; where Keras 3 was not imported, none is."""
    module = sys.modules.get("keras")
    return has_keras_3() and module is not None and isinstance(model, module.Model)
