"""The two stacks that this package runs on, and what differs between them; no other module asks for a version.

| Python | TensorFlow | Keras 2 |
| --- | --- | --- |
| 3.9 to 3.11 | 2.15 | its own, `tf.keras` |
| 3.12, 3.13 | 2.18 to 2.21 | the package tf-keras of the same minor version; `tf.keras` is Keras 3 there |

`keras` is Keras 2 on both. Importing it sets no environment variable and leaves the process's own `tf.keras` as it is.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
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

_CONFIG = "config.json"  # in a `.keras` file


def load_model(path: Union[str, Path], custom_objects: Optional[dict[str, Any]] = None) -> keras.Model:
    """The uncompiled Keras 2 model of a `.keras` or `.h5` file or a SavedModel, whichever stack wrote it.

    Raises:
      OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile: there is none.
    """
    if IS_SECOND:
        return keras.models.load_model(path, custom_objects, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        readable = _as_keras_2_15_writes(Path(path), Path(folder) / Path(path).name)
        return keras.models.load_model(readable, {**_OF_TF_KERAS, **(custom_objects or {})}, compile=False)


class _InputLayer:
    """Reads an input layer of an `.h5` file by tf-keras."""

    @staticmethod
    def from_config(config: dict[str, Any]) -> keras.layers.Layer:
        return keras.layers.InputLayer(**_without_later_words(config))


_OF_TF_KERAS = {"InputLayer": _InputLayer}


def _as_keras_2_15_writes(path: Path, copy: Path) -> Path:
    """The file itself; or, of a `.keras` file by tf-keras, a copy without the words that Keras 2.15 does not know."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        config = archive.read(_CONFIG)
        if b'"tf_keras.' not in config and b'"optional"' not in config:
            return path
        with zipfile.ZipFile(copy, "w") as translated:
            for name in archive.namelist():
                translated.writestr(name, archive.read(name) if name != _CONFIG else _translated(config))
    return copy


def _translated(config: bytes) -> bytes:
    return json.dumps(json.loads(config, object_hook=_without_later_words)).encode()


def _without_later_words(config: dict[str, Any]) -> dict[str, Any]:
    if isinstance(config.get("module"), str):
        config["module"] = config["module"].replace("tf_keras.", "keras.")
    return {name: value for name, value in config.items() if (name, value) != ("optional", False)}
