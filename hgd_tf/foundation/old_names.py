"""Names of before, of commands' flags and of fields in files: the next version forgets them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Container, Iterable
from typing import Any, Callable

from hgd_tf.errors import HgdError

NEW_NAMES = {
    **dict.fromkeys(("models", "run_dir"), "defense"),
    **dict.fromkeys(("data_dir", "photographs", "source", "images_dir", "input_dir", "image"), "images"),
    "images": "count",
}


def with_new_names(
    given: Iterable[tuple[str, Any]],
    known: Container[str],
    sign: str = "",
    tell: Callable[[str], Any] = warnings.warn,
) -> list[tuple[str, Any]]:
    """Names and values, today's names in place of old ones; a null under an old one says nothing.

    Args:
      given: names and values.
      known: today's names. What is one of them is no old one, unless its value is a number and no file.
      sign: before a name in messages.
      tell: is told what an old name is now.

    Raises:
      HgdError: something has different values under different names.
    """
    values: dict[str, dict[str, Any]] = {}
    found = []
    for name, value in given:
        new = NEW_NAMES.get(name, name)
        if new not in known or (name in known and not _is_count(value)):
            new = name
        if new == name or value is not None:
            found.append((new, value))
            values.setdefault(new, {})[name] = value
    for new, under in values.items():
        first, *others = under.values()
        if any(other != first for other in others):
            raise HgdError(f"expected one value of {sign}{new}, received {' and '.join(map(str, under.values()))}")
        for old, value in under.items():
            if old != new:
                tell(f"{sign}{old}{f'={value}' if old in known else ''} is {sign}{new} now")
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, str) and value.isdecimal() and not os.path.exists(value)
