"""What attacks draw at random: of each image from its own seed, whatever batch it is in."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.methods import FROM_IMAGE, FROM_SIGNS, Schedule
from hgd_tf.attacks.transfer import DRAWS
from hgd_tf.foundation.pixel_range import PIXEL_MAX


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


def numbered_seeds(seed: int, group: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """(N, 2) int64: one for each member, int (N,), below 2³², of a group, of whose number they depend too."""
    numbers = tf.cast(group, tf.int64) * 2**32 + tf.cast(members, tf.int64)
    return tf.stack([tf.fill(tf.shape(numbers), tf.constant(seed, tf.int64)), numbers], axis=1)


def with_gaussian_noise(images: tf.Tensor, seeds: tf.Tensor, sigma: float) -> tf.Tensor:
    """Images in [0, 255] and Gaussian noise on them, each of its own seed: float32 (N, H, W, C), not clipped.

    Args:
      images: (N, H, W, C), or (1, H, W, C) for N noisy ones.
      seeds: int64 (N, 2).
      sigma: the noise's standard deviation, in [0, 1] units, as the literature has it.
    """
    shape = images.shape[1:]
    drawn = tf.map_fn(
        lambda seed: tf.random.stateless_normal(shape, seed),
        seeds,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.cast(images, tf.float32) + sigma * PIXEL_MAX * drawn


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
