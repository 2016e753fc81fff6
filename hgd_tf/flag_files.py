"""Flag files: files of flags, a line each, that stand in a command line for what they hold (`--flagfile=NAME`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hgd_tf.bundled import bundled, bundled_names
from hgd_tf.errors import HgdError

NAMES = ("--flagfile", "-flagfile")
DEFAULTS = "--defaults"
COMMENTS = ("#", "//")


def expanded(arguments: Sequence[str]) -> list[str]:
    """A command's arguments with the lines of its flag files in place of every `--flagfile=FILE` and `--flagfile FILE`.

    FILE is a path, or where nothing is, the name of a flag file that comes with the package. One that a flag file names
    is looked for beside that first. As everywhere, `--` ends the flags. Where a line is `--defaults=FILE`, the flags of
    that one come before all others, so that they hold where nothing else is said, in whatever order.

    Raises:
      HgdError: a flag file is missing, a folder or no text, or names itself in the end.
    """
    defaults: list[str] = []
    found, rest = [], list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        name, equals, file = argument.partition("=")
        if name not in NAMES:
            found.append(argument)
        elif equals or rest:
            found += _lines(file if equals else rest.pop(0), (), defaults)
        else:
            raise HgdError("expected a file's name after --flagfile, received none")
    return defaults + found + rest


def _lines(file: str, naming: tuple[Path, ...], defaults: list[str]) -> list[str]:
    """The flags in a file.

    Args:
      file: as it is named; empty: none, as absl has it.
      naming: the flag files, each named by the one before it, the last of which names this one.
      defaults: grows by the flags of files that are named as such.
    """
    if not file.strip():
        return []
    path = _located(file.strip(), naming)
    if any(path.samefile(earlier) for earlier in naming):
        raise HgdError(f"a flag file names itself in the end: {' → '.join(map(str, (*naming, path)))}")
    lines: list[str] = []
    for line in map(str.strip, _text(path).split("\n")):
        name, _, nested = line.partition("=")
        if name in NAMES:
            lines += _lines(nested, (*naming, path), defaults)
        elif name == DEFAULTS:
            defaults += _lines(nested, (*naming, path), defaults)
        elif line and not line.startswith(COMMENTS):
            lines.append(line)
    return lines


def _located(file: str, naming: tuple[Path, ...]) -> Path:
    path = Path(os.path.expanduser(file))
    beside = naming[-1].parent / path if naming else path
    found = beside if beside.exists() else bundled(path)
    where = f"{naming[-1]}: " if naming else ""
    if not found.exists():
        raise HgdError(f"{where}no such flag file: {path}; the package has {', '.join(bundled_names('*.flags'))}")
    if found.is_dir():
        raise HgdError(f"{where}expected a flag file, received a folder: {path}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise HgdError(f"expected a flag file, a text of one flag a line in UTF-8, received {path}") from None
