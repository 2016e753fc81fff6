"""The two stacks that this package runs on, and what differs between them; no other module asks for a version.

| Python | TensorFlow | Keras 2 |
| --- | --- | --- |
| 3.9 to 3.11 | 2.15 | its own, `tf.keras` |
| 3.12, 3.13 | 2.18 to 2.21 | the package tf-keras of the same minor version; `tf.keras` is Keras 3 there |

`keras` is Keras 2 on both. Importing it sets no environment variable and leaves the process's own `tf.keras` as it is.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
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

__all__ = ["keras", "load_model"]

_IS_SECOND = keras.__name__.startswith("tf_keras")

# Keras' argument `safe_mode` holds for the `.keras` format alone, this for every one.
_SafeModeScope = importlib.import_module(
    f"{keras.Model.__module__.partition('.')[0]}.src.saving.serialization_lib"
).SafeModeScope


def load_model(
    path: Union[str, Path], custom_objects: Optional[Mapping[str, Any]] = None, safe_mode: bool = True
) -> keras.Model:
    """The uncompiled Keras 2 model of a `.keras` or `.h5` file or a SavedModel, whichever stack wrote it.

    Args:
      path: of it.
      custom_objects: classes and functions of the user's own, by the names that the file has for them.
      safe_mode: whether Python code inside the file is refused.

    Raises:
      OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, zipfile.BadZipFile: there is none.
    """
    objects = {**_BY_OTHER_NAMES, **(custom_objects or {})}
    with _later_input_layers(), _SafeModeScope(safe_mode), keras.utils.custom_object_scope(objects):
        return keras.models.load_model(path, compile=False, safe_mode=safe_mode)


# tf-keras has a module of its own for this class.
_BY_OTHER_NAMES = {} if _IS_SECOND else {"Functional": keras.Model}


@contextlib.contextmanager
def _later_input_layers() -> Iterator[None]:
    """Keras 2.15 reads the input layers of tf-keras, which have one word more."""
    kind = keras.layers.InputLayer
    read = kind.from_config

    def from_config(config: dict[str, Any]) -> keras.layers.Layer:
        return read({name: value for name, value in config.items() if (name, value) != ("optional", False)})

    if not _IS_SECOND:
        kind.from_config = from_config
    try:
        yield
    finally:
        if not _IS_SECOND:
            del kind.from_config  # the class has inherited it
