"""Images of the user's own: a folder a part, a folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np

from hgd_tf.data.labeled_files import has_class_folders
from hgd_tf.data.opening import open_images, read_images
from hgd_tf.data.splits import LabeledImages, Splits
from hgd_tf.errors import DataError

PARTS = ("train", "validation", "test")
SHUFFLE_SEED = 0


def has_parts(folder: Union[str, Path]) -> bool:
    """Whether there are `train` and another part, so that a missing one is named; a class may be called `train` too."""
    train, *others = (Path(folder) / part for part in PARTS)
    return train.is_dir() and any(part.is_dir() for part in others)


def load_folder(data_dir: Union[str, Path], image_size: int, channels: int, classes: Optional[int] = None) -> Splits:
    """Reads `PART/CLASS/FILE` with the parts `train`, `validation` and `test`.

    Classes are as in `labeled_files`; the names of their folders mean the same in every part. Images are resized to
    `image_size` x `image_size` (bilinear, antialiased) and stand in a fixed random order, so that the first ones are
    of all classes. Files that are no images are named and left out.

    Raises:
      DataError: a part is missing or holds no image, or its classes are beyond the classifier's or not those of others.
    """
    parts = [Path(data_dir) / part for part in PARTS]
    for part in parts:
        if not has_class_folders(part):
            raise DataError(f"expected a folder a class in {part}, found none")

    def read(part: Path) -> LabeledImages:
        source = open_images(part, image_size, channels, classes=classes, beside=parts)
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(source.labels))
        return read_images(source, order, f"reading {part.name}")

    return Splits(Path(data_dir).name, *map(read, parts))
