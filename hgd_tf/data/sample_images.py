"""Twelve photographs in this package, by the names that flags take: `samples`, all of them; `sample:NAME`, one.

Where a file or folder of such a name lies, it is meant. Who took the photographs: sample_images/ATTRIBUTION.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np

from hgd_tf.data.images import read_image
from hgd_tf.data.label_tables import LabeledFile, files_of_table
from hgd_tf.data.splits import LabeledImages
from hgd_tf.data.tables import Table
from hgd_tf.errors import DataError

SAMPLES, SAMPLE = "samples", "sample"
FOLDER = Path(__file__).parent / "sample_images"
TABLE = FOLDER / "labels.csv"


def load_samples() -> LabeledImages:
    """The sample images, uint8 (12, 299, 299, 3), and their 0-based ImageNet classes, int64 (12,); sorted by name."""
    files = sample_files(SAMPLES)
    images = np.concatenate([read_image(file.path, 3) for file in files])
    return LabeledImages(images, np.array([file.label for file in files], np.int64))


def names_samples(images: Union[str, Path]) -> bool:
    """Whether it is `samples` or `sample:…`, and no file or folder of that name lies there."""
    return (str(images) == SAMPLES or str(images).startswith(f"{SAMPLE}:")) and not Path(images).exists()


def sample_files(images: str) -> list[LabeledFile]:
    """The files that `samples` or `sample:NAME` names, with their classes.

    Raises:
      DataError: there is none of that name; the message lists the names.
    """
    files = {f"{SAMPLE}:{file.path.stem}": file for file in files_of_table(Table(TABLE), None, None)}
    if images == SAMPLES:
        return list(files.values())
    if images not in files:
        names = ", ".join(file.path.stem for file in files.values())
        raise DataError(f"expected {SAMPLE}:NAME, where NAME is one of {names}; received {images!r}")
    return [files[images]]


def images_path(images: str) -> Path:
    """The path of an image file or a folder of them: what it says, or where the samples of such a name lie.

    Raises:
      DataError: there is no sample of that name.
    """
    if not names_samples(images):
        return Path(images)
    return FOLDER if images == SAMPLES else sample_files(images)[0].path
