"""Tables of image files and their classes: this package's, and the NIPS 2017 competition's.

The competition's labels are 1..1000; this is where they become 0-based classes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional

from hgd_tf.data.images import CropBox
from hgd_tf.data.listing import visible_files
from hgd_tf.data.tables import Table
from hgd_tf.errors import DataError

LABELS = range(1, 1001)
COMPETITION_COLUMNS = ("ImageId", "TrueLabel")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")


class LabeledFile(NamedTuple):
    """An image file, its class (0-based; -1: unknown) and the part of it that counts (None: all)."""

    path: Path
    label: int
    crop_box: Optional[CropBox] = None


def files_of_table(
    table: Table, folder: Optional[Path], classes: Optional[int], crop_boxes: bool = False
) -> list[LabeledFile]:
    """The image files that a table names.

    Args:
      table: with the columns `file` (relative to the table) and `label` (0-based); then they are sorted by path. Or
        with the competition's `ImageId`, a file's name without ending, and `TrueLabel` (1..1000); then they are in the
        table's order, without those that have no file.
      folder: only its files count; the competition's table needs one. None: all.
      classes: of the classifier; None: any.
      crop_boxes: whether the competition's boxes are to be cut out. Its download program has done that already.

    Raises:
      DataError: the table is malformed, or a class is beyond the classifier's.
    """
    if table.has(*COMPETITION_COLUMNS):
        if folder is None:
            raise DataError(f"{table.path} is the competition's table: expected the folder of its images, and `labels`")
        return _competition_files(table, folder, classes, crop_boxes)
    if crop_boxes:
        raise DataError(f"{table.path}: `crop_boxes` cuts out those of the competition's table, received another one")
    files = []
    for where, (file, label) in table.rows("file", "label"):
        path = table.path.parent / file
        number = _checked(to_number(label, where), classes, where)
        if folder is None or _lies_in(path, folder):
            files.append(LabeledFile(path, number))
    return sorted(files)


def _lies_in(path: Path, folder: Path) -> bool:
    """By its name, or where links lead."""
    return any(Path(of(path)).is_relative_to(of(folder)) for of in (os.path.abspath, os.path.realpath))


def _competition_files(table: Table, folder: Path, classes: Optional[int], crop_boxes: bool) -> list[LabeledFile]:
    paths = {path.stem: path for path in visible_files(folder)}
    has_boxes = table.has(*BOX_COLUMNS)
    rows = table.rows(*COMPETITION_COLUMNS, *(BOX_COLUMNS if has_boxes or crop_boxes else ()))
    files = []
    for where, (image_id, label, *edges) in rows:
        number = _checked(to_class(label, where), classes, where)
        box = _crop_box(edges, where) if edges else None
        if image_id in paths:
            files.append(LabeledFile(paths[image_id], number, box if crop_boxes else None))
    return files


def _crop_box(edges: list[str], where: str) -> CropBox:
    try:
        return CropBox(*map(float, edges))
    except ValueError:
        raise DataError(f"{where}: expected a crop box of four numbers") from None


def to_number(text: str, where: str) -> int:
    """A class's number.

    Raises:
      DataError: it is none; the message starts with `where`.
    """
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{where}: expected a class's number, received {text!r}")
    return int(text)


def to_class(label: str, where: str) -> int:
    """The 0-based class of a competition label.

    Raises:
      DataError: it is no integer of 1..1000; the message starts with `where`.
    """
    text = label.strip()
    if not (text.isascii() and text.isdigit()) or int(text) not in LABELS:
        raise DataError(f"{where}: expected a label of 1..1000, received {label!r}")
    return int(text) - LABELS.start


def _checked(number: int, classes: Optional[int], where: str) -> int:
    if classes is not None and number >= classes:
        raise DataError(f"{where}: expected a class of 0..{classes - 1}, as the classifier has, received {number}")
    return number
