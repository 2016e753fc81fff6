"""Where the images to attack come from: files, TensorFlow Datasets, arrays in memory; numbered, named, labelled."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import tensorflow as tf

from hgd_tf.data.images import decode_image
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.data.splits import LabeledImages, drawn_classes
from hgd_tf.errors import DataError

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
        numbers = list(numbers)

        def decode(place, content):
            try:
                return self._decode(numbers[place], content), True
            except DataError:
                return np.zeros(self.image_shape, np.uint8), False

        def load(place, content):
            image, is_image = tf.numpy_function(decode, [place, content], (tf.uint8, tf.bool))
            return tf.ensure_shape(image, self.image_shape), place, is_image

        data = self._contents(numbers).map(load, num_parallel_calls=tf.data.AUTOTUNE)
        read = {int(place): image for image, place, is_image in data.as_numpy_iterator() if is_image}
        images = [read[place] for place in sorted(read)]
        return SourceImages(
            np.array([numbers[place] for place in sorted(read)], np.int64),
            np.stack(images) if images else np.zeros((0, *self.image_shape), np.uint8),
        )

    @abc.abstractmethod
    def _contents(self, numbers: Sequence[int]) -> tf.data.Dataset:
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
        repeated = len(set(names)) < len(names)
        if repeated:  # the same names in several folders
            names = [f"{file.path.parent.name}-{file.path.stem}" for file in files]
        if len(set(names)) < len(names):
            raise DataError("expected files of different names, received " + _first_repeated(names) + " twice")
        super().__init__(names, [file.label for file in files], image_size, channels, central_fraction)
        self.files = list(files)

    def _contents(self, numbers: Sequence[int]) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((tf.range(len(numbers)), tf.fill([len(numbers)], "")))

    def _decode(self, number: int, content: bytes) -> np.ndarray:
        size, _, channels = self.image_shape
        file = self.files[number]
        return decode_image(file.path, channels, size, file.crop_box, self.central_fraction)

    def fingerprint(self) -> str:
        sizes = [file.path.stat().st_size if file.path.exists() else 0 for file in self.files]
        return _digest(self, [sizes, [file.crop_box for file in self.files], self.central_fraction])


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
            raise DataError("TensorFlow Datasets is not installed: pip install -e '.[tfds]'") from None
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

    def _contents(self, numbers: Sequence[int]) -> tf.data.Dataset:
        """Reads the part of the split from the first to the last number, and keeps what was asked for."""
        first, last = min(numbers, default=0), max(numbers, default=-1)
        places = {number: place for place, number in enumerate(numbers)}
        part = self._builder.as_dataset(
            split=f"{self._split}[{first}:{last + 1}]", decoders=self._decoders, shuffle_files=False
        )

        def chosen() -> Iterator[tuple[int, bytes]]:
            for number, example in enumerate(part.as_numpy_iterator(), first):
                if number in places:
                    yield places[number], example["image"]

        signature = (tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.string))
        return tf.data.Dataset.from_generator(chosen, output_signature=signature)

    def _decode(self, number: int, content: bytes) -> np.ndarray:
        size, _, channels = self.image_shape
        return decode_image(content, channels, size, central_fraction=self.central_fraction)

    def fingerprint(self) -> str:
        return _digest(self, [self._name, self._split, self.central_fraction])


class PartialSource(Source):
    """Some images of another source, in their order there."""

    def __init__(self, whole: Source, numbers: Iterable[int]):
        self._whole, self._numbers = whole, np.array(sorted(numbers), np.int64)
        names = [whole.names[number] for number in self._numbers]
        super().__init__(names, whole.labels[self._numbers], whole.image_shape)

    def read(self, numbers: Numbers) -> SourceImages:
        read = self._whole.read(self._numbers[np.asarray(numbers, np.int64)])
        return SourceImages(np.searchsorted(self._numbers, read.numbers), read.images)

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


def _first_repeated(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
