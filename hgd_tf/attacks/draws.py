"""What attacks draw at random: of each image from its own seed, whatever batch it is in."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.methods import FROM_IMAGE, FROM_SIGNS, Schedule
from hgd_tf.attacks.transfer import DRAWS


def offsets(start: str, seeds: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Where the attack starts, in units of epsilon; random ones are drawn for each image from its own seed."""
    if start == FROM_IMAGE:
        return tf.zeros_like(images)
    shape = images.shape[1:]
    uniform = tf.map_fn(
        lambda seed: tf.random.stateless_uniform(shape, seed, -1.0, 1.0),
        seeds,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.where(uniform < 0.0, -1.0, 1.0) if start == FROM_SIGNS else uniform


def folded(seeds: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """(N, 2), another seed of each image for every number."""
    number = tf.cast(number, seeds.dtype)
    return tf.map_fn(lambda seed: tf.random.experimental.stateless_fold_in(seed, number), seeds)


def diversity_draws(schedule: Schedule, seeds: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Uniform in [0, 1), of each image's own seed; other draws than those of its start.

    Returns:
      (N, steps, 1 + neighbours, copies, 4); zeros where nothing is drawn.
    """
    shape = (1 + schedule.neighbours, schedule.copies, DRAWS)
    if not schedule.diversity:
        return tf.zeros((1, steps, *shape))
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform((steps, *shape), seed),
        tf.bitwise.invert(seeds),
        fn_output_signature=tf.TensorSpec((None, *shape), tf.float32),
    )


def partners(own: np.ndarray, pool: np.ndarray, seeds: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Admix (Wang et al. 2021): which images are mixed into each, of another class where the pool has one.

    Args:
      own: int (N,), the images' classes.
      pool: int (P,), the classes of those that are mixed in.
      seeds: int64 (N, 2), of each image.
      shape: of an image's draws.

    Returns:
      int64 (N, *shape), places in the pool.
    """
    picks = np.zeros((len(own), *shape), np.int64)
    for number, seed in enumerate(seeds.astype(np.uint64).tolist()):
        others = np.flatnonzero(pool != own[number])
        picks[number] = np.random.default_rng(seed).choice(others if len(others) else len(pool), shape)
    return picks
