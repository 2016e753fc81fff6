"""Pairs of attacked and clean images: crafted as the denoiser is to see them, and as batches."""

from __future__ import annotations

from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import Recipe
from hgd_tf.crafting import AttackedSet
from hgd_tf.crafting.sets import joined, set_as_seen
from hgd_tf.data import LabeledImages, Splits
from hgd_tf.data.photographs import SIDE_DRAWS
from hgd_tf.data.transports import DrawnTransport, Transport
from hgd_tf.experiment.loading import Experiment
from hgd_tf.guidance import Batch
from hgd_tf.training.config import TrainConfig


def drawn_transport(config: TrainConfig) -> DrawnTransport:
    """What happens to attacked images before a denoiser in training sees them."""
    return DrawnTransport([Transport(name) for name in config.transports], config.transported_share)


def seen_set(
    config: TrainConfig,
    experiment: Experiment,
    recipe: Recipe,
    part: Callable[[Splits], LabeledImages],
    images: Optional[LabeledImages] = None,
) -> AttackedSet:
    """The recipe's attacks on a part of the images, each at one of the attack sizes, as the denoiser is to see them.

    `images` are the part at the target's side, where it is read already.
    """
    images = images or part(experiment.splits)
    transport, seed = drawn_transport(config), config.experiment.seed
    if not config.attack_sizes and not transport.changes:
        return experiment.sets.attacked_set(recipe, images)
    sides: tuple[Optional[int], ...] = config.attack_sizes or (None,)
    drawn = np.random.default_rng([seed, SIDE_DRAWS]).integers(len(sides), size=len(images.labels))
    parts = []
    for place in np.unique(drawn):
        at_side = images if sides[place] is None else part(experiment.splits_at(sides[place]))
        attacked = experiment.sets.attacked_set(recipe, at_side.at(drawn == place))
        parts.append(set_as_seen(attacked, transport, experiment.roles.target.image_size, seed))
    return joined(parts)


def training_batches(attacked_set: AttackedSet, batch_size: int, seed: int, first_step: int = 0) -> tf.data.Dataset:
    """Endless shuffled batches of exactly `batch_size` pairs, both images of a pair flipped alike at random.

    Step k's batch depends on the seed and on k alone, so that training goes on from any step as if never interrupted.

    Args:
      attacked_set: A attacks on N images: A * N pairs a pass, but for those that fill no whole batch.
      batch_size: pairs.
      seed: of order and flips.
      first_step: the first batch's number.

    Raises:
      ValueError: there are fewer pairs than a batch holds.
    """
    pairs = _pair_count(attacked_set)
    per_pass = pairs // batch_size
    if per_pass == 0:
        raise ValueError(f"batch_size must be at most the number of pairs, {pairs}, received {batch_size}")
    pair = _pair_reader(attacked_set)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(pairs, dtype=tf.int64), [seed, number])
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

    def batch(step: tf.Tensor, numbers: tf.Tensor) -> Batch:
        pairs_of_step = pair(numbers)
        flip = tf.random.stateless_uniform((batch_size, 1, 1, 1), [seed, step]) < 0.5

        def flipped(images):
            return tf.where(flip, tf.reverse(images, axis=[2]), images)

        attacked, clean = flipped(pairs_of_step.attacked), flipped(pairs_of_step.clean)
        return pairs_of_step._replace(attacked=attacked, clean=clean)

    first_pass, position = divmod(first_step, per_pass)
    orders = tf.data.Dataset.range(first_pass, tf.int64.max).flat_map(one_pass).skip(position)
    steps = tf.data.Dataset.range(first_step, tf.int64.max)
    batches = tf.data.Dataset.zip((steps, orders)).map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    return _unsharded(batches).prefetch(2)


def validation_batches(attacked_set: AttackedSet, batch_size: int) -> tf.data.Dataset:
    """Every pair once, in order, the last batch as small as it must be."""
    numbers = tf.data.Dataset.range(_pair_count(attacked_set)).batch(batch_size)
    return _unsharded(numbers.map(_pair_reader(attacked_set), num_parallel_calls=tf.data.AUTOTUNE)).prefetch(2)


def _pair_count(attacked_set: AttackedSet) -> int:
    attacks, images = attacked_set.attacked.shape[:2]
    return attacks * images


def _pair_reader(attacked_set: AttackedSet):
    """From pair numbers (B,) to a `Batch`; pair p is attack p // N on image p % N."""
    images = len(attacked_set.clean.labels)
    with tf.device("CPU:0"):  # where tf.data reads them; the default is the first GPU, which may lack the room
        attacked = tf.constant(attacked_set.attacked)
        clean = tf.constant(attacked_set.clean.images)
        labels = tf.constant(attacked_set.clean.labels)

    def read(numbers: tf.Tensor) -> Batch:
        attack, image = numbers // images, numbers % images
        return Batch(
            attacked=tf.cast(tf.gather_nd(attacked, tf.stack([attack, image], axis=1)), tf.float32),
            clean=tf.cast(tf.gather(clean, image), tf.float32),
            label=tf.gather(labels, image),
            attack=attack,
        )

    return read


def _unsharded(data: tf.data.Dataset) -> tf.data.Dataset:
    """Replicas share each batch; the data is in memory, there are no files to share out."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return data.with_options(options)
