"""Tables that people write: CSV in UTF-8, whatever separator, line ends and case of the header their program has."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

from hgd_tf.errors import DataError

SEPARATORS = ",;\t"
OTHER_CONTENT = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a spreadsheet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
}


class Row(NamedTuple):
    """Cells without the blanks around them, and where they stand, for messages."""

    where: str
    cells: list[str]


class Table:
    """A table with a header, whose columns stand in any order; the case of their names does not matter.

    Args:
      path: of the file.

    Raises:
      DataError: it is missing, or no table in UTF-8.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        header, *self._rows = list(read_rows(path)) or [Row(str(path), [])]
        self.columns = header.cells
        self._places = {name.casefold(): place for place, name in enumerate(header.cells)}

    def has(self, *columns: str) -> bool:
        """Whether there are such columns."""
        return all(column.casefold() in self._places for column in columns)

    def rows(self, *columns: str) -> list[Row]:
        """The cells of some columns; empty where a row has none.

        Raises:
          DataError: the table lacks one of the columns.
        """
        if not self.has(*columns):
            received = ", ".join(self.columns) or "none"
            raise DataError(f"{self.path}: expected columns {', '.join(columns)}, received {received}")
        places = [self._places[column.casefold()] for column in columns]
        return [
            Row(where, [cells[place] if place < len(cells) else "" for place in places]) for where, cells in self._rows
        ]


def read_rows(path: Union[str, Path]) -> Iterator[Row]:
    """The rows of a CSV file that are not blank.

    Raises:
      DataError: it is missing, or no table in UTF-8.
    """
    lines = io.StringIO(_text(Path(path)), newline="")
    first = lines.readline()
    if first.casefold().startswith("sep="):  # Excel's own line before the header
        first = lines.readline()
    rows = csv.reader(io.StringIO(first + lines.read(), newline=""), delimiter=max(SEPARATORS, key=first.count))
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield Row(f"{path}, line {rows.line_num}", cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no such table: {path}") from None
    except OSError as error:
        raise DataError(f"{path} is no table: {error.strerror}") from None
    received = next((kind for start, kind in OTHER_CONTENT.items() if content.startswith(start)), None)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        received = received or f"another encoding in line {line}"
    if received or "\0" in text:
        raise DataError(f"{path}: expected a CSV table in UTF-8, received {received or 'zero bytes'}")
    return text
