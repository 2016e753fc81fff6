"""Files of the project's root that the package brings: flag files, and descriptions of ensembles.

They stand at the root of a clone; in an installed package, in `bundled_files/`, where setup.py copies them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

PATTERNS = ("*.flags", "submission/models.json", "submission/fast.json", "submission/paper.json")
COPIES = "bundled_files"

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = _PACKAGE / COPIES if (_PACKAGE / COPIES).is_dir() else _PACKAGE.parent


def bundled_names(pattern: str) -> list[str]:
    """Paths below the root, as they are typed there, of the files of one of `PATTERNS`."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.glob(pattern))


def bundled(path: Union[str, Path]) -> Path:
    """`path`, or where nothing is, the file that the package has under it; `path` where there is none either."""
    path = Path(path)
    names = [name for pattern in PATTERNS for name in bundled_names(pattern)]
    return FOLDER / path if not path.exists() and path.as_posix() in names else path
