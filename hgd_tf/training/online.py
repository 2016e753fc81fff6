"""Attacks crafted while training, on fresh crops, so that no pair is met for long (section 6's outlook)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.attacks import Recipe, SignGradientAttack, bind, draw_epsilon
from hgd_tf.attacks.roles import Roles
from hgd_tf.crafting.sets import SEEN, AnyTransport, resized, transported
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.data.photographs import VARIETIES, CropShape, Variety, random_crops
from hgd_tf.data.transports import NONE, Transport
from hgd_tf.guidance import Batch
from hgd_tf.training.clock import Clock

FIRST_ROUNDS = 8  # before the first step
UNCHANGED = Transport(NONE)
POOL_ROUNDS = 32  # at most: what a denoiser meets again soon it learns by heart


class OnlinePairs:
    """Batches from a pool of attacked crops, the oldest of which are replaced as training goes on.

    A round takes `batch_size` fresh crops for each attack of the recipe. The pool begins with 8 rounds and grows to 32;
    a new one comes so often that each pair of a full pool is drawn `reuse` times on average. Step k's batch depends on
    the seed and on k alone.
    Crops are flipped before they are attacked, never afterwards: a flipped attack is a weaker one.

    Args:
      sides: at which the crops are attacked, one drawn a round; none: the shape's.
      transport: what happens to an attacked crop before it is resized to the shape's side, where it is denoised.
      reuse: how often a pair is drawn, on average.
    """

    def __init__(
        self,
        files: Sequence[LabeledFile],
        shape: CropShape,
        recipe: Recipe,
        roles: Roles,
        *,
        batch_size: int,
        variety: Variety = VARIETIES["plain"],
        sides: Sequence[int] = (),
        transport: AnyTransport = UNCHANGED,
        reuse: int,
        seed: int,
        clock: Clock,
    ):
        self.files, self.shape, self.recipe = files, shape, recipe
        self.attacks = bind(recipe, roles)
        self.batch_size, self.variety, self.reuse = batch_size, variety, reuse
        self.sides, self.transport = sides, transport
        self.seed, self.clock = seed, clock
        self.round_size = batch_size * len(self.attacks)
        self._attackers = {attack.models: SignGradientAttack(attack.models) for attack in self.attacks}
        pool = (POOL_ROUNDS, self.round_size)
        images = (*pool, shape.image_size, shape.image_size, shape.channels)
        self._attacked, self._clean = np.empty(images, SEEN), np.empty(images, SEEN)
        self._labels = np.empty(pool, np.int64)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of NumPy arrays without end, from that step on.

        Raises:
          DataError: none of the files can be read.
        """
        rounds = self._rounds_before(first_step)
        pool = range(max(rounds - POOL_ROUNDS, 0), rounds)
        crops = random_crops(self.files, self.shape, self.round_size, self.seed, pool.start, self.variety, self.sides)
        for number in tqdm(pool, desc="first attacks", unit="round", leave=False):
            self._replace(number, next(crops))
        step = first_step
        while True:
            if self._rounds_before(step) > rounds:
                with self.clock.waiting():
                    fresh = next(crops)
                with self.clock.crafting():
                    self._replace(rounds, fresh)
                rounds += 1
            with self.clock.waiting():
                batch = self._draw(step)
            yield batch
            step += 1

    def sample(self, step: int, count: int) -> Iterator[np.ndarray]:
        """So many batches of attacked images, float32, of the pool as it is at that step.

        A full pool's oldest round is left out. So they depend on the seed and the step alone, even where `batches` has
        run on and replaced that round.
        """
        rounds = self._rounds_before(step)
        places = np.arange(max(rounds - POOL_ROUNDS + 1, 0), rounds) % POOL_ROUNDS
        rng = np.random.default_rng([self.seed, step, count])
        for _ in range(count):
            place = rng.choice(places, self.batch_size), rng.integers(self.round_size, size=self.batch_size)
            yield self._attacked[place].astype(np.float32)

    def dataset(self, first_step: int) -> tf.data.Dataset:
        """`batches`, as Keras wants them."""
        size, _, channels = self._clean.shape[-3:]
        images = tf.TensorSpec((self.batch_size, size, size, channels), tf.float32)
        numbers = tf.TensorSpec((self.batch_size,), tf.int64)
        signature = Batch(attacked=images, clean=images, label=numbers, attack=numbers)
        return tf.data.Dataset.from_generator(lambda: self.batches(first_step), output_signature=signature)

    def _rounds_before(self, step: int) -> int:
        return FIRST_ROUNDS + step * self.batch_size // (self.reuse * self.round_size)

    def _replace(self, number: int, fresh) -> None:
        """Puts round `number` into the pool; in a full one, in the place of the oldest."""
        place = number % POOL_ROUNDS
        for attack, bound in enumerate(self.attacks):
            part = slice(attack * self.batch_size, (attack + 1) * self.batch_size)
            draw = [self.seed, number, attack]
            epsilon = draw_epsilon(self.batch_size, self.recipe.lowest, self.recipe.highest, draw)
            first = number * self.round_size + part.start
            numbers = np.arange(first, first + self.batch_size)
            attacked = self._attackers[bound.models](
                fresh.images[part], epsilon, bound.method, seed=self.seed, numbers=numbers
            )
            arrived = transported(attacked, self.transport, self.seed, numbers)
            self._attacked[place, part] = resized(arrived, self.shape.image_size)
        self._clean[place] = resized(fresh.images, self.shape.image_size)
        self._labels[place] = fresh.labels

    def _draw(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step, self.round_size])
        held = min(self._rounds_before(step), POOL_ROUNDS) * self.round_size
        place = np.unravel_index(rng.choice(held, self.batch_size, replace=False), self._labels.shape)
        return Batch(
            attacked=self._attacked[place].astype(np.float32),
            clean=self._clean[place].astype(np.float32),
            label=self._labels[place],
            attack=place[1] // self.batch_size,
        )
