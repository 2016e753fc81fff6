"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049) in L-infinity: random search that sees logits alone."""

from __future__ import annotations

import functools
from typing import Callable, Optional, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.attacked import Attacked, check_labels, checked, in_batches, nothing_attacked
from hgd_tf.attacks.losses import margin
from hgd_tf.attacks.sign_gradient import Model
from hgd_tf.foundation.pixel_range import PIXEL_MAX, checks_pixels

# After how many of 10,000 queries the share of pixels that a square covers is halved.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class SquareAttack(tf.Module):
    """Raises the margin of one model by squares of pixels moved to a corner of the ball, kept where they help.

    The first proposal is vertical stripes. An image is done with as soon as it is misclassified, without an attack
    already or after a query. Nothing depends on the batch an image is in.

    Args:
      model: images float32 (N, H, W, C) in [0, 255] to a dict with `logits` (N, classes).
      queries: forward evaluations an image, at most; that of the clean image is the first.
      p_init: share of an image's pixels that the first squares cover.
      rounding: results are integer pixels in the ball: epsilon is rounded down. Images must be such, too.

    Raises:
      ValueError: queries is below 2, or p_init not in (0, 1].
    """

    def __init__(self, model: Model, *, queries: int = 1000, p_init: float = 0.8, rounding: bool = False):
        super().__init__()
        if queries != int(queries) or queries < 2:
            raise ValueError(f"queries must be an integer of at least 2, received {queries!r}")
        if not 0 < p_init <= 1:
            raise ValueError(f"p_init must be in (0, 1], received {p_init!r}")
        self.model = model
        self.queries = queries
        self.p_init = p_init
        self.rounding = rounding
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
        """Attacks images; arguments as of `GradientAttack`; the losses, (queries,), are the best after each query.

        Raises:
          ValueError: the arguments do not fit together or to the model's classes.
        """
        images, labels, epsilon, numbers = checked(images, labels, epsilon, numbers, self.rounding)
        if not len(images):
            return nothing_attacked(images, self.queries - 1)
        epsilon = np.floor(epsilon) if self.rounding else epsilon
        best, queries = images.copy(), np.ones(len(images), np.int64)
        fooled, highest = self._judge(images, labels, batch_size)
        attacked, on_track = ~fooled, [highest[~fooled].mean() if not fooled.all() else np.nan]
        on_batch(int(fooled.sum()))
        generators = [np.random.default_rng([seed, number]) for number in numbers]
        for query in range(1, self.queries):
            waiting = np.flatnonzero(~fooled)
            if len(waiting):
                share = self._share(query - 1)
                draw = stripes if query == 1 else functools.partial(square, share=share)
                proposals = np.stack([draw(generators[i], images[i], best[i], epsilon[i]) for i in waiting])
                wrong, loss = self._judge(proposals, labels[waiting], batch_size)
                better = wrong | (loss > highest[waiting]) | (query == 1)
                best[waiting[better]] = proposals[better]
                highest[waiting[better]] = loss[better]
                fooled[waiting] = wrong
                queries[waiting] += 1
                on_batch(int(wrong.sum()))
            on_track.append(highest[attacked].mean() if attacked.any() else np.nan)
        on_batch(int((~fooled).sum()))
        return Attacked(best, fooled, np.zeros_like(queries), queries, np.array(on_track, np.float64))

    def _judge(self, images: np.ndarray, labels: np.ndarray, batch_size: Optional[int]):
        """(N,) whether misclassified, and (N,) margins."""
        compiled = self._compiled_logits(images.shape[1:])
        batches = in_batches(np.arange(len(images)), batch_size)
        logits = np.concatenate([compiled(images[batch]).numpy() for batch in batches])
        check_labels(labels, logits.shape[1])
        return logits.argmax(axis=1) != labels, margin(tf.constant(logits), tf.constant(labels)).numpy()

    def _share(self, number: int) -> float:
        """Of the pixels in the square of that proposal."""
        scaled = number / (self.queries - 1) * 10_000
        return self.p_init / 2 ** sum(int(scaled) > after for after in HALVED_AFTER)

    def _compile_logits(self, shape: tuple[int, ...]):
        def logits(images):
            return tf.cast(self.model(images)["logits"], tf.float32)

        return tf.function(logits, input_signature=[tf.TensorSpec((None, *shape), tf.float32)])


def stripes(rng: np.random.Generator, image: np.ndarray, best: np.ndarray, epsilon: float) -> np.ndarray:
    """The image, (H, W, C), each column of each channel moved to one end of the ball."""
    _, width, channels = image.shape
    return _moved(image, rng.choice([-epsilon, epsilon], (1, width, channels)))


def square(rng: np.random.Generator, image: np.ndarray, best: np.ndarray, epsilon: float, share: float) -> np.ndarray:
    """The best one so far, a square of it moved to one end of the ball in each channel, to another than it is at."""
    height, width, channels = image.shape
    side = min(max(round(np.sqrt(share * height * width)), 1), height, width)
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    window = np.s_[top : top + side, left : left + side]
    moves = rng.choice([-epsilon, epsilon], channels)
    moved = _moved(image[window], moves)
    if np.array_equal(moved, best[window]):  # a query for nothing
        moved = _moved(image[window], -moves)
    proposal = best.copy()
    proposal[window] = moved
    return proposal


def _moved(pixels: np.ndarray, moves: np.ndarray) -> np.ndarray:
    return np.clip(pixels + moves, 0, PIXEL_MAX).astype(np.float32)
