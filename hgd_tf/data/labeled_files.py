"""Image files with their ImageNet classes, from a table or from their folders' names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple, Optional, Union

from hgd_tf.data.images import CropBox
from hgd_tf.data.splits import UNKNOWN
from hgd_tf.errors import DataError

IMAGENET_CLASSES_FILE = Path(__file__).parent / "imagenet_classes.txt"


class LabeledFile(NamedTuple):
    """An image file, its class (0-based; -1: unknown) and the part of it that counts (None: all)."""

    path: Path
    label: int
    crop_box: Optional[CropBox] = None


def imagenet_classes() -> list[str]:
    """ImageNet's thousand WordNet identifiers (n01440764, …), whose order numbers the classes."""
    return IMAGENET_CLASSES_FILE.read_text(encoding="ascii").split()


def labeled_files(data_dir: Union[str, Path], labels: Union[str, Path, None] = None) -> list[LabeledFile]:
    """Lists image files with their classes, sorted by path.

    Args:
      data_dir: a folder of images.
      labels: a CSV table with the columns `file` (relative to the table) and `label` (0-based); rows of files outside
        `data_dir` are passed over. None: `data_dir` holds a folder a class, named by WordNet identifier or number;
        hidden folders are passed over.

    Raises:
      DataError: folder or table is missing, a class is unknown, or there are no images.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise DataError(f"no such folder of images: {root}")
    files = _from_folders(root) if labels is None else _from_table(root, Path(labels))
    if not files:
        raise DataError(f"no labelled images in {root}")
    return sorted(files)


def unlabeled_files(data_dir: Union[str, Path]) -> list[LabeledFile]:
    """Lists the files that lie in a folder, sorted by name, of unknown class; hidden ones are passed over.

    Raises:
      DataError: the folder is missing or holds no file.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise DataError(f"no such folder of images: {root}")
    files = [LabeledFile(path, UNKNOWN) for path in sorted(root.iterdir()) if path.is_file() and path.name[0] != "."]
    if not files:
        raise DataError(f"no images in {root}")
    return files


def _from_folders(root: Path) -> list[LabeledFile]:
    numbers = {name: number for number, name in enumerate(imagenet_classes())}
    files = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != "."):
        label: Optional[int] = int(folder.name) if folder.name.isdigit() else numbers.get(folder.name)
        if label is None:
            raise DataError(
                f"{folder}: expected a WordNet identifier such as n01440764, or a class's number, as its name"
            )
        files += [LabeledFile(path, label) for path in folder.iterdir() if path.is_file()]
    return files


def _from_table(root: Path, table: Path) -> list[LabeledFile]:
    if not table.is_file():
        raise DataError(f"no such table of labels: {table}")
    files = []
    with open(table, newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise DataError(f"{table}: expected columns file and label, received {', '.join(rows.fieldnames or ())}")
        for row in rows:
            path = table.parent / row["file"]
            if not (row["label"] or "").isdigit():
                raise DataError(f"{table}, line {rows.line_num}: expected a class's number, received {row['label']!r}")
            if path.resolve().is_relative_to(root.resolve()):
                files.append(LabeledFile(path, int(row["label"])))
    return files
