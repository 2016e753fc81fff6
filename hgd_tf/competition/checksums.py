"""Which files there are, and whether they are as they were."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Union

from hgd_tf.files import sha256


def content_checksum(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a value that JSON can hold; the order of a dict's keys does not matter."""
    return content_checksum(json.dumps(value, sort_keys=True).encode())


def signature(path: Union[str, Path]) -> tuple[int, ...]:
    """Inode, size and times of a file: other ones after whatever was done to it."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def checksum(path: Union[str, Path]) -> str:
    """SHA-256 of a file's content, which is read again only where the file's signature is another than before.

    Of a file that cannot be read the reason stands instead: then it is not as it was either.
    """
    try:
        return _checksum(str(path), signature(path))
    except OSError as error:
        return f"unreadable: {error.strerror}"


@functools.cache
def _checksum(path: str, _: tuple[int, ...]) -> str:
    return sha256(path)


def files_below(folder: Union[str, Path]) -> Iterator[Path]:
    """Every file in a folder and below it, also in folders that are linked to; each folder once."""
    visited: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        if place in visited:
            folders.clear()
            continue
        visited.add(place)
        folders.sort()
        yield from (path for path in (Path(root, name) for name in sorted(names)) if os.path.isfile(path))


class Watch:
    """Files that nobody is to touch.

    Args:
      places: each lists files, anew at every call.
    """

    def __init__(self, places: Sequence[Callable[[], Iterable[Path]]]):
        self._places = places
        self._known = self._state()

    def accept(self, folder: Path) -> None:
        """Takes a folder's files for what they are now."""
        self._known = {path: condition for path, condition in self._known.items() if folder not in path.parents}
        self._known.update({path: _condition(path) for path in files_below(folder)})

    def changes(self) -> list[str]:
        """What was changed, added or removed since the start, or since this was asked before."""
        before, self._known = self._known, self._state()
        both = before.keys() & self._known.keys()
        found = {
            "changed": {path for path in both if before[path] != self._known[path]},
            "added": self._known.keys() - both,
            "removed": before.keys() - both,
        }
        return [_sentence(sorted(paths), what) for what, paths in found.items() if paths]

    def _state(self) -> dict[Path, tuple[str, int]]:
        return {path: _condition(path) for place in self._places for path in place()}


def _condition(path: Path) -> tuple[str, int]:
    """Content and mode; a run bit that is taken away is a change too."""
    try:
        return checksum(path), path.stat().st_mode
    except FileNotFoundError:  # since it was listed: what is running may do that to its own files
        return checksum(path), 0


def _sentence(paths: Sequence[Path], what: str) -> str:
    if len(paths) == 1:
        return f"{paths[0]} was {what}"
    return f"{paths[0]} and {len(paths) - 1} more were {what}"
