"""The images of a tournament: a folder of PNG files and the competition's table of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

from hgd_tf.competition.checksums import checksum
from hgd_tf.competition.files import DATASET_COLUMNS, LABELS, to_class
from hgd_tf.data.images import decode_image
from hgd_tf.data.listing import visible_files
from hgd_tf.data.tables import Table
from hgd_tf.errors import DataError

ENDING = ".png"


class DatasetImage(NamedTuple):
    """An image: its identifier, its file and that file's checksum, its labels in 1..1000."""

    image_id: str
    path: Path
    checksum: str
    true_label: int
    target_class: int


class Dataset(NamedTuple):
    """The images that are in the folder and in the table, by name; names of files that the table does not have."""

    images: list[DatasetImage]
    unlabeled: list[str]


def load_dataset(images_dir: Union[str, Path], table: Union[str, Path]) -> Dataset:
    """Lists images and their labels; rows of the table without a file are passed over.

    Raises:
      DataError: folder or table is missing or malformed, they have nothing in common, or a file is no image.
    """
    if not Path(images_dir).is_dir():
        raise DataError(f"no such folder of images: {images_dir}")
    paths = [path for path in visible_files(Path(images_dir).resolve()) if path.suffix == ENDING and path.is_file()]
    if not paths:
        raise DataError(f"no {ENDING} files in {images_dir}")
    labels = dict(_labels(Path(table)))
    images = [
        DatasetImage(path.stem, path, checksum(path), *labels[path.stem]) for path in paths if path.stem in labels
    ]
    if not images:
        raise DataError(
            f"{table}: expected ImageIds of the images in {images_dir}, such as {paths[0].stem}, found none"
        )
    for image in images:
        decode_image(image.path)
    return Dataset(images, [path.name for path in paths if path.stem not in labels])


def _labels(table: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    if not table.is_file():
        raise DataError(f"no such table of labels: {table}")
    for where, (image_id, *labels) in Table(table).rows(*DATASET_COLUMNS):
        true_label, target_class = (to_class(label, where) + LABELS.start for label in labels)
        yield image_id, (true_label, target_class)
