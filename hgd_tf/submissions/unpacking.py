"""Archives of submissions, unpacked without trusting them."""

from __future__ import annotations

import functools
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Callable, NamedTuple, Optional

from hgd_tf.errors import DataError

IGNORED = "__MACOSX"
ENDINGS = (".tar.gz", ".tar", ".zip")


class _Entry(NamedTuple):
    """A member of an archive.

    Attributes:
      size: in bytes, unpacked.
      mode: of the file, and its type.
    """

    name: str
    size: int
    mode: int
    open: Callable[[], Optional[IO[bytes]]]


def kind_of(path: Path) -> str:
    """`directory`, or the archive's kind by its name's ending.

    Raises:
      DataError: it does not exist, or is neither.
    """
    if path.is_dir():
        return "directory"
    if not path.is_file():
        raise DataError(f"no such file or directory: {path}")
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return ending.lstrip(".")
    raise DataError(f"expected a directory or a name that ends in {', '.join(ENDINGS)}, received {path.name}")


def unpack(path: Path, folder: Path, limit: int) -> int:
    """Unpacks an archive, or copies a directory, into a folder.

    Args:
      path: as `kind_of` admits it.
      folder: empty.
      limit: in bytes, on all files together.

    Returns:
      The bytes of all files.

    Raises:
      DataError: it is damaged or too large, or an entry leads out of the folder or is neither file nor directory.
    """
    kind = kind_of(path)
    if kind == "directory":
        return _copy(path, folder, limit)
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                return _extract(list(_zip_entries(archive)), folder, limit)
        with tarfile.open(path, "r:gz" if kind == "tar.gz" else "r:") as archive:
            return _extract(list(_tar_entries(archive)), folder, limit)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"it cannot be unpacked: {error}") from error


def submission_root(folder: Path) -> Path:
    """The folder itself; or, where it holds nothing but one folder, that one."""
    content = [path for path in folder.iterdir() if path.name != IGNORED]
    return content[0] if len(content) == 1 and content[0].is_dir() else folder


def _copy(directory: Path, folder: Path, limit: int) -> int:
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    _check_size(size, limit)
    shutil.copytree(directory, folder, dirs_exist_ok=True)
    return size


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if not stat.S_IFMT(mode):  # written by a system that has no modes
            mode |= stat.S_IFDIR if info.is_dir() else stat.S_IFREG
        yield _Entry(info.filename, info.file_size, mode, functools.partial(archive.open, info))


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for info in archive.getmembers():
        kind = stat.S_IFREG if info.isreg() else stat.S_IFDIR if info.isdir() else stat.S_IFLNK
        yield _Entry(info.name, info.size, info.mode | kind, functools.partial(archive.extractfile, info))


def _extract(entries: Sequence[_Entry], folder: Path, limit: int) -> int:
    """Writes the entries; all are checked before the first is written."""
    entries = [entry for entry in entries if IGNORED not in PurePosixPath(entry.name).parts[:1]]
    for entry in entries:
        _check_place(entry)
    size = sum(entry.size for entry in entries)
    _check_size(size, limit)
    for entry in entries:
        target = folder / PurePosixPath(entry.name)
        if stat.S_ISDIR(entry.mode):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with entry.open() as content, open(target, "wb") as file:  # type: ignore[union-attr]
            shutil.copyfileobj(content, file)  # type: ignore[arg-type]
        target.chmod(stat.S_IMODE(entry.mode) & 0o777 | stat.S_IRUSR)
    return size


def _check_place(entry: _Entry) -> None:
    place = PurePosixPath(entry.name)
    if place.is_absolute() or ".." in place.parts or "\\" in entry.name:
        raise DataError(f"the entry {entry.name!r} leads out of the submission")
    if not (stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode)):
        raise DataError(f"the entry {entry.name!r} is neither file nor directory: links are not followed")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise DataError(f"it has {size} bytes unpacked; {limit} are admitted")
