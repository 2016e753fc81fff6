"""Classified images of one's own as a dataset in the competition's format."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np
from tqdm import tqdm

from hgd_tf.competition.files import DATASET_COLUMNS, LABELS
from hgd_tf.data.images import write_image
from hgd_tf.data.opening import open_images, tell_left_out
from hgd_tf.data.sources import Source
from hgd_tf.errors import DataError
from hgd_tf.files import replacing

IMAGES_FOLDER, TABLE_FILE = "images", "dataset.csv"


def make_dataset(data_dir: str, labels: Optional[str], output_dir: str, count: int, image_size: int, seed: int) -> None:
    """Writes the dataset; its table is written last. For files that are no images, others are taken.

    Args:
      data_dir, labels: as in `open_images`.
      output_dir: the folder.
      count: number of images.
      image_size: their side; they are resized as in `decode_image`.
      seed: of which images, and of the target classes.

    Raises:
      DataError: there are fewer images, or two have one name.
    """
    source = open_images(data_dir, image_size, 3, labels=labels, classes=len(LABELS), labeled=True)
    if len(source.labels) < count:
        raise DataError(f"{data_dir}: expected {count} images, received {len(source.labels)}")
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(source.labels), count, replace=False).tolist())
    if len({_name(source, number) for number in chosen}) < count:
        raise DataError(f"{data_dir}: expected images of different names, whatever their folders")
    others = rng.integers(1, len(LABELS), count)
    rows = []
    images = zip(_readable(source, chosen), tqdm(others, desc="writing", unit="img", mininterval=1))
    for (number, image), other in images:
        name, label = _name(source, number), int(source.labels[number])
        write_image(Path(output_dir) / IMAGES_FOLDER / f"{name}.png", image)
        rows.append((name, label + LABELS.start, (label + other) % len(LABELS) + LABELS.start))
    if len(rows) < count:
        raise DataError(f"{data_dir}: expected {count} images, only {len(rows)} of its files are some")
    with (
        replacing(Path(output_dir) / TABLE_FILE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as table,
    ):
        csv.writer(table).writerows([DATASET_COLUMNS, *rows])


def _name(source: Source, number: int) -> str:
    return Path(source.origin(number)).stem


def _readable(source: Source, chosen: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The chosen images (1, H, W, C) with their numbers, and others of other names for those that are none."""
    names = {_name(source, number) for number in chosen}
    spare = (number for number in range(len(source.labels)) if _name(source, number) not in names)
    for number in itertools.chain(chosen, spare):
        images = source.read([number]).images
        if len(images):
            yield number, images
        else:
            tell_left_out([source.origin(number)])
