"""Batch normalization's statistics for weights that were averaged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from hgd_tf.foundation.stack import keras


class BatchStatistics:
    """Recomputes a denoiser's moving means and variances for its present weights.

    Those that training left are of the weights it went through, whose maps vary more than those of their average
    (Izmailov et al. 2018, arXiv 1803.05407, section 3.1).

    Args:
      probe: a denoiser of the same architecture whose moving statistics are those of its last batch: momentum 0.
    """

    def __init__(self, probe: keras.Model):
        self.probe = probe
        self._run = tf.function(lambda images: probe(images, training=True))

    def of(self, weights: list[np.ndarray], batches: Iterable[tf.Tensor]) -> list[np.ndarray]:
        """The means over batches of images (N, H, W, C), float32 in pixels, in the order of non-trainable variables."""
        self.probe.set_weights(weights)
        statistics = []
        for images in batches:
            self._run(images)
            statistics.append([variable.numpy() for variable in self.probe.non_trainable_variables])
        return [np.mean(values, axis=0) for values in zip(*statistics)]
