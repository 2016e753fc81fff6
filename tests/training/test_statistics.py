"""Batch normalization's statistics of averaged weights."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.denoisers import dunet
from hgd_tf.foundation.stack import keras
from hgd_tf.training.train import BatchStatistics


def convolution_and_norm(momentum: float) -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [layers.Conv2D(2, 1, use_bias=False, input_shape=(4, 4, 1)), layers.BatchNormalization(momentum=momentum)]
    )


def test_statistics_are_the_means_over_the_batches_by_hand():
    model, probe = convolution_and_norm(0.9), convolution_and_norm(0.0)
    kernel = np.array([2.0, -3.0], np.float32)
    model.layers[0].set_weights([kernel.reshape(1, 1, 1, 2)])
    batches = np.random.default_rng(0).normal(1, 2, (5, 6, 4, 4, 1)).astype(np.float32)
    mean, variance = BatchStatistics(probe).of(model.get_weights(), map(tf.constant, batches))
    maps = batches * kernel
    np.testing.assert_allclose(mean, maps.mean(axis=(0, 1, 2, 3)), rtol=1e-5)
    # The fused layer's moving variance is the unbiased one.
    np.testing.assert_allclose(variance, maps.reshape(5, -1, 2).var(axis=1, ddof=1).mean(axis=0), rtol=1e-4)


def test_they_come_in_the_order_of_a_denoisers_non_trainable_variables():
    """With them, inference is nearer to what training mode gives on the batch; all that differs is n / (n - 1)."""
    keras.utils.set_random_seed(0)
    denoiser, probe, in_training = dunet(1 / 64, 1), dunet(1 / 64, 1, statistics_momentum=0.0), dunet(1 / 64, 1)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 96, 96, 1)).astype(np.float32))
    in_training.set_weights(denoiser.get_weights())
    wanted = in_training(images, training=True)
    before = np.mean(np.abs(denoiser(images) - wanted))
    statistics = BatchStatistics(probe).of(denoiser.get_weights(), [images])
    for variable, value in zip(denoiser.non_trainable_variables, statistics):
        variable.assign(value)
    assert np.mean(np.abs(denoiser(images) - wanted)) < 0.01 * before
