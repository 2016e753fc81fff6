"""A defense: a denoiser before a frozen target."""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from hgd_tf.denoisers import MIN_IMAGE_SIZE
from hgd_tf.errors import TargetError
from hgd_tf.pixel_range import checks_pixels
from hgd_tf.stack import keras
from hgd_tf.targets import Target, resize_to


def check_fits(denoiser: keras.Model, image_size: int, channels: int, name: str) -> None:
    """That a denoiser can stand before a classifier of that name, of images of that side and channels.

    Raises:
      TargetError: it cannot.
    """
    if image_size < MIN_IMAGE_SIZE:
        raise TargetError(
            f"a denoiser needs images of at least {MIN_IMAGE_SIZE} pixels a side, {name}'s are {image_size}"
        )
    if denoiser.input_shape[-1] != channels:
        raise TargetError(f"the denoiser takes {denoiser.input_shape[-1]} channels, {name} takes {channels}")


class Defense(tf.Module):
    """Classifies denoised images.

    Outside graphs, a `PixelRangeWarning` tells of images whose pixels are not in [0, 255].

    Args:
      denoiser: images to images of the same shape, float32 in pixel units; None: no denoiser, the undefended target.
      target: the frozen classifier.

    Raises:
      TargetError: the denoiser and the target take images of different channels, or the target's are too small.
    """

    def __init__(self, denoiser: Optional[keras.Model], target: Target):
        super().__init__()
        if denoiser is not None:
            check_fits(denoiser, target.image_size, target.channels, target.name)
        self.denoiser = denoiser
        self.target = target

    @checks_pixels
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises and classifies.

        Args:
          images: (N, H, W, C) in [0, 255], uint8 or float32, of any size: they are resized to the target's first.

        Returns:
          `denoised` (N, size, size, C) float32, unclipped; `logits` and `probabilities` (N, classes) float32;
          `classes` (N,) int64, 0-based.
        """
        denoised = self.denoise(images)
        logits = self.target(denoised)["logits"]
        return {
            "denoised": denoised,
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1),
        }

    @checks_pixels
    def denoise(self, images: tf.Tensor) -> tf.Tensor:
        """Images resized to the target's size and denoised, float32, unclipped."""
        images = resize_to(images, self.target.image_size)
        return images if self.denoiser is None else self.denoiser(images, training=False)
