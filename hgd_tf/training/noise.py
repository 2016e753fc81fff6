"""Training on Gaussian noise instead of attacks: denoised smoothing (Salman et al. 2020, arXiv 2003.01908)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple

import tensorflow as tf

from hgd_tf.attacks.draws import numbered_seeds, with_gaussian_noise
from hgd_tf.crafting import AttackedSet
from hgd_tf.guidance import Batch

VALIDATION = -1  # training steps have the numbers below, certificates (hgd_tf/evaluation/smoothing.py) those above


class Noise(NamedTuple):
    """Noise on the clean images of pairs, in the place of the attacked ones: float32, not clipped.

    Attributes:
      sigma: its standard deviation, in [0, 1] units.
      seed: of the draws, which depend on it, the step and the place in the batch alone.
    """

    sigma: float
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attacks, for the log."""
        return ("noise",)

    def batches(self, clean: Callable[[int], tf.data.Dataset]) -> Callable[[int], tf.data.Dataset]:
        """Batches from a step on, with noise that is new in each step."""

        def noisy(step: tf.Tensor, batch: Batch) -> Batch:
            return batch._replace(attacked=self._noisy(batch.clean, VALIDATION - 1 - step))

        def from_step(first_step: int) -> tf.data.Dataset:
            steps = tf.data.Dataset.range(first_step, tf.int64.max)
            return tf.data.Dataset.zip((steps, clean(first_step))).map(noisy).prefetch(2)

        return from_step

    def sample(self, clean: Callable[[int, int], Iterable[tf.Tensor]]) -> Callable[[int, int], Iterator[tf.Tensor]]:
        """So many batches of noisy images about a step."""

        def about_step(step: int, count: int) -> Iterator[tf.Tensor]:
            for number, images in enumerate(clean(step, count)):
                yield self._noisy(tf.constant(images), VALIDATION - 1 - step - number)

        return about_step

    def on(self, clean: AttackedSet) -> AttackedSet:
        """The set with noise, always the same, in the place of its only attack."""
        noisy = self._noisy(tf.constant(clean.clean.images), VALIDATION)
        return clean._replace(names=self.names, attacked=noisy.numpy()[None])

    def _noisy(self, images: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        seeds = numbered_seeds(self.seed, group, tf.range(tf.shape(images)[0]))
        return tf.ensure_shape(with_gaussian_noise(images, seeds, self.sigma), images.shape)
