"""Several devices share a batch: the same losses and gradients as one device, and the same files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.defenses import load_defense
from hgd_tf.errors import HgdError
from hgd_tf.foundation.stack import keras
from hgd_tf.strategy import make_strategy

# Logical devices must be configured before TensorFlow starts, hence a process of its own.
SCRIPT = """
import dataclasses, functools, json

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from hgd_tf.denoisers import DENOISERS, dunet
from hgd_tf.denoisers.networks import FEEDBACK, FEEDFORWARD
from hgd_tf.errors import HgdError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.training import TrainConfig, train_denoiser
from hgd_tf.strategy import make_strategy

# One convolution a block instead of two or three: the same network otherwise, compiled in a third of the time.
one_each = [[(1, channels) for _, channels in blocks] for blocks in (FEEDFORWARD, FEEDBACK)]
DENOISERS["dunet"] = functools.partial(dunet, feedforward=one_each[0], feedback=one_each[1])

experiment = ExperimentConfig(members=("target",), holdout="target", ens_target=None)
# 25 validation pairs in batches of 12: the last one holds a single pair, so that a replica gets none.
config = TrainConfig(
    experiment, width=1 / 64, train_images=8, validation_images=5, batch_size=12, epochs=1, steps_per_epoch=1,
)
outcome = {"replicas": {}}
for name in ("one_device", "mirrored"):
    train_denoiser(dataclasses.replace(config, strategy=name), name, "sets")
    outcome["replicas"][name] = make_strategy(name, config.batch_size).num_replicas_in_sync
for name in ("auto", "mirrored"):
    try:
        outcome[f"odd batch, {name}"] = type(make_strategy(name, 13)).__name__
    except HgdError as error:
        outcome[f"odd batch, {name}"] = str(error)
print(json.dumps(outcome))
"""
STRATEGIES = ("one_device", "mirrored")
slow = pytest.mark.slow  # replicas take long to compile


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the runs `one_device` and `mirrored` of one step each, and `outcome.json`."""
    folder = tmp_path_factory.mktemp("strategies")
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "outcome.json").write_text(done.stdout.splitlines()[-1])
    return folder


@pytest.fixture(scope="module")
def outcome(folder):
    return json.loads((folder / "outcome.json").read_text())


def states(folder):
    return [json.loads((folder / name / "state" / "state.json").read_text()) for name in STRATEGIES]


def checkpoints(folder):
    """The last state's variables of both runs."""
    readers = [
        tf.train.load_checkpoint(str(folder / name / "state" / state["checkpoint"]))
        for name, state in zip(STRATEGIES, states(folder))
    ]
    return [{key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()} for reader in readers]


@slow
def test_two_replicas_were_compared_with_one_device(outcome):
    assert outcome["replicas"] == {"one_device": 1, "mirrored": 2}


@slow
def test_the_first_steps_loss_is_that_of_one_device(folder):
    one, mirrored = (state["history"][0] for state in states(folder))
    assert mirrored["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert one["loss"] > 0.1


@slow
def test_the_gradients_are_those_of_one_device(folder):
    """After a step Adam's moments are 0.1 g and 0.001 g²: an update too many, a sum or a mean less would show.

    Synchronized batch normalization is not fused: in float32 the gradients agree to some 1e-4 of the largest.
    """
    one, mirrored = (adam_moments(variables) for variables in checkpoints(folder))
    largest = max(np.abs(first).max() for first, _ in one)
    assert largest > 0.001
    for (first, second), moments in zip(one, mirrored):
        np.testing.assert_allclose(second, 0.1 * first**2, rtol=1e-3, atol=1e-30)
        np.testing.assert_allclose(moments[0], first, rtol=0, atol=1e-3 * largest)
        np.testing.assert_allclose(moments[1], second, rtol=0, atol=2e-3 * 0.1 * largest**2)


def adam_moments(variables):
    """Adam's first and second moment of each variable, in the order of the variables."""
    slots = [key for key in variables if key.startswith("optimizer/_variables/")]
    values = [variables[key] for key in sorted(slots, key=lambda key: int(key.split("/")[2]))]
    values = [value for value in values if value.dtype == np.float32 and value.ndim > 0]
    assert len(values) == 2 * (3 * 9 + 1)
    return list(zip(values[::2], values[1::2]))


@slow
def test_validation_is_that_of_one_device_where_a_replica_gets_no_image(folder):
    """Roughly: Adam's first step is the gradient's sign, even where the gradient is almost 0."""
    one, mirrored = (state["history"][0] for state in states(folder))
    assert mirrored["val_loss"] == pytest.approx(one["val_loss"], rel=1e-2)
    assert mirrored["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=0.09)
    assert one["val_loss"] > 0.1


@slow
def test_the_saved_denoiser_needs_no_strategy(folder):
    denoiser = load_defense(folder / "mirrored").denoiser
    normalizations = [layer for layer in denoiser.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(normalizations) == 9
    assert not any(layer.synchronized for layer in normalizations)
    images = np.random.default_rng(0).uniform(0, 255, (2, 28, 28, 1)).astype(np.float32)
    expected = load_defense(folder / "one_device").denoiser(images).numpy()
    assert np.abs(expected - images).mean() > 0.01
    np.testing.assert_allclose(denoiser(images), expected, atol=0.05 * np.abs(expected - images).max())


@slow
def test_a_batch_that_cannot_be_shared_out_evenly_is_an_error(outcome):
    assert outcome["odd batch, mirrored"] == "`batch_size=13` must be a multiple of the 2 devices that share a batch"
    assert outcome["odd batch, auto"] == "OneDeviceStrategy"


def test_one_cpu_is_one_replica():
    for name in ("auto", "one_device", "mirrored"):
        assert make_strategy(name, 13).num_replicas_in_sync == 1


def test_the_error_is_one_that_a_user_can_mend(monkeypatch):
    devices = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(4)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices if kind == "GPU" else [])
    for name in ("auto", "mirrored"):
        with pytest.raises(HgdError, match=r"`batch_size=6` must be a multiple of the 4 devices"):
            make_strategy(name, 6)
