"""The NIPS 2017 competition's files beside images; its labels become 0-based classes in hgd_tf/data/label_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from hgd_tf.data.label_tables import LABELS, to_class
from hgd_tf.data.tables import read_rows
from hgd_tf.errors import DataError

__all__ = ["DATASET_COLUMNS", "LABELS", "TARGET_CLASSES_FILE", "target_classes", "to_class"]

TARGET_CLASSES_FILE = "target_class.csv"
DATASET_COLUMNS = ("ImageId", "TrueLabel", "TargetClass")


def target_classes(input_dir: Union[str, Path]) -> dict[str, int]:
    """What a targeted attack is to reach: by file name, the 0-based class from `target_class.csv`.

    Raises:
      DataError: the file is missing or malformed.
    """
    path = Path(input_dir) / TARGET_CLASSES_FILE
    if not path.is_file():
        raise DataError(f"no such file: {path} (a targeted attack reads its classes there, a line NAME.png,LABEL each)")
    classes = {}
    for where, cells in read_rows(path):
        if len(cells) < 2:
            raise DataError(f"{where}: expected NAME.png,LABEL, received {cells[0]!r}")
        classes[cells[0]] = to_class(cells[1], where)
    return classes
