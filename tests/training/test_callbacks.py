"""Callbacks of a run: the best denoiser, the state of a stopped run, the log, the image strips."""

from __future__ import annotations

import csv
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.crafting import AttackedSet
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.errors import RunError
from hgd_tf.foundation.stack import keras
from hgd_tf.training.callbacks import (
    AveragedWeights,
    BestDenoiser,
    CosineSchedule,
    ImageStrip,
    Throughput,
    TrainingState,
    strip,
)
from hgd_tf.training.clock import Clock


def network(seed: int) -> keras.Model:
    """Has batch normalization, so that there are variables that no optimizer knows."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential([layers.Conv2D(2, 3, input_shape=(6, 6, 1)), layers.BatchNormalization()])


class Run:
    """A small training run in a folder: everything that a process has before it trains."""

    def __init__(self, folder, seed: int = 0):
        folder.mkdir(exist_ok=True)
        self.model = network(seed)
        self.model.compile(keras.optimizers.Adam(0.25), "mae", run_eagerly=True)  # few steps: sooner than traced
        self.model.optimizer.build(self.model.trainable_variables)
        self.plateau = keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=1)
        self.stopping = keras.callbacks.EarlyStopping(patience=3)
        self.best = BestDenoiser(lambda: None)
        self.others = [self.plateau, self.stopping, self.best]
        tracked = tf.train.Checkpoint(denoiser=self.model, optimizer=self.model.optimizer)
        self.state = TrainingState(folder / "state", folder / "log.csv", tracked, self.others)
        for callback in [*self.others, self.state]:
            callback.set_model(self.model)

    def start(self) -> int:
        """As `fit` does: the epochs done before."""
        done = self.state.restore()
        self.model.stop_training = False
        for callback in [*self.others, self.state]:
            callback.on_train_begin()
        return done

    def epoch(self, number: int, val_loss: float):
        """One gradient step, and the end of an epoch with that validation loss."""
        images = np.random.default_rng(number).normal(size=(4, 6, 6, 1))
        self.model.train_on_batch(images, np.ones((4, 4, 4, 2)))
        logs = {"loss": 1.5, "val_loss": val_loss}
        for callback in [*self.others, self.state]:
            callback.on_epoch_end(number, logs)

    @property
    def learning_rate(self) -> float:
        return float(self.model.optimizer.learning_rate)

    def variables(self):
        return [v.numpy() for v in [*self.model.variables, *self.model.optimizer.variables]]


def started(folder, losses=(), seed: int = 0) -> Run:
    run = Run(folder, seed)
    first = run.start()
    for number, loss in enumerate(losses, first):
        run.epoch(number, loss)
    return run


def rows(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_best_denoiser_is_saved_at_improvement_only():
    saved = []
    callback = BestDenoiser(lambda: saved.append(epoch))
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5, float("nan"), 1.9, 4.0]):
        callback.on_epoch_end(epoch, {"val_loss": loss})
    assert saved == [0, 1, 5]
    assert callback.best == 1.9


def test_nothing_is_restored_from_an_absent_state(tmp_path):
    run = Run(tmp_path)
    before = run.variables()
    assert run.state.restore() == 0
    assert not run.state.stopped
    assert all(np.array_equal(now, old) for now, old in zip(run.variables(), before))
    assert not list(tmp_path.iterdir())


def test_the_log_has_a_row_an_epoch(tmp_path):
    started(tmp_path, [3.0, 4.0, 2.5])
    assert [(row["epoch"], row["loss"], row["val_loss"]) for row in rows(tmp_path / "log.csv")] == [
        ("0", "1.5", "3.0"),
        ("1", "1.5", "4.0"),
        ("2", "1.5", "2.5"),
    ]
    assert [float(row["lr"]) for row in rows(tmp_path / "log.csv")] == pytest.approx([0.25, 0.25, 0.025])


def test_only_the_last_epochs_checkpoint_is_kept(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "epoch-7.index").write_bytes(b"of a process that was killed while it wrote this")
    started(tmp_path, [3.0] * 2)
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == ["epoch-2.data-00000-of-00001", "epoch-2.index", "state.json"]


def test_a_run_stopped_between_epochs_goes_on_in_fresh_objects(tmp_path):
    old = started(tmp_path, [3.0, 4.0, 5.0])
    new = Run(tmp_path, seed=1)
    assert any(not np.array_equal(now, before) for now, before in zip(new.variables(), old.variables()))
    assert new.start() == 3
    for now, before in zip(new.variables(), old.variables()):
        np.testing.assert_array_equal(now, before)
    assert new.model.optimizer.iterations == 3
    assert new.learning_rate == old.learning_rate == pytest.approx(0.0025)
    assert (new.plateau.best, new.plateau.wait) == (old.plateau.best, old.plateau.wait) == (3.0, 0)
    assert (new.stopping.best, new.stopping.wait) == (old.stopping.best, old.stopping.wait) == (3.0, 2)
    assert new.best.best == 3.0


def test_a_run_stopped_after_any_epoch_ends_as_an_unbroken_one(tmp_path):
    """Each epoch is another process', or two are: drop of the rate, best loss and patience at the break."""
    losses = [3.0, 4.0, 2.0, 2.5, 2.6, 2.7]
    unbroken = started(tmp_path / "unbroken", losses)
    assert unbroken.model.stop_training
    for breaks in ((1, 2, 3, 4), (2,)):
        folder = tmp_path / str(breaks)
        for seed, (first, end) in enumerate(zip((0, *breaks), (*breaks, len(losses)))):
            resumed = started(folder, losses[first:end], seed)
        for now, before in zip(resumed.variables(), unbroken.variables()):
            np.testing.assert_array_equal(now, before)
        assert (folder / "log.csv").read_text() == (tmp_path / "unbroken" / "log.csv").read_text()
        assert resumed.model.stop_training
        assert resumed.state.stopped


def test_a_run_that_stopped_early_says_so_when_restored(tmp_path):
    started(tmp_path, [1.0, 2.0, 2.0, 2.0])
    run = Run(tmp_path)
    assert run.state.restore() == 4
    assert run.state.stopped


def test_a_kill_while_a_checkpoint_is_written_leaves_the_epoch_before(tmp_path):
    old = started(tmp_path, [3.0])
    (tmp_path / "state" / "epoch-2.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "state" / ".77.tmp.state.json").write_text('{"checkpoint": "epo')
    new = Run(tmp_path, seed=1)
    assert new.start() == 1
    for now, before in zip(new.variables(), old.variables()):
        np.testing.assert_array_equal(now, before)


def test_what_a_killed_write_left_is_no_obstacle(tmp_path):
    """TensorFlow writes a checkpoint in a folder of its own first."""
    started(tmp_path, [3.0])
    for name in ("epoch-2_temp", "epoch-9_temp"):
        (tmp_path / "state" / name).mkdir()
        (tmp_path / "state" / name / "part-00000-of-00001.data-00000-of-00001.tempstate123").write_bytes(b"half")
    run = started(tmp_path, [2.0, 1.5], seed=1)
    assert [row["val_loss"] for row in rows(tmp_path / "log.csv")] == ["3.0", "2.0", "1.5"]
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == ["epoch-3.data-00000-of-00001", "epoch-3.index", "state.json"]
    assert Run(tmp_path, seed=2).start() == 3
    assert run.model.optimizer.iterations == 3


def test_a_kill_before_the_log_is_written_costs_it_no_row(tmp_path):
    """The state counts from its rename on; the log is written after it."""
    started(tmp_path, [3.0, 2.0])
    (tmp_path / "log.csv").unlink()
    started(tmp_path, [1.0], seed=1)
    assert [row["val_loss"] for row in rows(tmp_path / "log.csv")] == ["3.0", "2.0", "1.0"]


def test_a_kill_before_the_last_log_is_written_costs_it_no_row(tmp_path):
    """Where no epoch follows, only restoring can write the log."""
    started(tmp_path, [3.0, 2.0])
    (tmp_path / "log.csv").unlink()
    Run(tmp_path).state.restore()
    assert [row["val_loss"] for row in rows(tmp_path / "log.csv")] == ["3.0", "2.0"]


def test_a_damaged_state_is_an_error_that_names_the_folder(tmp_path):
    started(tmp_path / "whole", [3.0])
    text = (tmp_path / "whole" / "state" / "state.json").read_text()
    without_history = {name: value for name, value in json.loads(text).items() if name != "history"}
    damages = {
        "truncated": lambda state: (state / "state.json").write_text(text[:-9]),
        "empty": lambda state: (state / "state.json").write_text(""),
        "list": lambda state: (state / "state.json").write_text("[]"),
        "key": lambda state: (state / "state.json").write_text(json.dumps(without_history)),
        "checkpoint": lambda state: (state / "epoch-1.index").unlink(),
        "data": lambda state: (state / "epoch-1.data-00000-of-00001").write_bytes(b""),
    }
    run = Run(tmp_path / "whole")
    for damage, apply in damages.items():
        run.state.directory = tmp_path / damage / "state"
        shutil.copytree(tmp_path / "whole" / "state", run.state.directory)
        apply(run.state.directory)
        with pytest.raises(RunError) as error:
            run.state.restore()
        message = rf"{damage}/state: the state of the interrupted run is damaged .*; use `overwrite=True`"
        assert re.search(message, str(error.value)), damage


def test_the_state_of_another_network_is_an_error(tmp_path):
    started(tmp_path, [3.0])
    run = Run(tmp_path)
    other = keras.Sequential([keras.layers.Conv2D(5, 3, input_shape=(6, 6, 1))])
    run.state.tracked = tf.train.Checkpoint(denoiser=other, optimizer=run.model.optimizer)
    with pytest.raises(RunError, match="damaged"):
        run.state.restore()


def test_a_strip_has_clean_attacked_denoised_and_difference_side_by_side():
    clean = np.array([[[0], [200]]], np.uint8)[None]
    attacked = np.array([[[16], [184]]], np.uint8)[None]
    denoised = np.array([[[-3.0], [205.4]]], np.float32)[None]
    # Denoised pixels are clipped for display; differences -3 and 5.4 lie around 127.5.
    expected = np.array([[0, 200, 16, 184, 0, 205, 124, 133]], np.uint8)[None, :, :, None]
    result = strip(clean, attacked, denoised)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_a_difference_is_clipped_and_not_wrapped():
    clean, denoised = np.full((1, 1, 1, 1), 255, np.uint8), np.full((1, 1, 1, 1), -60.0, np.float32)
    np.testing.assert_array_equal(strip(clean, clean, denoised).ravel(), [255, 255, 0, 0])
    np.testing.assert_array_equal(strip(0 * clean, 0 * clean, -5 * denoised).ravel(), [0, 0, 255, 255])


def test_strips_of_each_attack_go_to_tensorboard(tmp_path):
    rng = np.random.default_rng(0)
    clean = LabeledImages(rng.integers(0, 256, (6, 8, 8, 1)).astype(np.uint8), np.zeros(6, np.int64))
    attacked = rng.integers(0, 256, (2, 6, 8, 8, 1)).astype(np.uint8)
    examples = AttackedSet(clean, ("fgsm_a", "ifgsm_b"), attacked, np.ones((2, 6), np.int64))
    callback = ImageStrip(tmp_path, examples, count=3)
    callback.set_model(
        SimpleNamespace(denoiser=lambda images, training: images / 2, target=SimpleNamespace(image_size=8))
    )
    callback.on_epoch_end(5)
    images = written_images(tmp_path)
    assert sorted(images) == [("fgsm_a", 5), ("ifgsm_b", 5)]
    for number, key in enumerate(sorted(images)):
        expected = strip(clean.images[:3], attacked[number, :3], attacked[number, :3].astype(np.float32) / 2)
        np.testing.assert_array_equal(images[key], expected)


def written_images(folder):
    """Images (N, H, W, C) of the event files in a folder, by tag and step."""
    images = {}
    for file in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                encoded = tf.make_ndarray(value.tensor)[2:]  # after width and height
                images[value.tag, event.step] = np.stack([tf.io.decode_png(image).numpy() for image in encoded])
    return images


# --- learning rate, averaged weights, throughput ---


def rate_at(callback, iterations: int) -> float:
    """The learning rate of the step after so many."""
    optimizer = keras.optimizers.SGD(9.0)
    optimizer.iterations.assign(iterations)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_batch_begin(0)
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs == {"lr": float(optimizer.learning_rate)}
    return logs["lr"]


@pytest.mark.parametrize(
    "iterations, expected",
    [
        (0, 0.5 / 20),
        (9, 0.25),  # half of the warm-up
        (19, 0.5),  # its end
        (39, 0.5 * (1 + np.cos(np.pi / 4)) / 2),
        (59, 0.25),  # half of the 80 steps that are left
        (98, 0.5 * (1 - np.cos(np.pi / 80)) / 2),
        (99, 0.0),
        (150, 0.0),
    ],
)
def test_the_cosine_rises_in_its_warm_up_and_falls_to_zero(iterations, expected):
    callback = CosineSchedule(0.5, steps=100, warmup_steps=20)
    assert rate_at(callback, iterations) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("iterations", [0, 24, 49, 79, 99])
def test_the_cosine_without_a_warm_up_falls_from_the_start(iterations):
    expected = 0.5 * (1 + np.cos(np.pi * (iterations + 1) / 100)) / 2
    assert rate_at(CosineSchedule(0.5, steps=100, warmup_steps=0), iterations) == pytest.approx(expected, abs=1e-6)


class Watch(keras.callbacks.Callback):
    """Keeps the trainable weights after each step and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def weights(self):
        return [variable.numpy() for variable in self.model.denoiser.trainable_variables]

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.weights())

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.weights())


class Wrapped(keras.Model):
    """A denoiser inside a trainer."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def call(self, images, training=False):
        return self.denoiser(images, training=training)


def assert_equal_weights(weights, others, tolerance: float = 0.0):
    assert len(weights) == len(others) == 4
    for weight, other in zip(weights, others):
        np.testing.assert_allclose(weight, other, rtol=tolerance, atol=tolerance)


def test_averaged_weights_are_validated_and_the_last_ones_trained_on():
    """Three steps an epoch; average = 0.75 average + 0.25 weights after each, from the first weights on."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 6, 6, 1)).astype(np.float32), rng.normal(size=(6, 4, 4, 2)).astype(np.float32)
    model, before, after = Wrapped(network(0)), Watch(), Watch()
    model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.75), "mse")
    first = [variable.numpy() for variable in model.denoiser.trainable_variables]
    saved = []
    best = BestDenoiser(lambda: saved.append(before.weights()))
    logs = model.fit(
        x, y, batch_size=2, epochs=2, validation_data=(x, y), verbose=0,
        callbacks=[before, best, AveragedWeights(lambda epoch: []), after],
    ).history  # fmt: skip
    average, averages = first, []
    for weights in before.steps:
        average = [0.75 * old + 0.25 * new for old, new in zip(average, weights)]
        averages.append(average)
    assert len(averages) == 6
    assert np.abs(averages[2][0] - before.steps[2][0]).max() > 0.05
    for epoch in (0, 1):
        assert_equal_weights(before.epochs[epoch], averages[3 * epoch + 2], 1e-5)
        assert_equal_weights(after.epochs[epoch], before.steps[3 * epoch + 2])
    assert_equal_weights(saved[0], averages[2], 1e-5)
    for variable, value in zip(model.denoiser.trainable_variables, averages[5]):
        variable.assign(value)
    by_hand = np.mean((model.denoiser(x, training=False).numpy() - y) ** 2)
    assert logs["val_loss"][1] == pytest.approx(by_hand, rel=1e-4)


def test_averaged_weights_are_validated_with_the_statistics_that_are_given():
    """The callbacks before see them; training goes on with its own."""
    denoiser = keras.Sequential([keras.layers.BatchNormalization(momentum=0.5, input_shape=(3,))])
    model = Wrapped(denoiser)
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse")
    x = np.random.default_rng(0).normal(5, 2, (8, 3)).astype(np.float32)
    given = [np.full(3, 7.0, np.float32), np.full(3, 4.0, np.float32)]
    seen = []

    class Before(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([epoch, *(variable.numpy() for variable in denoiser.non_trainable_variables)])

    averaged = AveragedWeights(lambda epoch: [value + epoch for value in given])
    model.fit(x, x, epochs=2, verbose=0, validation_data=(x, x), callbacks=[Before(), averaged])
    for epoch, mean, variance in seen:
        np.testing.assert_array_equal([mean, variance], [value + epoch for value in given])
    assert len(seen) == 2
    np.testing.assert_allclose(denoiser.layers[0].moving_mean, 0.75 * x.mean(axis=0), rtol=1e-5)


def test_throughput_is_of_the_steps_and_not_of_validation(monkeypatch):
    """Two epochs of three steps of eight images, 10 and 20 seconds long, after a quarter of an hour."""
    time = SimpleNamespace(now=0.0, perf_counter=lambda: time.now)
    for module in ("callbacks", "clock"):
        monkeypatch.setattr(f"hgd_tf.training.{module}.time", time)
    clock = Clock()
    callback = Throughput(clock, 8, [{"hours": 0.125}, {"hours": 0.25}])
    logged = []
    for epoch, seconds in enumerate((10, 20)):
        with clock.crafting():
            time.now += 77  # before the epoch
        callback.on_epoch_begin(epoch)
        with clock.waiting():
            time.now += 0.2 * seconds
        callback.on_train_batch_end(0)
        with clock.crafting():
            time.now += 0.5 * seconds
        callback.on_train_batch_end(1)
        time.now += 0.3 * seconds
        callback.on_train_batch_end(2)
        time.now += 1000  # validation
        logged.append({"loss": 1.0})
        callback.on_epoch_end(epoch, logged[-1])
    assert logged[0] == pytest.approx(
        {"loss": 1.0, "images_per_second": 2.4, "waiting": 0.2, "crafting": 0.5, "hours": 0.25 + 10 / 3600}
    )
    assert logged[1] == pytest.approx(
        {"loss": 1.0, "images_per_second": 1.2, "waiting": 0.2, "crafting": 0.5, "hours": 0.25 + 30 / 3600}
    )


def test_the_hours_of_a_fresh_run_begin_at_zero():
    assert Throughput(Clock(), 8, []).hours == 0.0
