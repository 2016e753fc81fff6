"""Classified images of one's own as a dataset in the competition's format."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Optional

import numpy as np
from tqdm import tqdm

from hgd_tf.competition.attacked_dataset import COLUMNS
from hgd_tf.competition.files import LABELS
from hgd_tf.data.images import read_image, write_image
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.errors import DataError
from hgd_tf.files import replacing

IMAGES_FOLDER, TABLE_FILE = "images", "dataset.csv"


def make_dataset(data_dir: str, labels: Optional[str], output_dir: str, count: int, image_size: int, seed: int) -> None:
    """Writes the dataset; its table is written last.

    Args:
      data_dir, labels: as in `labeled_files`.
      output_dir: the folder.
      count: number of images.
      image_size: their side; they are resized bilinearly.
      seed: of which images, and of the target classes.

    Raises:
      DataError: there are fewer images, two have one name, or one cannot be read.
    """
    files = labeled_files(data_dir, labels)
    if len(files) < count:
        raise DataError(f"{data_dir}: expected {count} images, received {len(files)}")
    rng = np.random.default_rng(seed)
    chosen = [files[number] for number in sorted(rng.choice(len(files), count, replace=False))]
    if len({file.path.stem for file in chosen}) < count:
        raise DataError(f"{data_dir}: expected images of different names, whatever their folders")
    others = rng.integers(1, len(LABELS), count)
    rows = []
    for file, other in zip(tqdm(chosen, desc="writing", unit="img", mininterval=1), others):
        pixels = read_image(file.path, channels=3, image_size=image_size)
        write_image(Path(output_dir) / IMAGES_FOLDER / f"{file.path.stem}.png", pixels)
        target = (file.label + other) % len(LABELS)
        rows.append((file.path.stem, file.label + LABELS.start, target + LABELS.start))
    with (
        replacing(Path(output_dir) / TABLE_FILE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as table,
    ):
        csv.writer(table).writerows([COLUMNS, *rows])
