"""Entries of the competition: directories with a metadata.json and a program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Union

from hgd_tf.competition.checksums import checksum, digest, files_below
from hgd_tf.errors import DataError

METADATA_FILE = "metadata.json"
FIELDS = ("type", "container", "container_gpu", "entry_point")
ATTACK, TARGETED_ATTACK, DEFENSE = TYPES = ("attack", "targeted_attack", "defense")
CONTAINER, CONTAINER_GPU = "tensorflow/tensorflow:2.15.0", "tensorflow/tensorflow:2.15.0-gpu"
# Python writes these beside what it imports; they say nothing new about an entry.
CACHE_FOLDER = "__pycache__"


class Entry(NamedTuple):
    """A directory that takes part.

    Attributes:
      type: a name of `TYPES`.
      directory: absolute.
      entry_point: the program, absolute.
      digest: of the directory's files.
    """

    name: str
    type: str
    directory: Path
    entry_point: Path
    digest: str

    def is_unchanged(self) -> bool:
        """Whether the directory holds what it held when it was read."""
        return directory_digest(self.directory) == self.digest


def metadata_json(kind: str, entry_point: str) -> str:
    """The content of the metadata.json of one of this project's entries."""
    fields = dict(zip(FIELDS, (kind, CONTAINER, CONTAINER_GPU, entry_point)))
    return json.dumps(fields, indent=2) + "\n"


def load_entries(folders: Sequence[Union[str, Path]], types: Sequence[str], names: Sequence[str] = ()) -> list[Entry]:
    """Reads the entries of folders, by name; directories of other types or without metadata.json are no entries.

    Args:
      folders: each holds a directory an entry.
      types: those of `TYPES` that count.
      names: the only ones to take; none: all.

    Raises:
      DataError: a folder is missing, there is no entry or not one of the names, two have one name, or an entry could
        not be run.
    """
    entries: dict[str, Entry] = {}
    for directory in _directories(folders):
        if (directory / METADATA_FILE).is_file() and (not names or directory.name in names):
            metadata = _metadata(directory / METADATA_FILE)
            if metadata["type"] in types:
                other = entries.setdefault(directory.name, _entry(directory, metadata))
                if other.directory != directory:
                    raise DataError(f"expected entries of different names, received {other.directory} and {directory}")
    where, kinds = ", ".join(map(str, folders)), " or ".join(types)
    if not entries:
        among = f", among {', '.join(names)}," if names else ""
        raise DataError(f"{where}: expected directories with a {METADATA_FILE} of type {kinds}{among} found none")
    for name in names:
        if name not in entries:
            raise DataError(f"{where}: expected an entry {name!r} of type {kinds}, found {', '.join(entries)}")
    return [entries[name] for name in sorted(entries)]


def _directories(folders: Sequence[Union[str, Path]]) -> Iterator[Path]:
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(f"no such folder of entries: {folder}")
        yield from sorted(Path(folder).resolve().iterdir())


def directory_digest(directory: Path) -> str:
    """Of the names and contents of all files."""
    files = ((path.relative_to(directory), path) for path in files_below(directory))
    return digest({str(name): checksum(path) for name, path in files if CACHE_FOLDER not in name.parts})


def _metadata(path: Path) -> dict[str, str]:
    try:
        metadata = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{path}: expected an object with the fields {', '.join(FIELDS)}, received {metadata!r}")
    missing = [field for field in FIELDS if not isinstance(metadata.get(field), str)]
    if missing:
        raise DataError(
            f"{path}: expected texts in the fields {', '.join(FIELDS)}, received none in {', '.join(missing)}"
        )
    if metadata["type"] not in TYPES:
        raise DataError(f"{path}: expected a type of {', '.join(TYPES)}, received {metadata['type']!r}")
    return metadata


def _entry(directory: Path, metadata: dict[str, str]) -> Entry:
    entry_point = directory / metadata["entry_point"]
    if not entry_point.is_file() or not entry_point.resolve().is_relative_to(directory):
        raise DataError(
            f"{directory / METADATA_FILE}: expected as entry_point a file of this directory, "
            f"received {metadata['entry_point']!r}"
        )
    if not os.access(entry_point, os.X_OK):
        mode = entry_point.stat().st_mode & 0o777
        raise DataError(f"{entry_point}: expected a program with its run bit set (chmod +x), received mode {mode:o}")
    return Entry(directory.name, metadata["type"], directory, entry_point, directory_digest(directory))
