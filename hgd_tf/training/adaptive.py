"""Training under attacks on the defence itself, made anew in every step (Madry et al. 2018, arXiv 1706.06083)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from hgd_tf.attacks.ascent import Ball, Point, pgd
from hgd_tf.attacks.ball import LINF, an_image, random_offsets
from hgd_tf.attacks.losses import cross_entropy
from hgd_tf.data.labeled_files import UNKNOWN
from hgd_tf.guidance import Batch, GuidedDenoiser


class AdaptiveAttack(NamedTuple):
    """How a step attacks the defence.

    Attributes:
      share: of a batch that is attacked end to end; the rest are the pairs as they came.
      clean_share: of a batch that is left clean.
      steps: of projected gradient descent from a random start; of one step, FGSM from a random start (Wong et al.
        2020, arXiv 2001.03994).
      lowest, highest: of the radius, in pixel units, uniform and of each image its own.
      ramp: training steps in which the highest radius rises from the lowest one.
      seed: of starts and radii, which depend on it and on the training step alone.
    """

    share: float
    clean_share: float
    steps: int
    lowest: float
    highest: float
    ramp: int
    seed: int

    @property
    def step(self) -> float:
        """Length of a step, in radii: one and a quarter over a single one, as Wong et al.; else 2.5 in all."""
        return 1.25 if self.steps == 1 else 2.5 / self.steps


class AdaptiveDenoiser(GuidedDenoiser):
    """A `GuidedDenoiser` whose steps first attack a share of the clean images through denoiser and target.

    The denoiser is attacked as it will be used, in inference mode. What is followed is the true class, or where that is
    unknown the target's answer to the clean image.

    Args:
      adaptive: how.
      args, kwargs: as of `GuidedDenoiser`.
    """

    def __init__(self, *args, adaptive: AdaptiveAttack, **kwargs):
        super().__init__(*args, **kwargs)
        self.adaptive = adaptive

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """One optimizer step on such a batch, a share of it attacked anew, another left clean."""
        batch = self.prepared(data)
        count = tf.shape(batch.clean)[0]
        attacked, clean = (self._part(count, share) for share in (self.adaptive.share, self.adaptive.clean_share))
        fresh = self.attack(batch.clean[:attacked], self._labels(batch)[:attacked])
        kept = batch.attacked[attacked + clean :]
        images = tf.concat([fresh, batch.clean[attacked : attacked + clean], kept], axis=0)
        return super().train_step(batch._replace(attacked=tf.ensure_shape(images, batch.attacked.shape)))

    @tf.function  # Keras does not convert what is below a replica's step, and the attack's loop has to be
    def attack(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Images (N, H, W, C) of the target's size, attacked end to end within a ball of a drawn radius each."""
        adaptive, step = self.adaptive, tf.cast(self.optimizer.iterations, tf.int64)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        number = step * tf.distribute.get_strategy().num_replicas_in_sync + tf.cast(replica, tf.int64)
        seed = tf.stack([tf.constant(adaptive.seed, tf.int64), number])
        count = tf.shape(images)[0]
        risen = tf.minimum(1.0, tf.cast(step + 1, tf.float32) / max(adaptive.ramp, 1))
        highest = adaptive.lowest + risen * (adaptive.highest - adaptive.lowest)
        radius = tf.random.stateless_uniform((count,), seed, adaptive.lowest, highest)
        places = tf.stack([tf.fill([count], ~number), tf.range(tf.cast(count, tf.int64))], axis=1)
        offsets = random_offsets(places, images.shape[1:], LINF)
        ball = Ball(images, radius, LINF)
        start = ball.project(images + an_image(radius) * offsets)
        kept, _ = pgd(lambda points: self._point(points, labels), ball, start, adaptive.steps, adaptive.step, 0.0)
        return tf.stop_gradient(kept.images)

    def _point(self, images: tf.Tensor, labels: tf.Tensor) -> Point:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = tf.cast(self.guide(self.denoiser(images, training=False))["logits"], tf.float32)
            loss = cross_entropy(logits, labels)
        gradient = tf.ensure_shape(tape.gradient(loss, images), images.shape)
        return Point(images, gradient, loss, tf.argmax(logits, axis=-1) != labels)

    def _labels(self, batch: Batch) -> tf.Tensor:
        answers = tf.argmax(self.guide(batch.clean)["logits"], axis=-1)
        return answers if batch.label is None else tf.where(batch.label == UNKNOWN, answers, batch.label)

    @staticmethod
    def _part(count: tf.Tensor, share: float) -> tf.Tensor:
        return tf.cast(tf.round(share * tf.cast(count, tf.float32)), tf.int32)
