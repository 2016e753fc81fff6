"""Labelled images in memory."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional

import numpy as np


class LabeledImages(NamedTuple):
    """Images, uint8 of shape (N, H, W, C), pixels in [0, 255]; labels, int64 of shape (N,), 0-based."""

    images: np.ndarray
    labels: np.ndarray

    def head(self, count: Optional[int]) -> LabeledImages:
        """The first `count` of them (all, if there are fewer or `count` is None)."""
        return LabeledImages(self.images[:count], self.labels[:count])


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
