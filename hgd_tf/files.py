"""Outputs are complete or absent: written to a temporary name beside their place, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union


@contextlib.contextmanager
def replacing(path: Union[str, Path]) -> Iterator[str]:
    """Yields a temporary path with the same ending, renamed to `path` on success and removed on failure.

    Works for a file and for a folder; what stood at `path` stays until the new one is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield str(temporary)
        if temporary.exists() and path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Union[str, Path]) -> None:
    """Removes what killed processes of this machine left of `replacing`, in the folder and below."""
    for path in Path(folder).rglob(".*.tmp.*"):
        owner = path.name.split(".")[1]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def check_archive(path: Union[str, Path]) -> None:
    """That the members of a zip archive are whole; other files pass. Readers that seek in one miss damage.

    Raises:
      zipfile.BadZipFile: one is damaged.
    """
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except zlib.error as error:
            raise zipfile.BadZipFile(str(error)) from error
        if damaged is not None:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")


def write_json(path: Union[str, Path], value: Any) -> None:
    """Writes `value` as indented JSON."""
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sha256(path: Union[str, Path]) -> str:
    """Of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
