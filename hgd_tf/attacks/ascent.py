"""Ways up a loss within a ball, as loops of one graph: projected gradient descent, and Auto-PGD."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.ball import an_image, direction, project

INERTIA = 0.25  # of Auto-PGD's last move, in its next one: 1 - alpha
LEAST_RISES = 0.75  # rho: the share of steps since the last checkpoint that must have raised the loss


class Point(NamedTuple):
    """Where an ascent is, and what the model says there.

    Attributes:
      images: float32 (N, H, W, C).
      gradient: of the loss, of the images' shape.
      loss: float32 (N,).
      wrong: bool (N,), whether it is misclassified.
    """

    images: tf.Tensor
    gradient: tf.Tensor
    loss: tf.Tensor
    wrong: tf.Tensor


class Ball(NamedTuple):
    """Around images, (N, H, W, C), of radius (N,)."""

    images: tf.Tensor
    radius: tf.Tensor
    norm: str

    def step(self, point: Point, gradient: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Along the gradient by so many radii, and back into the ball."""
        return self.project(point.images + an_image(length * self.radius) * direction(gradient, self.norm))

    def project(self, images: tf.Tensor) -> tf.Tensor:
        return project(images, self.images, self.radius, self.norm)


# Of the images (M, H, W, C) whose numbers in the batch are the second argument, int64 (M,).
Evaluate = Callable[[tf.Tensor, tf.Tensor], Point]


class Ascent(NamedTuple):
    """What a way up found.

    Attributes:
      kept: the points to keep: misclassified ones where there are any, and of those the ones of the highest loss.
      losses: float32 (steps + 1,), summed over the images, at each of the iterates.
      evaluations: int64 (N,), of each image.
    """

    kept: Point
    losses: tf.Tensor
    evaluations: tf.Tensor


def pgd(
    evaluate: Evaluate, ball: Ball, start: tf.Tensor, steps: int, step: float, momentum: float, early_stop: bool
) -> Ascent:
    """Steps of one length (Madry et al. 2018, arXiv 1706.06083), with momentum (Dong et al. 2018, arXiv 1710.06081).

    Args:
      step: in radii.
      momentum: how much of the earlier gradients, each divided by its mean absolute value, a step keeps.
      early_stop: no more steps of an image after its first misclassified iterate.
    """
    ascent = _started(evaluate, start, steps)
    point, gradient = ascent.kept, tf.zeros_like(start)
    for number in tf.range(steps):
        waiting = ~(ascent.kept.wrong & early_stop)
        if not tf.reduce_any(waiting):
            break
        gradient = momentum * gradient + _of_unit_mean(point.gradient) if momentum else point.gradient
        ahead = ball.step(point, gradient, tf.fill(tf.shape(ball.radius), step))
        point = _evaluated(evaluate, ahead, waiting, point)
        ascent = _went_on(ascent, number, point, waiting)
    return ascent


def apgd(evaluate: Evaluate, ball: Ball, start: tf.Tensor, steps: int, step: float, early_stop: bool) -> Ascent:
    """Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1), each image with a step of its own.

    At checkpoints the step of an image is halved, and it goes on from its best point, where too few steps raised its
    loss, or where neither its step nor its best loss has changed since the last checkpoint.

    Args:
      step: the first one, in radii.
      early_stop: as of `pgd`.
    """
    windows = tf.constant(checkpoints(steps), tf.float32)
    ascent = _started(evaluate, start, steps)
    point = best = ascent.kept
    before, evaluated_loss, best_at_check = point.images, point.loss, point.loss
    length, rises = tf.fill(tf.shape(point.loss), step), tf.zeros_like(point.loss)
    halved = tf.ones_like(point.wrong)
    for number in tf.range(steps):
        waiting = ~(ascent.kept.wrong & early_stop)
        if not tf.reduce_any(waiting):
            break
        ahead = ball.step(point, point.gradient, length) - point.images
        inertia = tf.where(number > 0, INERTIA, 0.0)
        moved = point.images + (1.0 - inertia) * ahead + inertia * (point.images - before)
        before, last_loss = point.images, evaluated_loss
        point = _evaluated(evaluate, ball.project(moved), waiting, point)
        evaluated_loss = point.loss
        ascent = _went_on(ascent, number, point, waiting)
        best = _where(point.loss > best.loss, point, best)
        rises += tf.cast(point.loss > last_loss, tf.float32)
        if windows[number] > 0:
            halved = (rises <= LEAST_RISES * windows[number]) | (~halved & (best_at_check >= best.loss))
            length = tf.where(halved, length / 2.0, length)
            point = _where(halved, best, point)
            best_at_check, rises = best.loss, tf.zeros_like(rises)
    return ascent


def _started(evaluate: Evaluate, start: tf.Tensor, steps: int) -> Ascent:
    count = tf.shape(start, tf.int64)[0]
    point = evaluate(start, tf.range(count))
    return Ascent(point, tf.fill([steps + 1], tf.reduce_sum(point.loss)), tf.ones([count], tf.int64))


def _evaluated(evaluate: Evaluate, images: tf.Tensor, waiting: tf.Tensor, point: Point) -> Point:
    """Where those that wait are at the images; the others stay at their points."""
    chosen = tf.where(waiting)[:, 0]
    found = evaluate(tf.gather(images, chosen), chosen)
    return Point(*(tf.tensor_scatter_nd_update(old, chosen[:, tf.newaxis], new) for old, new in zip(point, found)))


def _went_on(ascent: Ascent, number: tf.Tensor, point: Point, waiting: tf.Tensor) -> Ascent:
    """After the step of that number, which led those that wait to the point."""
    last = tf.range(tf.shape(ascent.losses)[0]) > number
    return Ascent(
        _where(_preferred(point, ascent.kept), point, ascent.kept),
        tf.where(last, tf.reduce_sum(point.loss), ascent.losses),
        ascent.evaluations + tf.cast(waiting, tf.int64),
    )


def checkpoints(steps: int) -> np.ndarray:
    """(steps,): after each step, 0, or at a checkpoint the number of steps since the one before it.

    They are AutoAttack's, in whole steps: 0.22 of all, then each time 0.03 less, of at least 0.06.
    """
    window, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    lengths, last = np.zeros(steps, np.int64), 0
    while last + window <= steps:
        last += window
        lengths[last - 1] = window
        window = max(window - less, least)
    return lengths


def _preferred(point: Point, kept: Point) -> tf.Tensor:
    """(N,): misclassified ones before others, then those of the higher loss."""
    return (point.wrong & ~kept.wrong) | ((point.wrong == kept.wrong) & (point.loss > kept.loss))


def _where(chosen: tf.Tensor, point: Point, other: Point) -> Point:
    return Point(
        tf.where(an_image(chosen), point.images, other.images),
        tf.where(an_image(chosen), point.gradient, other.gradient),
        tf.where(chosen, point.loss, other.loss),
        tf.where(chosen, point.wrong, other.wrong),
    )


def _of_unit_mean(gradient: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(gradient, tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True))
