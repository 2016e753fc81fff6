"""Attacks that follow a model's gradient on floats: projected gradient descent and Auto-PGD, in L-infinity or L2."""

from __future__ import annotations

import functools
from typing import Callable, Optional, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.ascent import Ball, Point, apgd, pgd
from hgd_tf.attacks.attacked import Attacked, check_labels, checked, in_batches, nothing_attacked
from hgd_tf.attacks.ball import NORMS, random_offsets, to_integers
from hgd_tf.attacks.losses import LOSSES, TARGETED, check_classes
from hgd_tf.attacks.sign_gradient import RUNG_STRIDE, Model
from hgd_tf.foundation.pixel_range import checks_pixels

RULES = ("pgd", "apgd")
FIRST_STEP = 2.0  # of Auto-PGD, in units of epsilon


class GradientAttack(tf.Module):
    """Raises a loss of one model within an epsilon ball and [0, 255], in as many runs as restarts and targets ask for.

    An image that is misclassified without an attack is returned as it is. A run ends with the iterate of the highest
    loss, among those that are misclassified if there are any; images that are still classified correctly go on to the
    next run. Nothing depends on the batch an image is in, but for rounding errors of the arithmetic.

    Args:
      model: images float32 (N, H, W, C) in [0, 255] to a dict with `logits` (N, classes); a `Defense` is one.
      loss: a name in `LOSSES`; a targeted one if there are `targets`.
      norm: `linf` or `l2`, of the ball and of the steps.
      rule: `pgd`, steps of one length; `apgd`, Auto-PGD, with inertia and steps that it halves by itself.
      steps: at least 1. A run takes one gradient more, at its start, as AutoAttack counts them.
      step: length of a (first) step in units of epsilon; default: 2.5 / steps, at most 1, of `pgd`; 2 of `apgd`.
      momentum: of `pgd`: the share of earlier gradients, each divided by its mean absolute value, that a step keeps.
      restarts: runs from other random starts.
      random_start: from a random point, uniform in the L-infinity ball or on the sphere of the L2 ball; else from the
        image.
      targets: 0: untargeted; k: each restart is a run towards each of the k wrong classes of the largest clean logits.
      expectation: calls of the model whose mean logits, loss and gradient are taken at each point, for models that
        draw at random (Athalye et al. 2018, arXiv 1802.00420).
      rounding: results are integer pixels, in the ball, and those are judged; images must be such, too.
      early_stop: an image is done with at its first misclassified iterate, whose loss is then low: for a model that is
        the one attacked, not for attacks that are to transfer.

    Raises:
      ValueError: an argument is none of these, or some do not go together.
    """

    def __init__(
        self,
        model: Model,
        *,
        loss: str = "cross_entropy",
        norm: str = "linf",
        rule: str = "pgd",
        steps: int = 20,
        step: Optional[float] = None,
        momentum: float = 0.0,
        restarts: int = 1,
        random_start: bool = True,
        targets: int = 0,
        expectation: int = 1,
        rounding: bool = False,
        early_stop: bool = False,
    ):
        super().__init__()
        for name, chosen, known in (("loss", loss, tuple(LOSSES)), ("norm", norm, NORMS), ("rule", rule, RULES)):
            if chosen not in known:
                raise ValueError(f"{name} must be one of {known}, received {chosen!r}")
        for name, value, least in (
            ("steps", steps, 1),
            ("restarts", restarts, 1),
            ("targets", targets, 0),
            ("expectation", expectation, 1),
        ):
            if value != int(value) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, received {value!r}")
        if loss.startswith(TARGETED) != (targets > 0):
            raise ValueError(f"targeted losses go with targets of at least 1, received {loss!r} with {targets}")
        if restarts > 1 and not random_start:
            raise ValueError(f"without a random start all restarts are one, received restarts={restarts}")
        if step is not None and step <= 0:
            raise ValueError(f"step must be positive, received {step}")
        if early_stop and rounding:
            raise ValueError("rounding may undo what early_stop ends with, received both")
        if momentum and rule == "apgd":
            raise ValueError(f"apgd has an inertia of its own, received momentum={momentum}")
        self.model = model
        self.loss = loss
        self.norm = norm
        self.steps = steps
        self.restarts = restarts
        self.random_start = random_start
        self.targets = targets
        self.expectation = expectation
        self.rounding = rounding
        if rule == "apgd":
            rule_of_steps = functools.partial(apgd, step=step or FIRST_STEP)
        else:
            rule_of_steps = functools.partial(pgd, step=step or min(1.0, 2.5 / steps), momentum=momentum)
        self._climb = functools.partial(rule_of_steps, steps=steps, early_stop=early_stop)
        # A tf.function made anew at each call would be traced anew at each; the caches are the object's own.
        self._compiled_run = functools.lru_cache(maxsize=None)(self._compile_run)
        self._compiled_logits = functools.lru_cache(maxsize=None)(self._compile_logits)

    @checks_pixels
    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        epsilon: Union[float, np.ndarray],
        *,
        seed: int = 0,
        numbers: Optional[np.ndarray] = None,
        batch_size: Optional[int] = None,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> Attacked:
        """Attacks images.

        Args:
          images: (N, H, W, C), numbers in [0, 255].
          labels: int (N,), 0-based: the true classes.
          epsilon: (N,) or one for all, the radius of each ball in pixel units, at least 0.
          seed: of the random starts.
          numbers: int (N,), of the images in their set; default: 0, 1, …. A start depends on them and the seed alone.
          batch_size: images computed at a time; None: all of them.
          on_batch: called with the number of images finished since the last call, for a progress bar.

        Raises:
          ValueError: the arguments do not fit together or to the model's classes.
        """
        problem = checked(images, labels, epsilon, numbers, self.rounding)
        count = len(problem.images)
        if not count:
            return nothing_attacked(problem.images, self.steps)
        logits = self._logits(problem.images, batch_size)
        targets = self._targets(logits, problem.labels)
        result = Attacked(
            problem.images.copy(),
            logits.argmax(axis=1) != problem.labels,
            np.zeros(count, np.int64),
            np.full(count, self.expectation, np.int64),
            np.zeros(self.steps + 1),
        )
        on_batch(int(result.fooled.sum()))
        waiting, highest = np.flatnonzero(~result.fooled), np.full(count, -np.inf)
        result.losses[:] = 0.0 if len(waiting) else np.nan
        runs = self.restarts * len(targets)
        for run in range(runs):
            seeds = np.stack([np.full(count, seed), problem.numbers + run * RUNG_STRIDE], axis=1)
            for batch in in_batches(waiting, batch_size):
                attacked, loss, wrong, losses, evaluations = self._run(
                    problem, targets[run % len(targets)], seeds, batch
                )
                if run == 0:
                    result.losses[:] += losses / len(waiting)
                better = batch[wrong | (loss > highest[batch])]
                result.images[better] = attacked[np.isin(batch, better)]
                highest[batch] = np.maximum(highest[batch], loss)
                result.fooled[batch] = wrong
                result.gradients[batch] += self.expectation * evaluations
                result.queries[batch] += self.expectation * (evaluations + self.rounding)
                on_batch(int(wrong.sum()) if run + 1 < runs else len(batch))
            waiting = waiting[~result.fooled[waiting]]
        return result

    def _logits(self, images: np.ndarray, batch_size: Optional[int]) -> np.ndarray:
        compiled = self._compiled_logits(images.shape[1:])
        batches = in_batches(np.arange(len(images)), batch_size)
        return np.concatenate([compiled(images[batch]).numpy() for batch in batches])

    def _targets(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(targets, N), the most likely wrong classes; the labels, (1, N), of an untargeted attack."""
        classes = logits.shape[1]
        check_labels(labels, classes)
        check_classes(self.loss, classes)
        if not self.targets:
            return labels[np.newaxis]
        if self.targets >= classes:
            raise ValueError(f"of {classes} classes {classes - 1} are wrong, received targets={self.targets}")
        wrong = logits.copy()
        np.put_along_axis(wrong, labels[:, np.newaxis], -np.inf, axis=1)
        return np.argsort(-wrong, axis=1, kind="stable")[:, : self.targets].T.astype(np.int64)

    def _run(self, problem, targets: np.ndarray, seeds: np.ndarray, batch: np.ndarray):
        """Of a batch: attacked images, loss, whether misclassified; the summed loss along the iterates; evaluations."""
        images, labels, epsilon = problem.images[batch], problem.labels[batch], problem.epsilon[batch]
        compiled = self._compiled_run(images.shape[1:])
        results = compiled(images, labels, targets[batch], epsilon, seeds[batch])
        attacked, loss, wrong, losses, evaluations = (result.numpy() for result in results)
        if self.rounding:
            attacked = to_integers(attacked, images, epsilon, self.norm)
            logits = self._compiled_logits(images.shape[1:])(attacked)
            loss = LOSSES[self.loss](logits, labels, targets[batch]).numpy()
            wrong = logits.numpy().argmax(axis=1) != labels
        return attacked, loss, wrong, losses, evaluations

    def _compile_logits(self, shape: tuple[int, ...]):
        return tf.function(
            functools.partial(self._mean_logits), input_signature=[tf.TensorSpec((None, *shape), tf.float32)]
        )

    def _compile_run(self, shape: tuple[int, ...]):
        # Of any number of images, so that a last batch, or one of those that are left, compiles nothing anew.
        classes = tf.TensorSpec((None,), tf.int64)
        signature = [
            tf.TensorSpec((None, *shape), tf.float32),
            classes,
            classes,
            tf.TensorSpec((None,), tf.float32),
            tf.TensorSpec((None, 2), tf.int64),
        ]
        # A partial: of the code that many attacks share, TensorFlow would warn that it is traced again and again.
        return tf.function(functools.partial(self._attack), input_signature=signature)

    def _attack(self, images, labels, targets, epsilon, seeds):
        ball = Ball(images, epsilon, self.norm)
        start = images
        if self.random_start:
            offsets = random_offsets(seeds, images.shape[1:], self.norm)
            start = ball.project(images + offsets * tf.reshape(epsilon, (-1, 1, 1, 1)))

        def evaluate(points, numbers):
            return self._evaluate(points, tf.gather(labels, numbers), tf.gather(targets, numbers))

        kept, losses, evaluations = self._climb(evaluate, ball, start)
        return kept.images, kept.loss, kept.wrong, losses, evaluations

    def _evaluate(self, images: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> Point:
        logits, loss, gradient = self._once(images, labels, targets)
        if self.expectation > 1:
            for _ in tf.range(self.expectation - 1):
                more = self._once(images, labels, targets)
                logits, loss, gradient = logits + more[0], loss + more[1], gradient + more[2]
            loss, gradient = loss / self.expectation, gradient / self.expectation
        return Point(images, gradient, loss, tf.argmax(logits, axis=-1) != labels)

    def _once(self, images, labels, targets) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits, loss and gradient, of one pass forward and one back."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = tf.cast(self.model(images)["logits"], tf.float32)
            loss = LOSSES[self.loss](logits, labels, targets)
        # A filter before the model can hide the gradient's static shape, which the loop needs to keep.
        gradient = tf.ensure_shape(
            tape.gradient(loss, images, unconnected_gradients=tf.UnconnectedGradients.ZERO), images.shape
        )
        return logits, loss, tf.where(tf.math.is_finite(gradient), gradient, 0.0)

    def _mean_logits(self, images: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(self.model(images)["logits"], tf.float32)
        if self.expectation > 1:
            for _ in tf.range(self.expectation - 1):
                logits += tf.cast(self.model(images)["logits"], tf.float32)
        return logits / self.expectation
