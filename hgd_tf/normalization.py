"""How networks see pixels: the value range that each family was trained on."""

from __future__ import annotations

from typing import NamedTuple, Union

import numpy as np

from hgd_tf.foundation.stack import keras

PerChannel = Union[float, tuple[float, ...]]


class Normalization(NamedTuple):
    """(pixels - mean) / std, in pixel units [0, 255]; one number for all channels, or one each."""

    mean: PerChannel
    std: PerChannel

    def layer(self) -> keras.layers.Layer:
        """Images (N, H, W, C) in [0, 255] to normalized images."""
        scale = np.divide(1.0, self.std).tolist()
        offset = np.negative(np.divide(self.mean, self.std)).tolist()
        return keras.layers.Rescaling(scale, offset, name="normalize")


INCEPTION = Normalization(127.5, 127.5)  # [-1, 1]
TORCH = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # ImageNet's mean 0 and deviation 1
VGG = Normalization((123.68, 116.78, 103.94), (1.0, 1.0, 1.0))
LITE = Normalization(127.0, 128.0)
