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
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union, cast

import tensorflow as tf

from hgd_tf.files import check_archive

if TYPE_CHECKING:
    from tensorflow import keras
else:
    try:
        import tf_keras as keras
    except ImportError:
        keras = tf.keras

Loads = TypeVar("Loads", bound=Callable[..., Any])
_IS_SECOND = keras.__name__.startswith("tf_keras")

# Keras' argument `safe_mode` holds for the `.keras` format alone, this for every one.
_SafeModeScope = importlib.import_module(
    f"{keras.Model.__module__.partition('.')[0]}.src.saving.serialization_lib"
).SafeModeScope


def outside_graphs(load: Loads) -> Loads:
    """What loads weights, refused where a `tf.function` is traced: the graph would have random ones.

    Raises:
      RuntimeError: it is called there.
    """

    @functools.wraps(load)
    def loaded(*args, **kwargs):
        if not tf.executing_eagerly():
            raise RuntimeError(
                f"{load.__name__}: expected a call before a graph is traced, received one inside a tf.function"
            )
        return load(*args, **kwargs)

    return cast(Loads, loaded)


@outside_graphs
def load_model(
    path: Union[str, Path], custom_objects: Optional[Mapping[str, Any]] = None, safe_mode: bool = True
) -> keras.Model:
    """The uncompiled Keras 2 model of a `.keras` or `.h5` file or a SavedModel, whichever stack wrote it.

    Args:
      custom_objects: classes and functions of the user's own, by the names that the file has for them.
      safe_mode: whether Python code inside the file is refused.

    Raises:
      OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, zipfile.BadZipFile: there is none.
    """
    check_archive(path)
    _read_later_input_layers()
    objects = {**_BY_OTHER_NAMES, **(custom_objects or {})}
    with _SafeModeScope(safe_mode), keras.utils.custom_object_scope(objects):
        return keras.models.load_model(path, compile=False, safe_mode=safe_mode)


# tf-keras has a module of its own for this class.
_BY_OTHER_NAMES = {} if _IS_SECOND else {"Functional": keras.Model}


@functools.lru_cache(None)
def _read_later_input_layers() -> None:
    """From now on Keras 2.15 reads the input layers of tf-keras, which have one word more."""
    kind = keras.layers.InputLayer
    read = kind.from_config

    def from_config(config: dict[str, Any]) -> keras.layers.Layer:
        return read({name: value for name, value in config.items() if (name, value) != ("optional", False)})

    if not _IS_SECOND:
        kind.from_config = from_config


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
