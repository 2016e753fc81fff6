"""Tables of classes that others made for their attacked images, counted from 0 or from 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Union

import numpy as np

from hgd_tf.data.label_tables import to_number
from hgd_tf.data.splits import UNKNOWN
from hgd_tf.data.tables import Row, Table
from hgd_tf.errors import DataError


class _Format(NamedTuple):
    """A table's columns, and what its classes are usually counted from."""

    columns: tuple[str, str]
    target_column: str
    first: int


FORMATS = (
    _Format(("ImageId", "TrueLabel"), "TargetClass", 1),
    _Format(("filename", "label"), "targeted_label", 0),
    _Format(("file", "label"), "targeted_label", 0),
)


class LabelTable(NamedTuple):
    """Images and their classes.

    Attributes:
      names: of the image files, without folders, with or without ending.
      labels, targets: 0-based, int64 (N,); -1 where a targeted attack has no target.
      first: what the table counts from, 0 or 1.
      reason: why.
    """

    names: list[str]
    labels: np.ndarray
    targets: np.ndarray
    first: int
    reason: str


def read_label_table(path: Union[str, Path], classes: int) -> LabelTable:
    """Reads a table with the columns `filename` (or `file`), `label` and perhaps `targeted_label`, usually from 0; or
    with the NIPS 2017 competition's `ImageId`, `TrueLabel` and perhaps `TargetClass`, usually from 1.

    A 0 among the classes, or one that is the number of classes, proves the other.

    Args:
      classes: of the classifier.

    Raises:
      DataError: the table is malformed or names an image twice, or its classes fit neither count.
    """
    table = Table(path)
    columns, target_column, usual = _format_of(table)
    rows = table.rows(*columns, *([target_column] if table.has(target_column) else []))
    if not rows:
        raise DataError(f"{path}: expected a line for each image, received none")
    names = [PurePosixPath(cells[0].replace("\\", "/")).name for _, cells in rows]
    _check_unique(rows, names)
    labels = np.array([to_number(cells[1], where) for where, cells in rows], np.int64)
    targets = np.array([to_number(cells[2], where) if any(cells[2:]) else UNKNOWN for where, cells in rows], np.int64)
    first, reason = _counted_from([row.where for row in rows], labels, targets, classes)
    if not reason:
        first, reason = usual, f"as tables with the columns {', '.join(columns)} do"
    return LabelTable(names, labels - first, np.where(targets == UNKNOWN, UNKNOWN, targets - first), first, reason)


def _format_of(table: Table) -> _Format:
    for candidate in FORMATS:
        if table.has(*candidate.columns):
            return candidate
    expected = " or ".join(f"{', '.join(one.columns)} (and {one.target_column})" for one in FORMATS[1::-1])
    raise DataError(f"{table.path}: expected columns {expected}, received {', '.join(table.columns) or 'none'}")


def _check_unique(rows: Sequence[Row], names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for (where, _), name in zip(rows, names):
        if not name:
            raise DataError(f"{where}: expected an image's name, received none")
        if name in seen:
            raise DataError(f"{where}: expected every image once, received {name} again, as in {seen[name]}")
        seen[name] = where


def _counted_from(places: Sequence[str], labels: np.ndarray, targets: np.ndarray, classes: int) -> tuple[int, str]:
    """What the classes prove, and how; the reason is empty where they prove nothing."""
    highest = np.maximum(labels, targets)
    if highest.max() > classes:
        raise DataError(
            f"{places[int(highest.argmax())]}: expected a class of 0..{classes - 1}, or of 1..{classes}, as the "
            f"classifier has, received {highest.max()}"
        )
    zeros, tops = (np.flatnonzero((labels == end) | (targets == end)) for end in (0, classes))
    if len(zeros) and len(tops):
        raise DataError(
            f"{places[tops[0]]}: expected classes of 0..{classes - 1}, since {places[zeros[0]]} has a 0, or of "
            f"1..{classes} without it, received {classes}"
        )
    if len(zeros):
        return 0, f"since {places[zeros[0]]} has a 0"
    return (1, f"since {places[tops[0]]} has {classes} of {classes} classes") if len(tops) else (0, "")
