"""Labelled images in memory."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np


class LabeledImages(NamedTuple):
    """Images, uint8 of shape (N, H, W, C), pixels in [0, 255]; labels, int64 of shape (N,), 0-based."""

    images: np.ndarray
    labels: np.ndarray

    def head(self, count: Optional[int]) -> LabeledImages:
        """The first `count` of them (all, if there are fewer or `count` is None)."""
        return LabeledImages(self.images[:count], self.labels[:count])


class Splits(NamedTuple):
    """A dataset's name and its three disjoint parts."""

    name: str
    train: LabeledImages
    validation: LabeledImages
    test: LabeledImages
