"""Randomized smoothing: classes that hold, with high probability, within an L2 radius (Cohen et al. 2019).

Denoised smoothing (Salman et al. 2020, arXiv 2003.01908) is a denoiser and a classifier smoothed as one.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional, Union

import numpy as np
import tensorflow as tf
from scipy.stats import beta, binomtest, norm

from hgd_tf.attacks.draws import numbered_seeds, with_gaussian_noise
from hgd_tf.defenses import Classifier
from hgd_tf.foundation.pixel_range import checks_pixels
from hgd_tf.targets import batch_size_for

ABSTAIN = -1


class Certificates(NamedTuple):
    """What `Smoothed.certify` finds.

    Attributes:
      classes: int64 (N,), 0-based; -1: it abstains.
      radii: float64 (N,), L2, in [0, 1] units; 0 where it abstains.
    """

    classes: np.ndarray
    radii: np.ndarray


class Smoothed:
    """A classifier smoothed by Gaussian noise: PREDICT and CERTIFY of Cohen et al. (2019, arXiv 1902.02918).

    Noise is added to images at their own size, before any resize, and is not clipped. `sigma` and radii are in [0, 1]
    units, as in the literature; images are in [0, 255], as everywhere here.

    >>> import hgd_tf
    >>> images, labels = hgd_tf.load_fashion_mnist().test.head(2)
    >>> smoothed = hgd_tf.Smoothed(hgd_tf.load_defense("mini_inception_lgd"), sigma=0.05, n=200)
    >>> classes, radii = smoothed.certify(images)
    >>> bool((radii <= smoothed.largest_radius).all())
    True
    >>> smoothed.predict(images).shape
    (2,)

    Args:
      classifier: a `Classifier`; or any function of float32 images (N, H, W, C) in pixels to a dict with `logits`.
      sigma: the noise's standard deviation.
      n0: draws that choose the class which is certified.
      n: draws that certify it; or predict.
      alpha: probability with which a certificate, or an answer that is not abstention, may be wrong.
      seed: of the draws. An image's depend on it and on the image's number alone.
      batch_size: noisy images computed at a time; it changes no result. None: as memory allows.

    Raises:
      ValueError: a number is out of its range.
    """

    def __init__(
        self,
        classifier: Union[Classifier, Callable[[tf.Tensor], dict[str, tf.Tensor]]],
        sigma: float,
        *,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 0.001,
        seed: int = 0,
        batch_size: Optional[int] = None,
    ):
        for name, value in {"sigma": sigma, "n0": n0, "n": n, "batch_size": batch_size}.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name}: expected more than 0, received {value}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha: expected a probability between 0 and 1, received {alpha}")
        self.classifier, self.sigma, self.n0, self.n, self.alpha = classifier, sigma, n0, n, alpha
        self.seed, self.batch_size = seed, batch_size
        self._answers = functools.lru_cache(maxsize=None)(self._compiled)

    @property
    def largest_radius(self) -> float:
        """What an image is certified with on all of whose `n` draws the classifier agrees."""
        return self._radius(self.n)

    @checks_pixels
    def predict(self, images: np.ndarray, numbers: Optional[Sequence[int]] = None) -> np.ndarray:
        """The smoothed classifier's classes, int64 (N,); -1 where it abstains.

        Args:
          images: (N, H, W, C) in [0, 255].
          numbers: of the images; None: 0, 1, ….
        """
        return np.array([self._predicted(*image) for image in self._numbered(images, numbers)], np.int64)

    @checks_pixels
    def certify(self, images: np.ndarray, numbers: Optional[Sequence[int]] = None) -> Certificates:
        """The classes, and L2 radii within which the smoothed classifier keeps to them; arguments as in `predict`."""
        found = [self._certified(*image) for image in self._numbered(images, numbers)]
        classes, radii = zip(*found) if found else ((), ())
        return Certificates(np.array(classes, np.int64), np.array(radii, np.float64))

    def _predicted(self, image: tf.Tensor, number: int) -> int:
        (answer, hits), *others = self._counts(image, number, range(self.n)).most_common(2)
        second = others[0][1] if others else 0
        return answer if binomtest(hits, hits + second, 0.5).pvalue <= self.alpha else ABSTAIN

    def _certified(self, image: tf.Tensor, number: int) -> tuple[int, float]:
        ((answer, _),) = self._counts(image, number, range(self.n0)).most_common(1)
        radius = self._radius(self._counts(image, number, range(self.n0, self.n0 + self.n))[answer])
        return (answer, radius) if radius > 0 else (ABSTAIN, 0.0)

    def _radius(self, hits: int) -> float:
        return self.sigma * float(norm.ppf(lower_bound(hits, self.n, self.alpha)))

    def _counts(self, image: tf.Tensor, number: int, draws: range) -> Counter[int]:
        """How often the classifier gives each class to the image under noise of those numbers."""
        side = max(image.shape[0], *getattr(self.classifier, "sizes", (1,)))
        batch_size = self.batch_size or batch_size_for(side)
        counts: Counter[int] = Counter()
        for first in range(0, len(draws), batch_size):
            seeds = numbered_seeds(self.seed, number, draws[first : first + batch_size])
            counts.update(self._answers(tuple(image.shape))(image, seeds).numpy().tolist())
        return counts

    def _compiled(self, shape: tuple[int, ...]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        def answers(image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            noisy = with_gaussian_noise(image[tf.newaxis], seeds, self.sigma)
            return tf.argmax(self.classifier(noisy)["logits"], axis=-1)

        return tf.function(answers, input_signature=[tf.TensorSpec(shape), tf.TensorSpec((None, 2), tf.int64)])

    @staticmethod
    def _numbered(images: np.ndarray, numbers: Optional[Sequence[int]]) -> list[tuple[tf.Tensor, int]]:
        numbers = range(len(images)) if numbers is None else numbers
        return [(tf.cast(image, tf.float32), int(number)) for image, number in zip(images, numbers)]


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """Of a probability after so many hits of n; it is below it with probability alpha at most (Clopper, Pearson)."""
    return float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0
