"""Where files of weights lie."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Optional, Union

DIRECTORY_VARIABLE = "HGD_CHECKPOINTS"
DEFAULT_DIRECTORY = "~/.cache/hgd_tf/checkpoints"

_chosen: Optional[Path] = None


def set_checkpoint_directory(directory: Union[str, Path, None]) -> None:
    """Where this process looks for published weights from now on, whatever $HGD_CHECKPOINTS says; None: as it says."""
    global _chosen
    _chosen = None if directory is None else Path(directory)


def chosen_directory() -> Optional[Path]:
    """What `set_checkpoint_directory` was told, absolute: for processes that this one starts, to be told as well."""
    return _chosen and _chosen.expanduser().absolute()


def checkpoint_directory(directory: Union[str, Path, None] = None) -> Path:
    """The folder that is named, else the one that was set, else $HGD_CHECKPOINTS, else one in the user's cache."""
    return Path(directory or _chosen or os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY).expanduser()


def package_file(package: str, pattern: str) -> Optional[Path]:
    """The file of that pattern in an installed Python package, which is not imported; None: there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    found = (path for root in spec.submodule_search_locations for path in sorted(Path(root).rglob(pattern)))
    return next(found, None)


def first_present(directory: Path, patterns: list[str]) -> Optional[Path]:
    """The first file or folder of those names, or a V2 checkpoint's prefix; globs are admitted. None: none is there."""
    for pattern in patterns:
        for path in sorted(directory.glob(pattern)):
            return path
        for index in sorted(directory.glob(f"{pattern}.index")):
            return index.with_suffix("")
    return None
