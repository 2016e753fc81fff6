"""The NIPS 2017 competition's files. Its labels are 1..1000; this is where they become 0-based classes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from hgd_tf.data.images import CropBox
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.errors import DataError

LABELS = range(1, 1001)
TABLE_COLUMNS = ("ImageId", "x1", "y1", "x2", "y2", "TrueLabel", "TargetClass")
TARGET_CLASSES_FILE = "target_class.csv"


def is_competition_table(table: Union[str, Path]) -> bool:
    """Whether a CSV file has the columns of the competition's DEV and FINAL sets."""
    with open(table, newline="", encoding="utf-8") as lines:
        return set(TABLE_COLUMNS) <= set(next(csv.reader(lines), ()))


def competition_files(
    data_dir: Union[str, Path], table: Union[str, Path], crop_boxes: bool = False
) -> list[LabeledFile]:
    """The images of the competition's table, in its order; those without a file are passed over.

    Args:
      data_dir: folder of the images, each named by its ImageId.
      table: CSV with at least the columns of `TABLE_COLUMNS`.
      crop_boxes: whether the images are the originals, of which the table's boxes are to be cut out. The organizers'
        download program has done that already.

    Raises:
      DataError: the table is malformed.
    """
    files = {path.stem: path for path in sorted(Path(data_dir).iterdir()) if path.is_file()}
    found = []
    with open(table, newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            where = f"{table}, line {rows.line_num}"
            label = to_class(row["TrueLabel"], where)
            try:
                box = CropBox(*(float(row[column]) for column in ("x1", "y1", "x2", "y2")))
            except (TypeError, ValueError):
                raise DataError(f"{where}: expected a crop box of four numbers") from None
            if row["ImageId"] in files:
                found.append(LabeledFile(files[row["ImageId"]], label, box if crop_boxes else None))
    return found


def target_classes(input_dir: Union[str, Path]) -> dict[str, int]:
    """What a targeted attack is to reach: by file name, the 0-based class from `target_class.csv`.

    Raises:
      DataError: the file is missing or malformed.
    """
    path = Path(input_dir) / TARGET_CLASSES_FILE
    if not path.is_file():
        raise DataError(f"no such file: {path} (a targeted attack reads its classes there, a line NAME.png,LABEL each)")
    with open(path, newline="", encoding="utf-8") as lines:
        return dict(_named_classes(lines, path))


def _named_classes(lines, path: Path) -> Iterator[tuple[str, int]]:
    for number, row in enumerate(csv.reader(lines), 1):
        if row:
            if len(row) < 2:
                raise DataError(f"{path}, line {number}: expected NAME.png,LABEL, received {','.join(row)!r}")
            yield row[0], to_class(row[1], f"{path}, line {number}")


def to_class(label: str, where: str) -> int:
    """The 0-based class of a competition label.

    Raises:
      DataError: it is no integer of 1..1000; the message starts with `where`.
    """
    if not (label or "").strip().isdigit() or int(label) not in LABELS:
        raise DataError(f"{where}: expected a label of 1..1000, received {label!r}")
    return int(label) - LABELS.start
