"""What every target's network has in common: its input and its responses."""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from hgd_tf.foundation.stack import keras

RGB = 3
IMAGENET_CLASSES = 1000


def rgb_images(image_size: int) -> tf.Tensor:
    """The input: float32 (N, image_size, image_size, 3), RGB pixels in [0, 255]."""
    return keras.Input((image_size, image_size, RGB), name="images")


def responses(
    images: tf.Tensor, name: str, features: tf.Tensor, logits: tf.Tensor, aux_logits: Optional[tf.Tensor] = None
) -> keras.Model:
    """The model from `images` to the dict of responses."""
    outputs = {"features": features, "logits": logits}
    if aux_logits is not None:
        outputs["aux_logits"] = aux_logits
    return keras.Model(images, outputs, name=name)
