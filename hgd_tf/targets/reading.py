"""Files of Keras models: which code of the user's they need, and whether code inside them runs."""

from __future__ import annotations

import importlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from hgd_tf.errors import TargetError, first_line
from hgd_tf.foundation.stack import load_model
from hgd_tf.targets.keras3 import is_keras_3_file, load_keras_3

CustomObjects = Union[str, Mapping[str, Any], None]

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile)
CODE_INSIDE = (
    "it holds Python code (a Lambda layer), which is run only where that is asked for: `safe_mode=False`, "
    "if you trust the file"
)

NAMELESS = {"Improper config format": "a lambda", "'str' object is not callable": "a layer"}  # so Keras says it

_asked: dict[str, Any] = {"custom_objects": None, "safe_mode": True}


def ask_by_default(custom_objects: CustomObjects, safe_mode: bool) -> None:
    """What `read_model` does in this process where its arguments leave it open; commands' flags say so."""
    _asked.update(custom_objects=custom_objects, safe_mode=safe_mode)


def is_safe(safe_mode: Optional[bool] = None) -> bool:
    """Whether code inside files stays unrun; None: as this process was asked to."""
    return _asked["safe_mode"] if safe_mode is None else safe_mode


def named_objects(custom_objects: CustomObjects = None) -> dict[str, Any]:
    """Classes and functions of the user's own, by the names that files of models have for them.

    Args:
      custom_objects: such a dict; or the name of a Python module, which is imported: its public classes and functions;
        None: as this process was asked to, or none.

    Raises:
      TargetError: there is no such module, or it fails.
    """
    given = _asked["custom_objects"] if custom_objects is None else custom_objects
    if given is None:
        return {}
    if not isinstance(given, str):
        return dict(given)
    try:
        members = vars(importlib.import_module(given))
    except Exception as error:  # whatever the user's code does
        raise TargetError(
            f"`custom_objects={given}`: expected a Python module that can be imported from here: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    return {name: value for name, value in members.items() if callable(value) and not name.startswith("_")}


def read_model(path: Path, custom_objects: CustomObjects = None, safe_mode: Optional[bool] = None) -> Any:
    """Loads a `.keras` or `.h5` file or a SavedModel folder, as a model of the Keras that wrote it, 2 or 3.

    Args:
      custom_objects: as in `named_objects`.
      safe_mode: whether Python code inside the file is refused; None: as this process was asked to.

    Raises:
      TargetError: it is no such file, or it needs code that is not given; the message says how to give it.
    """
    objects = named_objects(custom_objects)
    try:
        if is_keras_3_file(path):
            return load_keras_3(path, objects, is_safe(safe_mode))
        return load_model(path, objects, is_safe(safe_mode))
    except UNREADABLE as error:
        raise TargetError(f"{path} is no model that Keras can load: {why(error)}") from error


def why(error: BaseException) -> str:
    """The reason that one of Keras' errors gives, and the way out where there is one."""
    text = str(error)
    if "safe_mode" in text:
        return CODE_INSIDE
    unknown = re.search(
        r"Cannot deserialize object of type `(\w+)`|Unknown [\w ]+: '?(\w+)|Unknown activation function.*?"
        r"(?:'config': )?'(\w+)'(?:, 'registered_name'| cannot)|Could not locate \w+ '(\w+)'",
        text,
    )
    nameless = [what for sign, what in NAMELESS.items() if sign in text]
    if unknown or nameless:
        name = next(filter(None, unknown.groups()), "") if unknown else nameless[0]
        return f"it needs code of yours ({name}): `custom_objects=MODULE`, which defines it by that name"
    text = text.rpartition("Exception encountered: ")[2].strip().partition("\n")[0]
    return text.replace("`", "'") or type(error).__name__  # in backquotes are arguments of ours
