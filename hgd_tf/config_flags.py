"""Flags of descriptions: short forms of their fields, which say type, default and meaning (`foundation/`)."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection
from typing import Any, Optional, Union

from absl import flags

from hgd_tf.errors import HgdError
from hgd_tf.foundation.description import Setting, in_words, settings


class _SettingParser(flags.ArgumentParser):
    """Reads a text as a value of a field, and checks it as the field does; an empty one is `null` where that may be."""

    def __init__(self, setting: Setting):
        super().__init__()
        self._setting = setting
        choices = typing.get_args(setting.kind) if typing.get_origin(setting.kind) is Union else (setting.kind,)
        self._kind = choices[0]
        self._nullable = len(choices) > 1
        words = {str: "", tuple: "comma separated", dict: "comma separated"}
        kind = words.get(typing.get_origin(self._kind) or self._kind, in_words(self._kind))
        self.syntactic_help = ", ".join(filter(None, (kind, setting.rule.words)))

    def parse(self, argument: Any) -> Any:
        try:
            value = self._read(argument) if isinstance(argument, str) else argument
            self._setting.check(value)
        except HgdError as error:
            raise ValueError(str(error)) from error
        return value

    def _read(self, text: str) -> Any:
        if not text and self._nullable:
            return None
        if typing.get_origin(self._kind) is tuple:
            return tuple(_as(typing.get_args(self._kind)[0], word) for word in _words(text))
        return _pairs(text) if typing.get_origin(self._kind) is dict else _as(self._kind, text)


class _Serializer(flags.ArgumentSerializer):
    """Writes a value as a command line has it."""

    def serialize(self, value: Any) -> str:
        if isinstance(value, dict):
            return ",".join(f"{name}={item}" for name, item in value.items())
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def define_flag(setting: Setting, flag_values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """A flag of a field's name, whose value is the field's."""
    name, kind, default, meaning, _ = setting
    meaning = re.sub(r"`(\w+(?:=\w+)?)`", r"--\1", meaning)  # the other fields that it names are flags too
    if kind is bool:
        return flags.DEFINE_bool(name, default, meaning, flag_values)
    serializer: flags.ArgumentSerializer = _Serializer()
    return flags.DEFINE(_SettingParser(setting), name, default, meaning, flag_values, serializer)


def define_flags(kind: type, without: Collection[str] = ()) -> None:
    """Flags of a description's fields."""
    for name, setting in settings(kind).items():
        if name not in without:
            define_flag(setting)


def with_flags(description: Any, **changes: Any) -> Any:
    """The description with what the command line says instead, and other changes."""
    given = {name: flags.FLAGS[name] for name in settings(type(description)) if name in flags.FLAGS}
    said = {name: flag.value for name, flag in given.items() if not flag.using_default_value}
    return dataclasses.replace(description, **{**said, **changes})


def define_defense(default: Optional[str] = None, required: bool = False) -> flags.FlagHolder:
    """The flag that says what classifies, whose value `load_defense` takes, and those of what it loads."""
    for shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
        flags.declare_key_flag(shared)
    meaning = "A training run's folder, a defense that comes with the package, or the JSON file of a line-up."
    return flags.DEFINE_string("defense", default, meaning, required=required)


def _words(text: str) -> list[str]:
    return [word for word in flags.ListParser().parse(text) if word]


def _as(kind: type, text: str) -> Any:
    """A number where one is meant and given; the check says what else was expected."""
    try:
        return kind(text)
    except ValueError:
        return text


def _pairs(text: str) -> dict[str, str]:
    pairs = [word.partition("=")[::2] for word in _words(text)]
    names = [name for name, network in pairs if network and "=" not in network]
    if not len(names) == len(pairs) == len(set(names)):
        raise HgdError(f"expected NAME=NETWORK,NAME=NETWORK,…, each once, received {text}")
    return dict(pairs)


flags.disclaim_key_flags()  # those defined here are of the command that asked for them, in its --helpshort
