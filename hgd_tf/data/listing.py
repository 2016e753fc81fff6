"""What lies in a folder of images, without what systems and programs leave there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from hgd_tf.errors import DataError

# Of Windows, macOS, Synology and Python; that other hidden files begin with a dot is Unix'.
LEFTOVERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "__macosx", "icon\r", "@eadir", "__pycache__"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's images or classes."""
    return name.startswith(".") or name.casefold() in LEFTOVERS


def visible_folders(folder: Union[str, Path]) -> list[Path]:
    """The folders in a folder, sorted by name; links to folders are folders.

    Raises:
      DataError: there is no such folder.
    """
    return [path for path in _visible(folder) if path.is_dir()]


def visible_files(folder: Union[str, Path]) -> list[Path]:
    """The files in a folder, sorted by name; links to files are files, even where those are absent.

    Raises:
      DataError: there is no such folder.
    """
    return [path for path in _visible(folder) if _is_file(path)]


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in its folders, sorted; links are followed, but not in a circle."""
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden(name) and not _is_circle(Path(where, name)))
        yield from (Path(where, name) for name in sorted(files) if not is_hidden(name) and _is_file(Path(where, name)))


def _visible(folder: Union[str, Path]) -> list[Path]:
    if not Path(folder).is_dir():
        raise DataError(f"no such folder of images: {folder}")
    return sorted(path for path in Path(folder).iterdir() if not is_hidden(path.name))


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_circle(path: Path) -> bool:
    return path.is_symlink() and path.absolute().parent.resolve().is_relative_to(path.resolve())
