"""Training under attacks on the defence itself, made anew in every step (Madry et al. 2018, arXiv 1706.06083)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Union

import tensorflow as tf

from hgd_tf.attacks.ascent import Ball
from hgd_tf.attacks.ball import LINF, an_image
from hgd_tf.attacks.losses import cross_entropy
from hgd_tf.data.labeled_files import UNKNOWN
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import Batch, Guidance, GuidedDenoiser
from hgd_tf.targets import Target, resize_to
from hgd_tf.training.config import TrainConfig


class AdaptiveAttack(NamedTuple):
    """How a step attacks the defence, and what else its loss is of.

    Attributes:
      share: of a batch that is attacked end to end; the rest are the pairs as they came.
      clean_weight: of the loss on the batch's clean images, added to that on the others.
      steps: of projected gradient descent from a random start; of one step, FGSM from a random start (Wong et al.
        2020, arXiv 2001.03994).
      lowest, highest: bounds of the radius, in pixel units, uniform and of each image its own.
      ramp: training steps in which the highest radius rises from the lowest one.
      sides: of the attacked images in pixels, one drawn a step; none: the target's. The denoiser sees them resized.
      seed: of starts, radii and sides, which depend on it and on the number of the training step alone.
    """

    share: float = 1.0
    clean_weight: float = 0.5
    steps: int = 3
    lowest: float = 1.0
    highest: float = 16.0
    ramp: int = 0
    sides: tuple[int, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, config: TrainConfig) -> AdaptiveAttack:
        lowest, highest = config.adaptive_epsilon
        return cls(
            share=config.adaptive_share,
            clean_weight=config.clean_weight,
            steps=config.adaptive_steps,
            lowest=lowest,
            highest=highest,
            ramp=config.adaptive_ramp,
            sides=config.attack_sizes,
            seed=config.experiment.seed,
        )

    @property
    def step(self) -> float:
        """Length of a step, in radii: one and a quarter of a single one, as Wong et al.; else 2.5 in all."""
        return 1.25 if self.steps == 1 else 2.5 / self.steps


class AdaptiveDenoiser(GuidedDenoiser):
    """A `GuidedDenoiser` whose steps first attack clean images through denoiser and target, and see them clean beside.

    The denoiser is attacked as it will be used, in inference mode. What is followed is the true class, or where that is
    unknown the target's answer to the clean image. Attacked and clean images pass as one batch, of whose statistics
    batch normalization then is.

    It is tested on the clean images of what it is given, all attacked with radii up to the highest, from the same
    starts each time: its loss is that of training, its accuracies are `accuracy_adaptive` and `accuracy_clean`.

    Args:
      denoiser, target, guidance, kwargs: as of `GuidedDenoiser`.
      adaptive: how it attacks.
    """

    def __init__(
        self,
        denoiser: keras.Model,
        target: Target,
        guidance: Union[Guidance, str],
        adaptive: AdaptiveAttack,
        **kwargs: Any,
    ):
        super().__init__(denoiser, target, guidance, ("adaptive", "clean"), **kwargs)
        self.adaptive = adaptive

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """One optimizer step on such a batch, a share of it attacked anew, and on its clean images."""
        given, batch = self.as_given(data), self.prepared(data)
        count = tf.cast(tf.shape(batch.clean)[0], tf.float32)
        attacked = tf.maximum(tf.cast(tf.round(self.adaptive.share * count), tf.int32), 1)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        number = step * tf.distribute.get_strategy().num_replicas_in_sync + _replica()
        fresh = self._attack_at_a_side(given.clean[:attacked], self._labels(batch)[:attacked], number)
        return super().train_step(_beside_clean(tf.concat([fresh, batch.attacked[attacked:]], axis=0), batch))

    def _tested(self, batch: Batch, count: tf.Tensor) -> dict[str, tf.Tensor]:
        fresh = self.attack(batch.clean, self._labels(batch), -1 - _replica(), self.adaptive.highest)
        return super()._tested(_beside_clean(fresh, batch), count)

    def _loss(self, reference: list[tf.Tensor], response: list[tf.Tensor]) -> tf.Tensor:
        half = tf.shape(response[0])[0] // 2
        attacked, clean = (
            super(AdaptiveDenoiser, self)._loss([term[part] for term in reference], [term[part] for term in response])
            for part in (slice(half), slice(half, None))
        )
        return attacked + self.adaptive.clean_weight * clean

    def _attack_at_a_side(self, images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """The images, of any size, attacked at the step's side; of the target's size then."""
        size = self.target.image_size

        def attacked(side: int) -> tf.Tensor:
            at_side = images if images.shape[1:3] == (side, side) else tf.round(resize_to(images, side))
            return resize_to(self.attack(tf.cast(at_side, tf.float32), labels, number, self.highest_radius()), size)

        sides = self.adaptive.sides or (size,)
        drawn = tf.random.stateless_uniform((), [~self.adaptive.seed, number], 0, len(sides), tf.int32)
        return tf.switch_case(drawn, [functools.partial(attacked, side) for side in sides])

    def highest_radius(self) -> tf.Tensor:
        """Of the coming step, in pixel units, float32."""
        lowest, highest, ramp = self.adaptive.lowest, self.adaptive.highest, max(self.adaptive.ramp, 1)
        risen = tf.cast(self.optimizer.iterations + 1, tf.float32) / ramp
        return lowest + tf.minimum(1.0, risen) * (highest - lowest)

    def attack(
        self, images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor, highest: Union[tf.Tensor, float]
    ) -> tf.Tensor:
        """Images (N, H, W, C), attacked end to end, through the resize, within a ball of a drawn radius each.

        Args:
          labels: int64 (N,), which the defence is to miss.
          number: int64, that seeds starts and radii.
          highest: radius, in pixel units.
        """
        adaptive = self.adaptive
        radius = tf.random.stateless_uniform(tf.shape(images)[:1], [adaptive.seed, number], adaptive.lowest, highest)
        offsets = tf.random.stateless_uniform(tf.shape(images), [adaptive.seed, ~number], -1.0, 1.0)
        ball = Ball(images, radius, LINF)

        def stepped(points: tf.Tensor) -> tuple[tf.Tensor]:
            move = an_image(adaptive.step * radius) * tf.sign(self._gradient(points, labels))
            return (ball.project(points + move),)

        start = ball.project(images + an_image(radius) * offsets)
        # Not a loop of Python's: Keras converts none below a replica's step.
        (attacked,) = tf.while_loop(lambda _: True, stepped, (start,), maximum_iterations=adaptive.steps)
        return attacked

    def _gradient(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            seen = resize_to(images, self.target.image_size)
            logits = self.guide(self.denoiser(seen, training=False))["logits"]
            loss = cross_entropy(tf.cast(logits, tf.float32), labels)
        return tf.ensure_shape(tape.gradient(loss, images), images.shape)

    def _labels(self, batch: Batch) -> tf.Tensor:
        def answers() -> tf.Tensor:
            return tf.argmax(self.guide(batch.clean)["logits"], axis=-1)

        if batch.label is None:
            return answers()
        unknown = batch.label == UNKNOWN
        return tf.cond(
            tf.reduce_any(unknown), lambda: tf.where(unknown, answers(), batch.label), lambda: tf.identity(batch.label)
        )


def _replica() -> tf.Tensor:
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)


def _beside_clean(attacked: tf.Tensor, batch: Batch) -> Batch:
    """Of twice as many pairs: those of the attacked images, then the clean ones with themselves."""
    ones = tf.ones(tf.shape(attacked)[:1], tf.int64)
    return Batch(
        attacked=tf.concat([attacked, batch.clean], axis=0),
        clean=tf.tile(batch.clean, [2, 1, 1, 1]),
        label=None if batch.label is None else tf.tile(batch.label, [2]),
        attack=tf.concat([0 * ones, ones], axis=0),  # numbers of ("adaptive", "clean")
    )
