"""What the tests of the targets share."""

from __future__ import annotations

import numpy as np
import pytest

from hgd_tf.foundation.stack import keras


def _randomize(network: keras.Model, seed: int = 0) -> keras.Model:
    """Weights that keep activations of one size through many layers, with batch statistics that matter."""
    generator = np.random.default_rng(seed)
    draws = {
        "gamma": lambda shape: generator.uniform(0.7, 1.3, shape),
        "beta": lambda shape: generator.normal(0, 0.2, shape),
        "bias": lambda shape: generator.normal(0, 0.2, shape),
        "moving_mean": lambda shape: generator.normal(0, 0.2, shape),
        "moving_variance": lambda shape: generator.uniform(0.5, 2.0, shape),
    }
    for layer in network.layers:
        for variable in layer.weights:
            kind = variable.name.rsplit("/", 1)[-1].partition(":")[0]
            shape = tuple(variable.shape)
            fan_in = np.prod(shape[:2]) if kind == "depthwise_kernel" else np.prod(shape[:-1])
            draw = draws.get(kind, lambda shape, fan_in=fan_in: generator.normal(0, np.sqrt(1.5 / fan_in), shape))
            variable.assign(draw(shape).astype(np.float32))
    return network


@pytest.fixture(scope="session")
def randomize():
    return _randomize
