"""What describes a run or a set: frozen dataclasses whose fields say what they mean and what they may be.

Python, JSON files and flags (hgd_tf/config_flags.py) say the same fields and meet the same errors.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

from hgd_tf.errors import HgdError, RunError
from hgd_tf.foundation.old_names import with_new_names

KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


class Rule(NamedTuple):
    """What a value may be, beyond its type.

    Attributes:
      words: after `expected`.
      holds: whether it is so; it may raise an `HgdError` that says more.
    """

    words: str
    holds: Callable[[Any], Any]


ANYTHING = Rule("", lambda value: True)
POSITIVE = Rule("more than 0", lambda value: 0 < value < math.inf)
NOT_EMPTY = Rule("at least one", bool)


def at_least(least: float) -> Rule:
    return Rule(f"at least {least}", lambda value: least <= value < math.inf)


def within(least: float, most: float) -> Rule:
    return Rule(f"{least} to {most}", lambda value: least <= value <= most)


def one_of(names: Iterable[str]) -> Rule:
    names = tuple(names)
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


class Setting(NamedTuple):
    """A field of a description: its name, type and default, what it means, and what it may be."""

    name: str
    kind: Any
    default: Any
    meaning: str = ""
    rule: Rule = ANYTHING

    def check(self, value: Any) -> None:
        """Raises `HgdError` where a value is not as expected."""
        shown = list(value) if isinstance(value, tuple) else value  # as JSON and the command line have it
        if isinstance(value, list):
            raise HgdError(f"{self.name}: expected a tuple, received the list {value!r}")
        if not _is_of(value, self.kind):
            raise HgdError(f"{self.name}: expected {in_words(self.kind)}, received {shown!r}")
        try:
            holds = value is None or self.rule.holds(value)
        except HgdError as error:
            raise HgdError(f"{self.name}: {error}") from error
        if not holds:
            raise HgdError(f"{self.name}: expected {self.rule.words}, received {shown!r}")


def setting(default: Any, meaning: str, rule: Rule = ANYTHING) -> Any:
    """A dataclass field with what a `Setting` says of it."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "rule": rule})


def settings(kind: Any) -> dict[str, Setting]:
    """The fields of a description, by their names."""
    types = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        found[field.name] = Setting(field.name, types[field.name], default, **field.metadata)
    return found


def check(description: Any) -> None:
    """Raises `HgdError` where a field is of another type or value than expected."""
    for name, field in settings(type(description)).items():
        field.check(getattr(description, name))


def refuse(misfits: Mapping[str, bool]) -> None:
    """Raises `HgdError` with the first message that is true: fields which are right alone need not fit together."""
    for message, holds in misfits.items():
        if holds:
            raise HgdError(message)


def read(kind: Any, value: Any, beside: Sequence[str] = ()) -> Any:
    """A description from a JSON object of its fields, or their old names; those that have a default may be absent.

    Args:
      kind: of description.
      value: as JSON is read.
      beside: names in the object that are no fields.

    Raises:
      HgdError: `value` is something else, or a field is unknown, missing, or not as expected.
    """
    known = settings(kind)
    if not isinstance(value, dict):
        raise HgdError(f"expected an object of {', '.join(known)}, received {value!r}")
    value = dict(with_new_names(value.items(), known))
    for name in value:
        if name not in known and name not in beside:
            raise HgdError(f"expected {', '.join(known)}, received {name!r}")
    for name, field in known.items():
        if field.default is dataclasses.MISSING and name not in value:
            raise HgdError(f"expected {name!r}, received none")
    return kind(**{name: _from_json(known[name], item) for name, item in value.items() if name in known})


def _from_json(field: Setting, value: Any) -> Any:
    if not dataclasses.is_dataclass(field.kind):
        return tuple(value) if isinstance(value, list) else value
    try:
        return read(field.kind, value)
    except HgdError as error:
        raise HgdError(f"{field.name}: {error}") from error


def read_json(path: Union[str, Path], what: str) -> Any:
    """The content of a JSON file that describes `what`.

    Raises:
      RunError: the file is missing or no JSON, or an object in it has a name twice.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"no such description of {what}: {path}")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}") from None
    except RunError as error:
        raise RunError(f"{path}: {error}") from None


def read_sections(path: Union[str, Path], sections: Mapping[str, type], what: str) -> dict[str, Any]:
    """A JSON file's content.

    Args:
      path: of the file.
      sections: the names that its object must have and whether each is a `dict` or a `list`.
      what: it describes, for messages.

    Raises:
      RunError: the file is missing or no JSON, or has other sections.
    """
    content = read_json(path, what)
    for section, kind in sections.items():
        if not isinstance(content, dict) or not isinstance(content.get(section), kind):
            raise RunError(f"{path}: expected {section!r}, a JSON {'object' if kind is dict else 'array'}")
    unknown = content.keys() - sections.keys()
    if unknown:
        raise RunError(f"{path}: expected {', '.join(sections)}, received {min(unknown)!r}")
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of whose equal names JSON readers would drop all but the last."""
    names = [name for name, _ in pairs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise RunError(f"expected each name once in an object, received {repeated[0]!r} twice")
    return dict(pairs)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; a whole number is a number too."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Union:
        return any(_is_of(value, choice) for choice in choices)
    if typing.get_origin(kind) is tuple:
        kinds = choices if Ellipsis not in choices else choices[:1] * len(value if isinstance(value, tuple) else ())
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if typing.get_origin(kind) is dict:  # whose names are texts in JSON
        return isinstance(value, dict) and all(_is_of(item, choices[1]) for item in value.values())
    return type(value) in ((int, float) if kind is float else (kind,))


def in_words(kind: Any) -> str:
    """A field's type in words."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Union:
        return " or ".join(map(in_words, choices))
    if typing.get_origin(kind) is tuple:
        count = "" if Ellipsis in choices else f" of {len(choices)}"
        return f"an array{count}, each {in_words(choices[0])}"
    if typing.get_origin(kind) is dict:
        return f"an object, each value {in_words(choices[1])}"
    return KINDS.get(kind, kind.__name__)
