"""The one door to images: what a command's flag names, opened; and read whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Optional, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.data.sample_images import SAMPLE, SAMPLES, names_samples, sample_files
from hgd_tf.data.sources import ArraySource, FileSource, Numbers, Source, SourceImages, TfdsSource
from hgd_tf.data.splits import UNKNOWN, LabeledImages
from hgd_tf.errors import DataError

EMBEDDED, TFDS = "embedded", "tfds"
EMBEDDED_PARTS = ("train", "validation", "test")
BATCH = 64
TOLD = 10  # files that are left out, by name


def open_images(
    images: Union[str, Path],
    image_size: int,
    channels: int,
    *,
    labels: Union[str, Path, None] = None,
    classes: Optional[int] = None,
    labeled: bool = False,
    crop_boxes: bool = False,
    central_fraction: float = 1.0,
    beside: Sequence[Union[str, Path]] = (),
) -> Source:
    """Opens the images that a flag names, to be read at one size.

    Args:
      images: a folder or a table, as in `labeled_files`; `embedded:PART`, of Fashion-MNIST's subset in this package,
        which has a size of its own; `samples` or `sample:NAME`, photographs in this package with their ImageNet
        classes; or `tfds:NAME:SPLIT`, of TensorFlow Datasets. A file or folder of such a name comes first.
      image_size, channels: of what is read.
      labels, classes, crop_boxes, beside: as in `labeled_files`.
      labeled: whether every class must be known.
      central_fraction: of height and width that is kept, around the middle.

    Raises:
      DataError: they are not there, none of them is listed, or their classes are unknown or beyond the classifier's.
    """
    has_prefix = str(images).startswith((f"{EMBEDDED}:", f"{TFDS}:")) and not Path(images).exists()
    if has_prefix or names_samples(images):
        source = _named_source(str(images), image_size, channels, central_fraction)
        if labels is not None:
            raise DataError(f"`labels` goes with a folder of images, received {images}")
    else:
        files = labeled_files(images, labels, classes, crop_boxes=crop_boxes, beside=beside)
        source = FileSource(files, image_size, channels, central_fraction)
    if labeled and np.any(source.labels == UNKNOWN):
        raise DataError(f"no labelled images in {images}: expected a folder a class, or `labels=TABLE.csv`")
    if classes is not None and source.labels.max(initial=UNKNOWN) >= classes:
        raise DataError(
            f"{images}: expected classes of 0..{classes - 1}, as the classifier has, received {source.labels.max()}"
        )
    return source


def _named_source(images: str, image_size: int, channels: int, central_fraction: float) -> Source:
    if names_samples(images):
        return FileSource(sample_files(images), image_size, channels, central_fraction)
    kind, *name, part = images.split(":")
    if kind == EMBEDDED and not name and part in EMBEDDED_PARTS:
        return ArraySource(getattr(load_fashion_mnist(), part), f"fashion_mnist-{part}")
    if kind == TFDS and name:
        return TfdsSource(":".join(name), part, image_size, channels, central_fraction)
    expected = ", ".join(f"{EMBEDDED}:{part}" for part in EMBEDDED_PARTS)
    raise DataError(
        f"expected a folder, a table, {expected}, {SAMPLES}, {SAMPLE}:NAME or {TFDS}:NAME:SPLIT, received {images!r}"
    )


def read_batches(source: Source, batch_size: int, numbers: Optional[Numbers] = None) -> Iterator[SourceImages]:
    """Reads the images of those numbers (None: all), a batch ahead; batches lack those that are no images."""
    numbers = np.arange(len(source.labels)) if numbers is None else np.asarray(numbers)
    parts = [numbers[first : first + batch_size] for first in range(0, len(numbers), batch_size)]
    waiting: list[Future] = []
    with ThreadPoolExecutor(1) as reader:
        for part in parts:
            waiting.append(reader.submit(source.read, part))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def read_images(source: Source, numbers: Optional[Numbers] = None, title: str = "reading images") -> LabeledImages:
    """Reads the images of those numbers (None: all) into memory; those that are none are named and left out.

    Raises:
      DataError: there are some, and none of them is an image.
    """
    numbers = np.arange(len(source.labels)) if numbers is None else np.asarray(numbers, np.int64)
    images = np.empty((len(numbers), *source.image_shape), np.uint8)
    kept: list[int] = []
    disable = not len(numbers)
    with tqdm(total=len(numbers), desc=title, unit="img", mininterval=1, leave=False, disable=disable) as bar:
        for read in read_batches(source, BATCH, numbers):
            images[len(kept) : len(kept) + len(read.numbers)] = read.images
            kept += read.numbers.tolist()
            bar.update(min(BATCH, len(numbers) - bar.n))
    left_out = sorted(set(numbers.tolist()) - set(kept))
    tell_left_out([source.origin(number) for number in left_out])
    if left_out and not kept:
        raise DataError(f"none of {len(numbers)} files is an image, such as {source.origin(left_out[0])}")
    return LabeledImages(images[: len(kept)], source.labels[kept])


def tell_left_out(origins: Sequence[str]) -> None:
    """Names the first of what is left out since it is no image, and counts the others."""
    for origin in origins[:TOLD]:
        tqdm.write(f"left out, no image: {origin}")
    if len(origins) > TOLD:
        tqdm.write(f"left out, no images: {len(origins) - TOLD} more")
