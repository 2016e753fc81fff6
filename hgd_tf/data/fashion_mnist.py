"""Fashion-MNIST: a subset inside the package, the whole set where the user has its four files."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Optional, Union

import numpy as np

from hgd_tf.data.splits import LabeledImages, Splits
from hgd_tf.errors import DataError

SUBSET_FILE = Path(__file__).parent / "fashion_mnist_subset.npz"
IMAGE_SIZE = 28
CLASSES = 10
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FILES = ("{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz")  # of train and t10k
TRAIN_COUNT = 55_000  # of the 60,000 training images; the other 5,000 are validation images
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049


def load_fashion_mnist(data_dir: Optional[str] = None) -> Splits:
    """Fashion-MNIST (Xiao et al. 2017), whole or the embedded subset.

    Args:
      data_dir: folder of the four published `*-ubyte.gz` files: 55,000 training, 5,000 validation and 10,000 test
        images. None: the subset in this package, 8,000, 1,000 and 2,000 of the same parts.

    Returns:
      The splits. Test images come from the published test file only.

    Raises:
      DataError: the folder or a file in it is missing, truncated or not in the IDX format.
    """
    if data_dir is None:
        return _load_subset()
    train = _read_pair(Path(data_dir), "train")
    return Splits(
        "fashion_mnist",
        train=LabeledImages(train.images[:TRAIN_COUNT], train.labels[:TRAIN_COUNT]),
        validation=LabeledImages(train.images[TRAIN_COUNT:], train.labels[TRAIN_COUNT:]),
        test=_read_pair(Path(data_dir), "t10k"),
    )


def has_fashion_mnist(folder: Union[str, Path]) -> bool:
    """Whether any of the four files is there, so that missing ones are named."""
    return any((Path(folder) / file.format(prefix)).exists() for prefix in ("train", "t10k") for file in FILES)


def _load_subset() -> Splits:
    try:
        with np.load(SUBSET_FILE) as arrays:
            parts = {
                part: LabeledImages(
                    arrays[f"{part}_images"][..., np.newaxis], arrays[f"{part}_labels"].astype(np.int64)
                )
                for part in ("train", "validation", "test")
            }
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{SUBSET_FILE} is not the data file that this package ships ({error}); reinstall it"
        ) from error
    return Splits("fashion_mnist_subset", **parts)


def _read_pair(data_dir: Path, prefix: str) -> LabeledImages:
    images = _read_idx(data_dir / FILES[0].format(prefix), _IMAGES_MAGIC)
    labels = _read_idx(data_dir / FILES[1].format(prefix), _LABELS_MAGIC)
    if len(images) != len(labels):
        raise DataError(f"{data_dir}: {len(images)} {prefix} images but {len(labels)} labels")
    return LabeledImages(images[..., np.newaxis], labels.astype(np.int64))


def _read_idx(path: Path, magic: int) -> np.ndarray:
    """Reads an IDX file of unsigned bytes: big-endian magic (its last byte the rank), the dimensions, the data."""
    if not path.is_file():
        raise DataError(
            f"missing file: {path} (expected the files of Fashion-MNIST, or train/CLASS/FILE, in that folder)"
        )
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is truncated or no gzip file: {error}") from error
    rank = magic % 256
    header = struct.calcsize(f">{1 + rank}I")
    found, *shape = struct.unpack_from(f">{1 + rank}I", content) if len(content) >= header else (None, 0)
    if found != magic:
        raise DataError(f"{path}: expected an IDX file with magic number {magic}, received {found}")
    if len(content) - header != np.prod(shape):
        raise DataError(f"{path}: expected {np.prod(shape)} bytes for shape {shape}, received {len(content) - header}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
