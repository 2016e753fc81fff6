"""Image files with their classes, from a table or from their folders' names."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from hgd_tf.data.label_tables import LabeledFile, files_of_table
from hgd_tf.data.listing import files_below, visible_files, visible_folders
from hgd_tf.data.splits import UNKNOWN
from hgd_tf.data.tables import Table
from hgd_tf.errors import DataError

IMAGENET_CLASSES_FILE = Path(__file__).parent / "imagenet_classes.txt"
SHOWN = 3  # names of folders that are read by position


@functools.lru_cache(maxsize=1)
def imagenet_classes() -> tuple[str, ...]:
    """ImageNet's thousand WordNet identifiers (n01440764, …), whose order numbers the classes."""
    return tuple(IMAGENET_CLASSES_FILE.read_text(encoding="ascii").split())


def labeled_files(
    images: Union[str, Path],
    labels: Union[str, Path, None] = None,
    classes: Optional[int] = None,
    *,
    crop_boxes: bool = False,
    beside: Sequence[Union[str, Path]] = (),
) -> list[LabeledFile]:
    """Lists image files with their classes.

    Args:
      images: a folder with a folder a class in it, a folder of files of unknown class, or a table as `labels`, of which
        all files count. Names of class folders are numbers (0-based), or WordNet identifiers, which mean ImageNet's
        classes; or any others, which stand for the classes by their position in sorted order, and so do identifiers
        where the classifier has too few classes for them. What is hidden (`is_hidden`) is passed over.
      labels: a table as in `files_of_table`; files of the folder that it does not name are passed over.
      classes: of the classifier; None: any.
      crop_boxes: as in `files_of_table`.
      beside: other folders of the same experiment, whose class folders must mean the same.

    Raises:
      DataError: folder or table is missing or malformed, a class is beyond the classifier's, or there are no images.
    """
    root = Path(images)
    if root.is_file():
        if labels is not None:
            raise DataError(f"`labels` goes with a folder of images, received the table {root}")
        files = files_of_table(Table(root), None, classes, crop_boxes)
    elif labels is not None:
        visible_files(root)  # raises where there is no such folder
        files = files_of_table(Table(labels), root, classes, crop_boxes)
    else:
        files = _from_folders(root, classes, beside) or [LabeledFile(path, UNKNOWN) for path in visible_files(root)]
    if not files:
        raise DataError(f"no images in {root}" if labels is None else f"no images in {root} that {labels} names")
    return files


def has_class_folders(images: Union[str, Path]) -> bool:
    """Whether it is a folder with folders in it."""
    return Path(images).is_dir() and bool(visible_folders(images))


def _from_folders(root: Path, classes: Optional[int], beside: Sequence[Union[str, Path]]) -> list[LabeledFile]:
    folders = visible_folders(root)
    if not folders:
        return []
    roots = dict.fromkeys(map(Path, [*beside, root]))
    numbers = _class_numbers([other for other in roots if has_class_folders(other)], classes)
    files = [LabeledFile(path, numbers[folder.name]) for folder in folders for path in files_below(folder)]
    if not files:
        raise DataError(f"no images in the class folders of {root}")
    return sorted(files, key=lambda file: (file.label, file.path))


def _class_numbers(roots: Sequence[Path], classes: Optional[int]) -> dict[str, int]:
    """The classes of all folders of the roots, by name."""
    folders = {folder.name: folder for root in roots for folder in visible_folders(root)}
    names = sorted(folders)
    numbered, identified = [[name for name in names if _kind(name) == kind] for kind in ("number", "identifier")]
    if names == numbered:
        for name in names:
            _check_number(folders[name], classes)
        return {name: int(name) for name in names}
    if names == identified:
        numbers = {name: imagenet_classes().index(name) for name in names}
        if classes is None or max(numbers.values()) < classes:
            return numbers
    elif numbered or identified:
        some = (numbered or identified)[0]
        other = next(name for name in names if _kind(name) != _kind(some))
        raise DataError(
            f"{roots[0]}: expected class folders named by numbers, by ImageNet's WordNet identifiers, or by neither; "
            f"received {folders[some]} beside {folders[other]}"
        )
    return _by_position(roots, names, classes)


def _by_position(roots: Sequence[Path], names: Sequence[str], classes: Optional[int]) -> dict[str, int]:
    for root in roots:
        own = {folder.name for folder in visible_folders(root)}
        odd = next((name for name in names if name not in own), None)
        if odd is not None:
            raise DataError(f"{root}: expected a class folder {odd}, as {_home(roots, odd)} has, whose order counts")
    if classes is not None and len(names) > classes:
        raise DataError(f"{roots[0]}: expected class folders for 0..{classes - 1}, received {len(names)} folders")
    shown = ", ".join(f"{place} = {name}" for place, name in enumerate(names[:SHOWN]))
    more = ", …" if len(names) > SHOWN else ""
    warnings.warn(f"{roots[0]}: classes by the position of their folders: {shown}{more}", stacklevel=2)
    return {name: place for place, name in enumerate(names)}


def _home(roots: Sequence[Path], name: str) -> Path:
    """A root that has a class folder of that name."""
    return next(root for root in roots if (root / name).is_dir())


def _kind(name: str) -> str:
    if name.isascii() and name.isdigit():
        return "number"
    return "identifier" if name in imagenet_classes() else "other"


def _check_number(folder: Path, classes: Optional[int]) -> None:
    if classes is not None and int(folder.name) >= classes:
        raise DataError(f"{folder}: expected a class of 0..{classes - 1}, as the classifier has, as its name")
