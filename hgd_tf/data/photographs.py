"""Photographs in a folder: split into a part to train on and one to validate on, whole or as random crops."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from PIL import ImageEnhance

from hgd_tf.data.images import CropBox, as_picture, decode_image, pixels_of
from hgd_tf.data.label_tables import LabeledFile
from hgd_tf.data.opening import open_images, read_images, tell_left_out
from hgd_tf.data.sources import FileSource, PartialSource, Source
from hgd_tf.data.splits import UNKNOWN, UNSEEN_TITLE, ClassSplit, LabeledImages, Splits
from hgd_tf.errors import DataError

VALIDATION_SHARE, MOST_VALIDATION = 0.15, 1000
SPLIT_SEED = 0
LARGEST_STRETCH = 4 / 3
LARGEST_PASTED = 0.5
READERS = 2
SIDE_DRAWS = 31  # keeps these draws apart from others of the same seed


class Variety(NamedTuple):
    """How much crops of the same photograph differ.

    Attributes:
      smallest_area: of a crop, as a fraction of the photograph's.
      composed: the share of crops of which a rectangle is replaced by a crop of another photograph, as in CutMix (Yun
        et al. 2019, arXiv 1905.04899); it covers up to half of the image.
      jitter: brightness, contrast and saturation, in this order, are each multiplied by 1 - jitter to 1 + jitter.
    """

    smallest_area: float
    composed: float = 0.0
    jitter: float = 0.0


VARIETIES = {"plain": Variety(0.35), "varied": Variety(0.2, composed=0.5, jitter=0.25)}


class CropShape(NamedTuple):
    """Side in pixels, and number of channels, of the crops."""

    image_size: int
    channels: int


class PhotographSplits(Splits):
    """The splits of `load_photographs`; the training part's files are read when they are asked for.

    Attributes:
      train_files: the training part's, in a random order.
    """

    def __init__(self, name, train_files: Sequence[LabeledFile], shape: CropShape, validation, test):
        super().__init__(name, validation.head(0), validation, test)
        self.train_files = list(train_files)
        self.shape = shape

    @property
    def classes(self) -> int:
        return max(super().classes, 1 + max((file.label for file in self.train_files), default=UNKNOWN))

    def train_images(self, count: Optional[int] = None) -> LabeledImages:
        return read_images(_source(self.train_files[:count], self.shape))


def load_photographs(
    photographs: Union[str, Path, None],
    labels: Union[str, Path, None],
    test_dir: Union[str, Path, None],
    shape: CropShape,
    class_split: Optional[ClassSplit] = None,
    classes: Optional[int] = None,
) -> PhotographSplits:
    """Splits photographs at random: 15 % of them, at most 1000, to validate on, the others to train on.

    Or by their classes: all of some classes to train on, and of the other classes at most 1000 to validate on. Files
    that are no images are named and left out.

    Args:
      photographs: a folder of image files, or of one folder a class, or a table, as in `labeled_files`. None: there are
        test images only.
      labels: table of the classes, as in `labeled_files`. None, and no folders: the classes are unknown, -1.
      test_dir: classified images to test on, as in `open_images`. None: there are none.
      shape: to which whole images are resized.
      class_split: the classes of each part; of the test images those of the classes to train on are left out.
      classes: of the classifier; None: any number.

    Raises:
      DataError: a folder or table is missing, too few of the files are images, or a class that must be known is not.
    """
    name = Path(test_dir or photographs or "").name

    def opened(images: Union[str, Path], labeled: bool) -> Source:
        beside = [other for other in (photographs, test_dir) if other is not None]
        own_labels = labels if Path(images).is_dir() else None
        return open_images(images, *shape, labels=own_labels, classes=classes, labeled=labeled, beside=beside)

    test = read_images(_source([], shape))
    if test_dir is not None:
        test_source = opened(test_dir, labeled=True)
        if class_split is not None:
            unseen = _of_classes(test_source, class_split, class_split.unseen, test_dir)
            test_source = PartialSource(test_source, unseen)
        test = read_images(test_source)
    if class_split is not None:
        name = UNSEEN_TITLE.format(name)
    validation_files: list[LabeledFile] = []
    train_files: list[LabeledFile] = []
    if photographs is not None:
        source = opened(photographs, labeled=False)
        if not isinstance(source, FileSource):
            raise DataError(f"photographs are image files: expected a folder or a table, received {photographs}")
        validation_files, train_files = _split(source, photographs, class_split)
    return PhotographSplits(name, train_files, shape, read_images(_source(validation_files, shape)), test)


def _source(files: Sequence[LabeledFile], shape: CropShape) -> FileSource:
    return FileSource(files, *shape)


def _split(
    source: FileSource, photographs: Union[str, Path], class_split: Optional[ClassSplit]
) -> tuple[list[LabeledFile], list[LabeledFile]]:
    """The files to validate and to train on, in a random order."""
    files = source.files
    order = np.random.default_rng(SPLIT_SEED).permutation(len(files))
    if class_split is not None:
        of_part = [set(_of_classes(source, class_split, classes, photographs)) for classes in class_split]
        seen, unseen = ([files[number] for number in order if number in numbers] for numbers in of_part)
        return unseen[:MOST_VALIDATION], seen
    count = min(round(VALIDATION_SHARE * len(files)), MOST_VALIDATION)
    if count == 0:
        least = round(0.5 / VALIDATION_SHARE) + 1
        raise DataError(f"{photographs}: expected at least {least} images, received {len(files)}")
    shuffled = [files[number] for number in order]
    return shuffled[:count], shuffled[count:]


def _of_classes(source: Source, class_split: ClassSplit, classes: np.ndarray, images: Union[str, Path]) -> list[int]:
    """The numbers of the source's images of some classes."""
    class_split.check(source.labels)
    found = np.flatnonzero(np.isin(source.labels, classes)).tolist()
    if not found:
        raise DataError(f"`class_split`: {images} has no images of the {len(classes)} classes of a part")
    return found


def random_crops(
    files: Sequence[LabeledFile],
    shape: CropShape,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    variety: Variety = VARIETIES["plain"],
    sides: Sequence[int] = (),
) -> Iterator[LabeledImages]:
    """Endless batches of crops, each file once a pass: parts of its area, stretched by up to 4/3, half flipped.

    Batch k depends on the files, the seed, k, the variety and the sides alone. Files that cannot be read are named once
    and passed over. A composed crop has the label of the photograph that shows more.

    Args:
      files: the images.
      shape: of the crops.
      batch_size: crops.
      seed: of all draws.
      first_batch: the first batch's number.
      variety: of the crops.
      sides: of the crops in pixels, instead of the shape's: each batch has one of them, drawn.

    Raises:
      DataError: none of the files can be read.
    """
    unreadable: set[int] = set()
    naming = threading.Lock()

    @functools.lru_cache(maxsize=2)
    def order(number_of_pass: int) -> np.ndarray:
        return np.random.default_rng([seed, number_of_pass, len(files)]).permutation(len(files))

    def crop(number: int, side: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng([seed, number])
        number_of_pass, place = divmod(number, len(files))
        image, label = part(int(order(number_of_pass)[place]), side, rng)
        if rng.random() < variety.composed:
            other, _ = part(int(rng.integers(len(files))), side, rng)
            image = _composed(image, other, rng)
        if variety.jitter:
            image = _jittered(image, variety.jitter, rng)
        return image, label

    def part(file_number: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """A crop of that file, or of another one if it cannot be read."""
        while True:
            box, flip = _draw_box(rng, variety.smallest_area), rng.random() < 0.5
            file = files[file_number]
            try:
                image = decode_image(file.path, shape.channels, side, box)
                return image[:, ::-1] if flip else image, file.label
            except DataError as error:
                with naming:
                    if file_number not in unreadable:
                        unreadable.add(file_number)
                        tell_left_out([str(file.path)])
                if len(unreadable) == len(files):
                    raise DataError(f"none of the {len(files)} images can be read; the last: {error}") from error
            file_number = int(rng.integers(len(files)))

    with ThreadPoolExecutor(READERS) as readers:

        def read(batch: int):
            side = drawn_side(sides, seed, batch) if sides else shape.image_size
            numbers = range(batch * batch_size, (batch + 1) * batch_size)
            return [readers.submit(crop, number, side) for number in numbers]

        upcoming = read(first_batch)
        for batch in itertools.count(first_batch + 1):
            crops = [future.result() for future in upcoming]
            upcoming = read(batch)
            images, labels = zip(*crops)
            yield LabeledImages(np.stack(images), np.array(labels, np.int64))


def drawn_side(sides: Sequence[int], seed: int, batch: int) -> int:
    """One of the sides, for that batch."""
    return sides[np.random.default_rng([seed, batch, SIDE_DRAWS]).integers(len(sides))]


def _draw_box(rng: np.random.Generator, smallest_area: float, largest_area: float = 1.0) -> CropBox:
    area = rng.uniform(smallest_area, largest_area)
    stretch = np.exp(rng.uniform(-np.log(LARGEST_STRETCH), np.log(LARGEST_STRETCH)))
    width, height = min(1.0, np.sqrt(area * stretch)), min(1.0, np.sqrt(area / stretch))
    left, top = rng.uniform(0.0, 1.0 - width), rng.uniform(0.0, 1.0 - height)
    return CropBox(left, top, left + width, top + height)


def _composed(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of the image, up to half of it, replaced by that of the other one."""
    height, width, _ = image.shape
    x1, y1, x2, y2 = pixels_of(_draw_box(rng, 0.0, LARGEST_PASTED), (width, height))
    composed = image.copy()
    composed[y1:y2, x1:x2] = other[y1:y2, x1:x2]
    return composed


def _jittered(image: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    picture = as_picture(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(1.0 - jitter, 1.0 + jitter))
    return np.asarray(picture).reshape(image.shape)
