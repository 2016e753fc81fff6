"""Whole runs on photographs, crafted online: interrupted or not, from other weights, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_set import FEW_CONVOLUTIONS

from hgd_tf.crafting import AttackedSet
from hgd_tf.data.photographs import VARIETIES
from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.denoisers import dunet
from hgd_tf.errors import HgdError, RunError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.experiment.loading import load_experiment
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import GuidedDenoiser
from hgd_tf.targets import load_target
from hgd_tf.training import TrainConfig, train_denoiser
from hgd_tf.training.callbacks import TrainingState

pytestmark = pytest.mark.usefixtures("few_convolutions")
training = sys.modules["hgd_tf.training.train"]
EPOCHS, STEPS, WARMUP = 2, 4, 2
RATE, MOMENTUM = 0.02, 0.9
TIMES = {"images_per_second", "waiting", "crafting", "hours"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    for number in range(20):
        path = folder / "photographs" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8), dtype=np.uint8)).resize((40, 36)).save(path)
    small_classifier().save(folder / "target.keras")
    return folder


def small_classifier() -> keras.Model:
    """Of 17x17 images, an odd side: attacked and compiled in a moment."""
    keras.utils.set_random_seed(1)
    images = keras.Input((17, 17, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="tanh", name="top")(images)
    return keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def config(folder) -> TrainConfig:
    return TrainConfig(
        ExperimentConfig(
            target=str(folder / "target.keras"),
            feature_layer="top",
            input_range=(0.0, 1.0),
            members=("target",),
            holdout="target",
            ens_target=None,
            images=str(folder / "photographs"),
        ),
        width=1 / 64,
        recipe="light_mix",
        craft="online",
        attack_sizes=(17, 23),
        transports=("jpeg", "resize+crop"),
        reuse=1,
        batch_size=5,
        learning_rate=RATE,
        schedule="cosine",
        warmup_steps=WARMUP,
        ema=MOMENTUM,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        strategy="one_device",
    )


def on_mini(config: TrainConfig, **changes) -> TrainConfig:
    """The same with a target of the package."""
    changes = {"target": "mini_inception", "feature_layer": None, **changes}
    return dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, **changes))


def train(config: TrainConfig, run: Path) -> Path:
    """As a process of its own would: Keras numbers its layers from the first on, which orders sums of gradients.

    The sets are beside the run.
    """
    keras.backend.clear_session()
    train_denoiser(config, run, run.parent / "sets")
    return run


def train_and_copy(config: TrainConfig, run: Path, copy: Path) -> Path:
    """Leaves a copy of the run as it is after its first epoch, which is how a process killed there leaves it."""
    keep = TrainingState.on_epoch_end

    def on_epoch_end(state, epoch, logs=None):
        keep(state, epoch, logs)
        if epoch == 0:
            shutil.copytree(run, copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "on_epoch_end", on_epoch_end)
        return train(config, run)


@pytest.fixture(scope="module")
def unbroken(config, folder) -> Path:
    return train_and_copy(config, folder / "unbroken", folder / "resumed")


class Interrupted(NamedTuple):
    """A run that was broken off: its folder, its log, the saved denoiser's weights and the state's variables."""

    run: Path
    log: list[dict[str, float]]
    saved: list[np.ndarray]
    state: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def interrupted(unbroken, folder) -> Interrupted:
    """After its first epoch, between two rounds of attacks."""
    run = folder / "resumed"
    saved = [variable.numpy() for variable in load_defense(run).denoiser.trainable_variables]
    return Interrupted(run, rows(run), saved, variables(run))


@pytest.fixture(scope="module")
def resumed(config, interrupted) -> Path:
    assert len(interrupted.log) == 1
    return train(config, interrupted.run)


def rows(run: Path) -> list[dict[str, float]]:
    with open(run / "log.csv", newline="", encoding="utf-8") as lines:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def variables(run: Path) -> dict[str, np.ndarray]:
    """Every variable in the last state of a run."""
    name = json.loads((run / "state" / "state.json").read_text())["checkpoint"]
    reader = tf.train.load_checkpoint(str(run / "state" / name))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in key}


def test_a_resumed_run_ends_with_the_variables_of_an_unbroken_one(unbroken, resumed):
    """Denoiser, Adam's moments, averaged weights, iterations."""
    expected, received = variables(unbroken), variables(resumed)
    assert expected.keys() == received.keys()
    assert len(expected) > 45
    for key, value in expected.items():
        np.testing.assert_array_equal(received[key], value, err_msg=key)


def test_a_resumed_run_saves_the_denoiser_of_an_unbroken_one(unbroken, resumed):
    weights = [load_defense(run).denoiser.get_weights() for run in (unbroken, resumed)]
    assert len(weights[0]) == 16
    for one, other in zip(*weights):
        np.testing.assert_array_equal(one, other)


def test_a_resumed_run_logs_the_losses_and_rates_of_an_unbroken_one(unbroken, resumed):
    logs = [[{k: v for k, v in row.items() if k not in TIMES} for row in rows(run)] for run in (unbroken, resumed)]
    assert logs[0] == logs[1]
    assert len({row["loss"] for row in logs[0]}) == len(logs[0]) == EPOCHS


@pytest.mark.slow
def test_a_run_that_attacks_itself_resumes_too(config, folder):
    """On photographs of unknown classes, of which none but the steps attacks any."""
    adaptive = dataclasses.replace(config, craft="adaptive", ema=0.0, adaptive_ramp=3)
    unbroken = train_and_copy(adaptive, folder / "adaptive", folder / "resumed_adaptive")
    assert len(rows(folder / "resumed_adaptive")) == 1
    resumed = train(adaptive, folder / "resumed_adaptive")
    expected, received = variables(unbroken), variables(resumed)
    for key, value in expected.items():
        np.testing.assert_array_equal(received[key], value, err_msg=key)
    for row in rows(resumed):
        assert row["val_accuracy"] == pytest.approx((row["val_accuracy_adaptive"] + row["val_accuracy_clean"]) / 2)
    assert load_defense(resumed).denoiser.count_params() > 0


def test_the_rate_is_the_cosines_at_each_epochs_last_step(unbroken):
    steps = np.arange(1, EPOCHS + 1) * STEPS
    expected = RATE * (1 + np.cos(np.pi * (steps - WARMUP) / (EPOCHS * STEPS - WARMUP))) / 2
    assert [row["lr"] for row in rows(unbroken)] == pytest.approx(expected, abs=1e-6)


def test_an_epochs_times_are_logged(resumed):
    logs = rows(resumed)
    assert all(row["images_per_second"] > 0 for row in logs)
    seconds = [STEPS * 5 / row["images_per_second"] for row in logs]
    assert [row["hours"] for row in logs] == pytest.approx(np.cumsum(seconds) / 3600)


def test_the_averaged_weights_are_saved_and_the_last_ones_trained_on(interrupted):
    """The state has both: the averages among the optimizer's variables."""

    def in_state(weight: np.ndarray, part: str) -> bool:
        values = [value for key, value in interrupted.state.items() if key.startswith(part)]
        assert len(values) > 10
        return any(np.array_equal(weight, value) for value in values)

    assert len(interrupted.saved) == 10
    for weight in interrupted.saved:
        assert in_state(weight, "optimizer/_variables/")
        assert not in_state(weight, "denoiser/")


@pytest.fixture(scope="module")
def stored(config, folder) -> tuple[Path, AttackedSet]:
    """A run of one epoch on the stored pairs of twelve images, and these."""
    sets, passed = [], training.training_batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "training_batches", lambda *args: sets.append(args[0]) or passed(*args))
        changed = dataclasses.replace(config, craft="stored", epochs=1, train_images=12)
        return train(changed, folder / "sized" / "run"), sets[0]


def test_averaged_weights_have_statistics_of_stored_pairs_too(stored):
    """Those that are saved are others than those that training goes on with."""
    run, _ = stored
    saved = [variable.numpy() for variable in load_defense(run).denoiser.non_trainable_variables]
    kept = [value for key, value in variables(run).items() if key.startswith("denoiser/") and "moving" in key]
    assert len(saved) == len(kept) == 6
    for value in saved:
        assert np.all(np.isfinite(value))
        assert not any(np.array_equal(value, other) for other in kept)


def test_stored_pairs_are_attacked_at_every_size_and_seen_at_the_targets(stored):
    run, attacked_set = stored
    plans = (run.parent / "sets").glob("*/plan.json")
    assert attacked_set.attacked.shape[1:] == (12, 17, 17, 1) and len(attacked_set.clean.labels) == 12
    described = [json.loads(plan.read_text()) for plan in plans]
    assert {plan["image_shape"][0] for plan in described} == {17, 23}
    assert sum(plan["source_images"] for plan in described) == 12 + 3  # to train and to validate on
    # A crop or a JPEG file moves pixels by more than the attack of epsilon 16 does.
    moved = np.abs(attacked_set.attacked.astype(float) - attacked_set.clean.images).max(axis=(2, 3, 4))
    assert 0.2 < np.mean(moved > 18) < 0.6


def test_the_saved_denoiser_is_in_float32(unbroken):
    model = load_defense(unbroken).denoiser
    head = model.get_layer("head")
    assert (head.filters, head.compute_dtype) == (1, "float32")
    assert model.input_shape == (None, None, None, 1)


# --- starting from other weights ---


@pytest.fixture(scope="module")
def other(folder) -> tuple[Path, list[np.ndarray]]:
    """A defence with random weights."""
    keras.utils.set_random_seed(7)
    denoiser = dunet(1 / 64, 1, **FEW_CONVOLUTIONS)
    save_defense(Defense(denoiser, load_target(small_classifier())), folder / "other")
    return folder / "other", denoiser.get_weights()


def made(config: TrainConfig) -> GuidedDenoiser:
    """The untrained model."""
    return training.make_model(config, load_experiment(config.experiment, "sets"), ("fgsm",))


def test_training_starts_from_another_defences_weights(config, other):
    path, weights = other
    model = made(dataclasses.replace(config, init_from=str(path)))
    for received, expected in zip(model.denoiser.get_weights(), weights):
        np.testing.assert_array_equal(received, expected)
    trainable = model.denoiser.trainable_variables
    averages = [variable for variable in model.optimizer.variables if "average" in variable.name]
    assert len(averages) == len(trainable)
    for average, variable in zip(averages, trainable):
        np.testing.assert_array_equal(average, variable)
    fresh = made(config)
    assert np.any(fresh.denoiser.get_weights()[0] != weights[0])


def test_frozen_statistics_are_those_of_the_start_and_the_kernels_are_not(config, other, folder):
    path, _ = other
    changes = {"init_from": str(path), "frozen_statistics": True, "craft": "stored", "epochs": 1}
    run = train(dataclasses.replace(config, **changes), folder / "frozen")
    denoiser, started = load_defense(run).denoiser, load_defense(path).denoiser
    assert len(denoiser.non_trainable_variables) == 6
    for found, expected in zip(denoiser.non_trainable_variables, started.non_trainable_variables):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(denoiser.trainable_variables, started.trainable_variables):
        assert np.any(found != expected)


def test_bfloat16_is_of_the_denoiser_and_of_the_target_that_guides(config):
    model = made(dataclasses.replace(on_mini(config), precision="bfloat16"))
    assert model.denoiser.get_layer("head").compute_dtype == "bfloat16"
    computing = {layer.compute_dtype for layer in model.guide.network.layers if layer.weights}
    assert computing == {"bfloat16"}
    assert {layer.compute_dtype for layer in model.target.network.layers if layer.weights} == {"float32"}


@pytest.mark.parametrize("changes", [{"width": 1 / 32}, {"denoiser": "dae"}], ids=str)
def test_weights_of_another_network_are_refused(config, other, tmp_path, changes):
    path, _ = other
    changed = dataclasses.replace(config, init_from=str(path), **changes)
    with pytest.raises(RunError, match=r"^`init_from=.*other` holds a denoiser of another architecture or width$"):
        train(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"guidance": "label"}, r"`guidance='label'` needs the true classes: `labels`"),
        ({"strategy": "mirrored"}, r"`craft='online'` trains on one device, received `strategy='mirrored'`"),
        ({"craft": "adaptive"}, r"`craft='adaptive'` keeps no averaged weights, received `ema=0.9`"),
        (
            {"craft": "adaptive", "ema": 0.0, "strategy": "mirrored"},
            r"`craft='adaptive'` on photographs trains on one device, received `strategy='mirrored'`",
        ),
        ({"adaptive_epsilon": (8.0, 4.0)}, r"adaptive_epsilon: expected two numbers more than 0, the larger one last"),
        ({"adaptive_share": 0.0}, r"adaptive_share: expected more than 0, at most 1, received 0.0"),
        ({"craft": "stored", "batch_size": 103}, r"`batch_size=103` is more than the 102 pairs there are"),
        ({"craft": "stored", "train_images": 3, "batch_size": 19}, r"`batch_size=19` is more than the 18 pairs"),
        ({"init_from": "absent"}, r"absent holds no defense"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_is_written(config, tmp_path, changes, message):
    with pytest.raises(HgdError, match=message):
        train(dataclasses.replace(config, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("crops", VARIETIES)
def test_the_crops_are_as_varied_as_the_run_says(config, tmp_path, monkeypatch, crops):
    def stop(*_, variety, **others):
        raise HgdError(f"variety {variety}")

    monkeypatch.setattr(training, "OnlinePairs", stop)
    with pytest.raises(HgdError) as stopped:
        train(dataclasses.replace(config, crops=crops), tmp_path / "run")
    assert str(stopped.value) == f"variety {VARIETIES[crops]}"


def test_online_crafting_of_other_images_is_refused(config, tmp_path):
    with pytest.raises(HgdError, match=r"`craft='online'` takes crops of photographs, received no `images`"):
        train(on_mini(config, images=None), tmp_path / "run")
    assert not (tmp_path / "run").exists()
