"""Flags whose values are tuples: sides of images, and what happens to images on their way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Union

from absl import flags

from hgd_tf.data.transports import Transport
from hgd_tf.errors import DataError

LEAST_SIDE = 8

flags.disclaim_key_flags()  # what is defined here is in the --help of the command that asks for it


class _TupleParser(flags.ArgumentParser):
    """Parses words between commas, each by itself."""

    def __init__(self, parse_item: Callable[[str], Any]):
        super().__init__()
        self._parse_item = parse_item

    def parse(self, argument: Union[str, Sequence[Any]]) -> tuple[Any, ...]:
        if not isinstance(argument, str):
            return tuple(argument)
        items = tuple(self._parse_item(word.strip()) for word in argument.split(",") if word.strip())
        if len(set(items)) < len(items):
            raise ValueError(f"expected each once, received {argument}")
        return items

    def flag_type(self) -> str:
        return "comma separated words"


def define_sizes(name: str, help_text: str) -> flags.FlagHolder:
    """A flag of sides in pixels; its value is a tuple of whole numbers, () by default."""
    return _define(name, (), help_text, _side)


def define_transports(name: str, default: Sequence[str], help_text: str) -> flags.FlagHolder:
    """A flag of transports as `hgd_tf/data/transports.py` spells them; its value is a tuple of texts."""
    return _define(name, default, help_text, _transport)


def _define(name: str, default: Sequence[Any], help_text: str, parse_item: Callable[[str], Any]) -> flags.FlagHolder:
    serializer: flags.ArgumentSerializer = flags.ListSerializer(",")
    return flags.DEFINE(_TupleParser(parse_item), name, tuple(default), help_text, serializer=serializer)


def _side(word: str) -> int:
    if not word.isdecimal() or int(word) < LEAST_SIDE:
        raise ValueError(f"expected whole numbers of at least {LEAST_SIDE}, received {word}")
    return int(word)


def _transport(word: str) -> str:
    try:
        return Transport(word).name
    except DataError as error:
        raise ValueError(str(error)) from error
