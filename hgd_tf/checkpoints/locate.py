"""Where files of weights lie."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Optional, Union

DIRECTORY_VARIABLE = "HGD_CHECKPOINTS"
DEFAULT_DIRECTORY = "~/.cache/hgd_tf/checkpoints"


def checkpoint_directory(directory: Union[str, Path, None] = None) -> Path:
    """The folder that is named, else $HGD_CHECKPOINTS, else one in the user's cache."""
    return Path(directory or os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY).expanduser()


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
