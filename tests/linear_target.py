"""A target of two classes whose every answer and attack can be told by hand."""

from __future__ import annotations

import numpy as np

from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target

SIZE = 16


def random_weights(seed: int) -> np.ndarray:
    """One a pixel, (SIZE²,), none of them near 0."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-1.0, 1.0], SIZE * SIZE) * rng.uniform(0.5, 1, SIZE * SIZE)).astype(np.float32)


def linear_target(weights: np.ndarray, name: str = "linear", image_size: int = SIZE) -> Target:
    """Class 0 where the weighted sum of (pixel - 125) is positive, else class 1."""
    images = keras.Input((image_size, image_size, 1))
    features = keras.layers.Rescaling(0.01, offset=-1.25)(images)
    head = keras.layers.Dense(2, use_bias=False)
    logits = head(keras.layers.Flatten()(features))
    head.set_weights([np.stack([weights, -weights], axis=1)])
    return Target(keras.Model(images, {"features": features, "logits": logits}), name=name)


def affine_denoiser(factor: float, offset: float) -> keras.Model:
    """Images to factor * images + offset."""
    images = keras.Input((None, None, 1))
    return keras.Model(images, keras.layers.Rescaling(factor, offset=offset)(images))
