"""Networks and images so small that a set is crafted in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hgd_tf.attacks import Roles
from hgd_tf.data import LabeledImages
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target

COUNT = 14

# Denoisers of two levels of one convolution each, for what does not depend on depth: built in a moment.
FEW_CONVOLUTIONS: dict[str, Any] = {"feedforward": ((1, 64), (1, 128)), "feedback": ((1, 64),)}


def small_target(name: str, seed: int) -> Target:
    """A random classifier of 6x6 images into 5 classes."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 1))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(images)
    features = keras.layers.Conv2D(6, 3, activation="tanh")(x)
    logits = keras.layers.Dense(5)(keras.layers.Flatten()(features))
    return Target(keras.Model(images, {"features": features, "logits": logits}), name=name)


def small_roles(holdout_seed: int = 3) -> Roles:
    target, member = small_target("target", 1), small_target("member", 2)
    return Roles(target, (target, member), small_target("holdout", holdout_seed))


def small_images(seed: int = 0) -> LabeledImages:
    rng = np.random.default_rng(seed)
    return LabeledImages(rng.integers(256, size=(COUNT, 6, 6, 1), dtype=np.uint8), rng.integers(5, size=COUNT))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
