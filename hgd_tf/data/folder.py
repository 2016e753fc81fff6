"""Images of the user's own: a folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np
from tqdm import tqdm

from hgd_tf.data.images import read_image
from hgd_tf.data.splits import LabeledImages, Splits
from hgd_tf.errors import DataError

PARTS = ("train", "validation", "test")
SHUFFLE_SEED = 0


def load_folder(data_dir: Union[str, Path], image_size: int, channels: int) -> Splits:
    """Reads `PART/CLASS/FILE` with the parts `train`, `validation` and `test`.

    Classes are numbered in the order of their folders' names, which every part must share. Images are resized to
    `image_size` x `image_size` (bilinear, antialiased) and stand in a fixed random order, so that the first ones are
    of all classes.

    Raises:
      DataError: a part or a class is missing or empty, or a file is no image.
    """
    root = Path(data_dir)
    parts = {part: _class_folders(root / part) for part in PARTS}
    names = [folder.name for folder in parts["train"]]
    for part, folders in parts.items():
        if [folder.name for folder in folders] != names:
            raise DataError(f"{root / part}: expected the class folders of {root / 'train'}, {names}, received others")
    return Splits(root.name, **{part: _read(folders, image_size, channels) for part, folders in parts.items()})


def _class_folders(part: Path) -> list[Path]:
    folders = sorted(path for path in part.iterdir() if path.is_dir()) if part.is_dir() else []
    if not folders:
        raise DataError(f"expected a folder a class in {part}, found none")
    return folders


def _read(folders: list[Path], image_size: int, channels: int) -> LabeledImages:
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    if not files:
        raise DataError(f"no images in the class folders of {folders[0].parent}")
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(files))
    images = np.empty((len(files), image_size, image_size, channels), np.uint8)
    labels = np.empty(len(files), np.int64)
    for place, number in enumerate(tqdm(order, desc=f"reading {folders[0].parent.name}", unit="img", mininterval=1)):
        file, labels[place] = files[number]
        images[place] = read_image(file, channels, image_size)[0]
    return LabeledImages(images, labels)
