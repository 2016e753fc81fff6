"""TensorFlow checkpoints: V1 and V2, bare, in a folder, or in the archive in which TF-Slim's are published."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from hgd_tf.errors import CheckpointError, first_line

ARCHIVES = (".tar.gz", ".tgz", ".tar")
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, OSError, IndexError)  # the reader's are not OpErrors alone


class TensorFlowCheckpoint(Mapping):
    """The variables of a checkpoint by name, each read when it is asked for.

    Args:
      prefix: of a V2 checkpoint's files, or a V1 checkpoint's only file.

    Raises:
      CheckpointError: it is damaged or no checkpoint; also on access.
    """

    def __init__(self, prefix: Path):
        self._prefix = prefix
        try:
            self._reader = tf.train.load_checkpoint(str(prefix))
            self.shapes = {name: tuple(shape) for name, shape in self._reader.get_variable_to_shape_map().items()}
        except READ_ERRORS as error:
            raise CheckpointError(f"{prefix} is damaged or no TensorFlow checkpoint: {first_line(error)}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        try:
            return self._reader.get_tensor(name)
        except READ_ERRORS as error:
            raise CheckpointError(f"{self._prefix}: cannot read {name}: {first_line(error)}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@contextlib.contextmanager
def open_tensorflow(path: Path) -> Iterator[TensorFlowCheckpoint]:
    """Opens a checkpoint, given by its prefix, any of its files, its folder or its archive.

    An archive is unpacked into a temporary folder for the while.

    Raises:
      CheckpointError: there is none, or several, or it is damaged.
    """
    if not path.name.endswith(ARCHIVES):
        yield TensorFlowCheckpoint(find_checkpoint(path))
        return
    with tempfile.TemporaryDirectory(prefix="hgd_tf_") as folder:
        _unpack(path, Path(folder))
        try:
            prefix = find_checkpoint(Path(folder))
        except CheckpointError as error:
            raise CheckpointError(f"{path} holds no single TensorFlow checkpoint") from error
        yield TensorFlowCheckpoint(prefix)


def find_checkpoint(path: Path) -> Path:
    """The prefix (V2) or file (V1) of the one checkpoint that `path` names or, as a folder, holds.

    Raises:
      CheckpointError: there is none, or more than one.
    """
    if path.is_dir():
        found = sorted(_prefixes(path))
        if len(found) != 1:
            names = ", ".join(prefix.name for prefix in found) or "none"
            raise CheckpointError(f"expected one TensorFlow checkpoint in {path}, found {names}")
        return found[0]
    prefix = path.with_suffix("") if path.suffix in (".index", ".meta") or ".data-" in path.suffix else path
    if prefix.with_name(prefix.name + ".index").is_file() or prefix.is_file():
        return prefix
    raise CheckpointError(f"no TensorFlow checkpoint at {path}: expected {prefix.name}.index, or a file {prefix.name}")


def _prefixes(folder: Path) -> set[Path]:
    """V2 checkpoints have an index beside their data; a V1 checkpoint is a file that ends in .ckpt."""
    indices = {path.with_suffix("") for path in folder.rglob("*.index")}
    return indices | {path for path in folder.rglob("*.ckpt") if path.is_file()}


def _unpack(archive: Path, folder: Path) -> None:
    """The archive's plain files, without their folders, so that no name leads out of `folder`."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if source is not None:
                    with open(folder / PurePosixPath(member.name).name, "wb") as target:
                        shutil.copyfileobj(source, target)
    except FileNotFoundError:
        raise CheckpointError(f"no such file: {archive}") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise CheckpointError(f"{archive} is truncated or no archive: {error}") from error
    except OSError as error:  # gzip's own errors are OSErrors too
        if error.errno is not None:
            raise
        raise CheckpointError(f"{archive} is truncated or no archive: {error}") from error
