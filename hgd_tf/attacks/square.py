"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search that sees logits alone."""

from __future__ import annotations

import functools
from typing import Callable, Optional, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.attacked import Attacked, check_labels, checked, in_batches, nothing_attacked
from hgd_tf.attacks.ball import LINF, NORMS, to_integers
from hgd_tf.attacks.losses import margin
from hgd_tf.attacks.sign_gradient import Model
from hgd_tf.foundation.pixel_range import PIXEL_MAX, checks_pixels

# After how many of 10,000 queries the share of pixels that a square covers is halved.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class SquareAttack(tf.Module):
    """Raises the margin of one model by changes of squares of pixels, kept where they help.

    In L-infinity a square is moved to a corner of the ball; the first proposal is vertical stripes (algorithm 2). In L2
    one square's perturbation goes and another's grows towards a pattern; the first proposal is tiles of that pattern
    (algorithm 3). An image is done with as soon as it is misclassified, without an attack already or after a query.
    Nothing depends on the batch an image is in.

    Args:
      model: images float32 (N, H, W, C) in [0, 255] to a dict with `logits` (N, classes).
      queries: forward evaluations an image, at most; that of the clean image is the first.
      norm: `linf` or `l2`.
      p_init: share of an image's pixels that the first squares cover.
      rounding: results are integer pixels in the ball. Images must be such, too.

    Raises:
      ValueError: queries is below 2, p_init not in (0, 1], or the norm another.
    """

    def __init__(
        self, model: Model, *, queries: int = 1000, norm: str = LINF, p_init: float = 0.8, rounding: bool = False
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, received {norm!r}")
        if queries != int(queries) or queries < 2:
            raise ValueError(f"queries must be an integer of at least 2, received {queries!r}")
        if not 0 < p_init <= 1:
            raise ValueError(f"p_init must be in (0, 1], received {p_init!r}")
        self.model = model
        self.queries = queries
        self.norm = norm
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
        images, labels, radius, numbers = checked(images, labels, epsilon, numbers, self.rounding)
        if not len(images):
            return nothing_attacked(images, self.queries - 1)
        if self.rounding and self.norm == LINF:
            radius = np.floor(radius)
        first, then = (stripes, square) if self.norm == LINF else (tiles, exchange)
        best, queries = images.copy(), np.ones(len(images), np.int64)
        fooled, highest = self._judge(images, labels, batch_size)
        attacked, on_track = ~fooled, [highest[~fooled].mean() if not fooled.all() else np.nan]
        on_batch(int(fooled.sum()))
        generators = [np.random.default_rng([seed, number]) for number in numbers]
        for query in range(1, self.queries):
            waiting = np.flatnonzero(~fooled)
            if len(waiting):
                share = self._share(query - 1)
                draw = first if query == 1 else functools.partial(then, share=share)
                proposals = np.stack([draw(generators[i], images[i], best[i], radius[i]) for i in waiting])
                if self.rounding:
                    proposals = to_integers(proposals, images[waiting], radius[waiting], self.norm)
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


def tiles(rng: np.random.Generator, image: np.ndarray, best: np.ndarray, epsilon: float) -> np.ndarray:
    """The image with patterns in five by five tiles, each channel's of one sign, as long as the ball's radius."""
    height, width, channels = image.shape
    offsets, side = np.zeros(image.shape), max(min(height, width) // 5, 1)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            signs = rng.choice([-1.0, 1.0], channels)
            offsets[top : top + side, left : left + side] = pattern(rng, side)[:, :, np.newaxis] * signs
    return _of_length(image, offsets, epsilon)


def exchange(rng: np.random.Generator, image: np.ndarray, best: np.ndarray, epsilon: float, share: float) -> np.ndarray:
    """The best one so far: one square's perturbation goes, another's turns towards a pattern and gets what is free."""
    height, width, channels = image.shape
    side = min(max(round(np.sqrt(share * height * width)) | 1, 3), height, width)
    corners = [(rng.integers(height - side + 1), rng.integers(width - side + 1)) for _ in range(2)]
    to, away = (np.s_[top : top + side, left : left + side] for top, left in corners)
    offsets = best.astype(np.float64) - image
    freed = np.zeros((height, width, 1), bool)
    freed[to], freed[away] = True, True
    unused = max(epsilon**2 - np.sum(offsets**2), 0.0) / channels
    available = np.sqrt(np.sum(np.where(freed, offsets, 0.0) ** 2, axis=(0, 1)) + unused)
    turned = _of_unit_length(offsets[to]) + pattern(rng, side)[:, :, np.newaxis] * rng.choice([-1.0, 1.0], channels)
    offsets[away] = 0.0
    offsets[to] = _of_unit_length(turned) * available
    return _of_length(image, offsets, epsilon)


def pattern(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side), of length 1: a peak and a trough side by side, one above the other at random (equation 2)."""
    half = side // 2
    both = np.concatenate([_peak(half, side), -_peak(side - half, side)]) if half else np.ones((1, 1))
    both /= np.linalg.norm(both)
    return both.T if rng.random() < 0.5 else both


def _peak(height: int, width: int) -> np.ndarray:
    """Concentric squares, each further in higher than the one around by the inverse square of its distance plus one."""
    rows, columns = (np.abs(np.arange(length) - length // 2) for length in (height, width))
    away = np.maximum(rows[:, np.newaxis], columns)
    steps = 1.0 / (np.arange(away.max() + 1) + 1.0) ** 2
    return np.cumsum(steps[::-1])[::-1][away]


def _of_unit_length(offsets: np.ndarray) -> np.ndarray:
    """(H, W, C), each channel's divided by its length, but those of none."""
    lengths = np.sqrt(np.sum(offsets**2, axis=(0, 1)))
    return offsets / np.where(lengths > 0, lengths, 1.0)


def _of_length(image: np.ndarray, offsets: np.ndarray, epsilon: float) -> np.ndarray:
    """The image changed by so much, as the range allows: clipping only shortens it."""
    length = np.linalg.norm(offsets)
    return _moved(image, offsets * (epsilon / length if length else 0.0))
