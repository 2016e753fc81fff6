"""Where the images to attack come from: files, TensorFlow Datasets, arrays in memory; numbered, named, labelled."""

from __future__ import annotations

import abc
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from hgd_tf.data.images import decode_image
from hgd_tf.data.label_tables import LabeledFile
from hgd_tf.data.splits import LabeledImages, drawn_classes
from hgd_tf.errors import DataError

READER = "upright, resized once rounded"  # for fingerprints: another reader of the same files gives other images

Numbers = Union[Sequence[int], np.ndarray]


class SourceImages(NamedTuple):
    """Images that were read.

    Attributes:
      numbers: int64 (N,), of the images in their source.
      images: uint8 (N, H, W, C).
    """

    numbers: np.ndarray
    images: np.ndarray


class Source(abc.ABC):
    """Numbered images of one shape, each with a name and a class.

    Attributes:
      names: of the images, without a folder, all different.
      labels: int64 (N,), 0-based; -1 where the class is unknown.
      image_shape: (H, W, C).
    """

    def __init__(self, names: Sequence[str], labels: Numbers, image_shape: tuple[int, ...]):
        self.names = list(names)
        self.labels = np.asarray(labels, np.int64)
        self.image_shape = image_shape

    @abc.abstractmethod
    def read(self, numbers: Numbers) -> SourceImages:
        """The images of those numbers, in their order; without those that are no images."""

    def origin(self, number: int) -> str:
        """What an image is called in messages: its file, or its name."""
        return self.names[number]

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A digest that differs between sources of different images."""


class ArraySource(Source):
    """Images in memory."""

    def __init__(self, images: LabeledImages, name: str):
        count = len(images.labels)
        super().__init__([f"{name}-{number:06d}" for number in range(count)], images.labels, images.images.shape[1:])
        self.images = images.images

    def read(self, numbers: Numbers) -> SourceImages:
        numbers = np.asarray(numbers, np.int64)
        return SourceImages(numbers, self.images[numbers])

    def fingerprint(self) -> str:
        return _digest(self, hashlib.sha256(self.images.tobytes()).hexdigest())


class EncodedSource(Source):
    """Images that are decoded, cropped and resized when they are read, several at a time.

    Args:
      names, labels: one an image.
      image_size: side of what is read.
      channels: 1 or 3.
      central_fraction: of height and width that is kept, around the middle.
    """

    def __init__(
        self, names: Sequence[str], labels: Sequence[int], image_size: int, channels: int, central_fraction: float
    ):
        super().__init__(names, labels, (image_size, image_size, channels))
        self.central_fraction = central_fraction

    def read(self, numbers: Numbers) -> SourceImages:
        numbers = [int(number) for number in numbers]

        def decoded(place: int, content: bytes) -> tuple[int, Optional[np.ndarray]]:
            try:
                return place, self._decode(numbers[place], content)
            except DataError:
                return place, None

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            read = dict(pool.map(lambda item: decoded(*item), self._contents(numbers)))
        found = {place: image for place, image in sorted(read.items()) if image is not None}
        images = np.stack([*found.values()]) if found else np.zeros((0, *self.image_shape), np.uint8)
        return SourceImages(np.array([numbers[place] for place in found], np.int64), images)

    @abc.abstractmethod
    def _contents(self, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """Places in `numbers`, and the encoded images, empty where they lie in files; in any order."""

    @abc.abstractmethod
    def _decode(self, number: int, content: bytes) -> np.ndarray:
        """An image of `image_shape`.

        Raises:
          DataError: it is none.
        """


class FileSource(EncodedSource):
    """Image files."""

    def __init__(self, files: Sequence[LabeledFile], image_size: int, channels: int = 3, central_fraction: float = 1.0):
        names = [file.path.stem for file in files]
        if len(set(names)) < len(names):  # the same names in several folders
            names = [f"{file.path.parent.name}-{file.path.stem}" for file in files]
        if len(set(names)) < len(names):
            names = [f"{number:07d}-{file.path.stem}" for number, file in enumerate(files)]
        super().__init__(names, [file.label for file in files], image_size, channels, central_fraction)
        self.files = list(files)

    def origin(self, number: int) -> str:
        return str(self.files[number].path)

    def _contents(self, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        return [(place, b"") for place in range(len(numbers))]

    def _decode(self, number: int, content: bytes) -> np.ndarray:
        size, _, channels = self.image_shape
        file = self.files[number]
        return decode_image(file.path, channels, size, file.crop_box, self.central_fraction)

    def fingerprint(self) -> str:
        sizes = [file.path.stat().st_size if file.path.exists() else 0 for file in self.files]
        return _digest(self, [READER, sizes, [file.crop_box for file in self.files], self.central_fraction])


class TfdsSource(EncodedSource):
    """A split of TensorFlow Datasets with the features `image` and `label`; names its images by their numbers.

    Args:
      name: of the dataset, as in `tfds.load`.
      split: of it.
      image_size, channels, central_fraction: as in `EncodedSource`.
      data_dir: where its files lie; None: its own default.

    Raises:
      DataError: the package is absent, or the dataset is not there.
    """

    def __init__(
        self,
        name: str,
        split: str,
        image_size: int,
        channels: int = 3,
        central_fraction: float = 1.0,
        data_dir: Union[str, Path, None] = None,
    ):
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise DataError("TensorFlow Datasets is not installed: pip install 'hgd-tf[tfds]'") from None
        try:
            self._builder = tfds.builder(name, data_dir=data_dir)
            self._builder.download_and_prepare()
            self._decoders = {"image": tfds.decode.SkipDecoding()}
            self._name, self._split = self._builder.info.full_name, split
            data = self._builder.as_dataset(split=split, decoders=self._decoders)
            labels = [int(example["label"]) for example in data.as_numpy_iterator()]
        except (ValueError, KeyError, AssertionError, tfds.core.DatasetNotFoundError) as error:
            raise DataError(f"tfds:{name}:{split} does not load: {error}") from error
        names = [f"{name.split('/')[0]}-{split}-{number:07d}" for number in range(len(labels))]
        super().__init__(names, labels, image_size, channels, central_fraction)

    def _contents(self, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """Reads the part of the split from the first to the last number, and keeps what was asked for."""
        first, last = min(numbers, default=0), max(numbers, default=-1)
        places = {number: place for place, number in enumerate(numbers)}
        part = self._builder.as_dataset(
            split=f"{self._split}[{first}:{last + 1}]", decoders=self._decoders, shuffle_files=False
        )

        for number, example in enumerate(part.as_numpy_iterator(), first):
            if number in places:
                yield places[number], example["image"]

    def _decode(self, number: int, content: bytes) -> np.ndarray:
        size, _, channels = self.image_shape
        return decode_image(content, channels, size, central_fraction=self.central_fraction)

    def fingerprint(self) -> str:
        return _digest(self, [READER, self._name, self._split, self.central_fraction])


class PartialSource(Source):
    """Some images of another source, in their order there."""

    def __init__(self, whole: Source, numbers: Iterable[int]):
        self._whole, self._numbers = whole, np.array(sorted(numbers), np.int64)
        names = [whole.names[number] for number in self._numbers]
        super().__init__(names, whole.labels[self._numbers], whole.image_shape)

    def read(self, numbers: Numbers) -> SourceImages:
        read = self._whole.read(self._numbers[np.asarray(numbers, np.int64)])
        return SourceImages(np.searchsorted(self._numbers, read.numbers), read.images)

    def origin(self, number: int) -> str:
        return self._whole.origin(int(self._numbers[number]))

    def fingerprint(self) -> str:
        return _digest(self, self._whole.fingerprint())


def images_per_class(source: Source, count: int, seed: int) -> Source:
    """`count` images of each class, or all where there are fewer, drawn from the seed."""
    drawn = np.random.default_rng(seed).permutation(len(source.labels))
    left: dict[int, int] = {}
    kept = []
    for number in drawn:
        label = int(source.labels[number])
        if left.setdefault(label, count):
            left[label] -= 1
            kept.append(int(number))
    return PartialSource(source, kept)


def part_of_classes(source: Source, part: tuple[float, float], class_count: int, seed: int) -> Source:
    """The images of some classes: those that stand from one fraction to another of a random order of all."""
    classes = drawn_classes(part, class_count, seed)
    return PartialSource(source, np.flatnonzero(np.isin(source.labels, classes)))


def _digest(source: Source, other) -> str:
    content = [source.names, source.labels.tolist(), source.image_shape, other]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
