"""Attacking a whole set of images, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional, Union

import numpy as np

from hgd_tf.attacks.sign_gradient import SignGradientAttack, Steps

BATCH_SIZE = 250


def craft(
    attack: SignGradientAttack,
    images: np.ndarray,
    epsilon: Union[int, np.ndarray],
    steps: Steps,
    labels: Optional[np.ndarray] = None,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Attacks every image of a set; the last batch may be smaller.

    Args:
      attack, images, epsilon, steps, labels, seed: as in `SignGradientAttack.__call__`, for the whole set.
      batch_size: images in a step.
      on_batch: called with the number of images done since the last call, for a progress bar.

    Returns:
      uint8 array of the images' shape.
    """
    epsilon = np.broadcast_to(np.asarray(epsilon), (len(images),))
    attacked = np.empty(images.shape, np.uint8)
    for first in range(0, len(images), batch_size):
        batch = slice(first, first + batch_size)
        batch_labels = None if labels is None else labels[batch]
        attacked[batch] = attack(images[batch], epsilon[batch], steps, batch_labels, seed=seed, first_index=first)
        on_batch(len(images[batch]))
    return attacked


def draw_epsilon(count: int, lowest: int, highest: int, seed: Union[int, Sequence[int]]) -> np.ndarray:
    """One integer an image, uniform in [lowest, highest] inclusive (Table 1); int64 of shape (count,)."""
    return np.random.default_rng(seed).integers(lowest, highest, size=count, endpoint=True)
