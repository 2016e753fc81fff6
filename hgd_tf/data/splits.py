"""Labelled images in memory."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional

import numpy as np

from hgd_tf.data.images import as_picture, resized_picture
from hgd_tf.errors import DataError

UNKNOWN = -1  # a class
UNSEEN_TITLE = "{}, unseen classes"


def drawn_classes(part: tuple[float, float], class_count: int, seed: int) -> np.ndarray:
    """The classes that stand from one fraction to another of a random order of all; int64, in that order."""
    order = np.random.default_rng(seed).permutation(class_count)
    first, end = (round(fraction * class_count) for fraction in part)
    return order[first:end]


class ClassSplit(NamedTuple):
    """Classes to train on, and those whose images validate and test (Table 4); int64 arrays without a common class."""

    seen: np.ndarray
    unseen: np.ndarray

    def check(self, labels: np.ndarray) -> None:
        """That images of these classes, int64 (N,), can be told apart.

        Raises:
          DataError: a class is unknown, or none of both parts.
        """
        if np.any(labels == UNKNOWN):
            raise DataError("`class_split` needs the true classes: `labels`, or a folder a class")
        strays = np.setdiff1d(labels, np.concatenate(self))
        if len(strays):
            raise DataError(f"`class_split`: there are images of class {strays[0]}, of {sum(map(len, self))} classes")


class LabeledImages(NamedTuple):
    """Images, uint8 of shape (N, H, W, C), pixels in [0, 255]; labels, int64 of shape (N,), 0-based."""

    images: np.ndarray
    labels: np.ndarray

    def head(self, count: Optional[int]) -> LabeledImages:
        """The first `count` of them (all, if there are fewer or `count` is None)."""
        return LabeledImages(self.images[:count], self.labels[:count])

    def of_classes(self, classes: np.ndarray) -> LabeledImages:
        """Those of the classes, in their order."""
        return self.at(np.isin(self.labels, classes))

    def at(self, places: np.ndarray) -> LabeledImages:
        """Those at some places: numbers, or bool (N,)."""
        return LabeledImages(self.images[places], self.labels[places])

    def resized(self, side: int) -> LabeledImages:
        """The images at another side in pixels: bilinear, antialiased, rounded."""
        if self.images.shape[1:3] == (side, side) or not len(self.images):
            return self
        return LabeledImages(np.stack([resized_picture(as_picture(image), side) for image in self.images]), self.labels)


@dataclasses.dataclass
class Splits:
    """A dataset's name and its three disjoint parts; there may be no test images."""

    name: str
    train: LabeledImages
    validation: LabeledImages
    test: LabeledImages

    @property
    def classes(self) -> int:
        """One more than the largest class of an image."""
        return 1 + max(int(part.labels.max(initial=-1)) for part in (self.train, self.validation, self.test))

    def train_images(self, count: Optional[int] = None) -> LabeledImages:
        """The first `count` training images (all, if there are fewer or `count` is None)."""
        return self.train.head(count)

    def resized(self, side: int) -> Splits:
        """The same images at another side in pixels."""
        return Splits(self.name, *(part.resized(side) for part in (self.train, self.validation, self.test)))

    def by_classes(self, split: ClassSplit) -> Splits:
        """Training images of the classes that are seen, validation and test images of the others.

        Raises:
          DataError: one of the three parts has no such images, or images of classes that the split does not know.
        """
        for part in (self.train, self.validation, self.test):
            split.check(part.labels)
        train = self.train.of_classes(split.seen)
        validation, test = (part.of_classes(split.unseen) for part in (self.validation, self.test))
        for purpose, kept in (("train", train), ("validate", validation), ("test", test)):
            if not len(kept.labels):
                raise DataError(f"`class_split`: {self.name} has no images of the classes to {purpose} on")
        return Splits(UNSEEN_TITLE.format(self.name), train, validation, test)
