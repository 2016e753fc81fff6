"""Callbacks of a run: the best denoiser, the state of a stopped run, the log, the image strips."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.crafting import AttackedSet
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.errors import RunError
from hgd_tf.training.callbacks import BestDenoiser, ImageStrip, TrainingState, strip


def network(seed: int) -> tf.keras.Model:
    """Has batch normalization, so that there are variables that no optimizer knows."""
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    return tf.keras.Sequential([layers.Conv2D(2, 3, input_shape=(6, 6, 1)), layers.BatchNormalization()])


class Run:
    """A small training run in a folder: everything that a process has before it trains."""

    def __init__(self, folder, seed: int = 0):
        folder.mkdir(exist_ok=True)
        self.model = network(seed)
        self.model.compile(tf.keras.optimizers.Adam(0.25), "mae")
        self.model.optimizer.build(self.model.trainable_variables)
        self.plateau = tf.keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=1)
        self.stopping = tf.keras.callbacks.EarlyStopping(patience=3)
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


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_a_stopped_run_ends_as_an_unbroken_one(tmp_path, stopped_after):
    losses = [3.0, 4.0, 2.0, 2.5, 2.6, 2.7]
    unbroken = started(tmp_path / "a", losses)
    started(tmp_path / "b", losses[:stopped_after])
    resumed = started(tmp_path / "b", losses[stopped_after:], seed=1)
    for now, before in zip(resumed.variables(), unbroken.variables()):
        np.testing.assert_array_equal(now, before)
    assert (tmp_path / "b" / "log.csv").read_text() == (tmp_path / "a" / "log.csv").read_text()
    assert unbroken.model.stop_training
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


@pytest.mark.parametrize("damage", ["truncated", "empty", "list", "key", "checkpoint", "data"])
def test_a_damaged_state_is_an_error_that_names_the_folder(tmp_path, damage):
    started(tmp_path, [3.0])
    state_file = tmp_path / "state" / "state.json"
    state = json.loads(state_file.read_text())
    if damage == "checkpoint":
        (tmp_path / "state" / "epoch-1.index").unlink()
    elif damage == "data":
        (tmp_path / "state" / "epoch-1.data-00000-of-00001").write_bytes(b"")
    else:
        del state["history"]
        texts = {"truncated": state_file.read_text()[:-9], "empty": "", "list": "[]", "key": json.dumps(state)}
        state_file.write_text(texts[damage])
    with pytest.raises(RunError, match=r"state: the state of the interrupted run is damaged .*; use --overwrite"):
        Run(tmp_path).state.restore()


def test_the_state_of_another_network_is_an_error(tmp_path):
    started(tmp_path, [3.0])
    run = Run(tmp_path)
    other = tf.keras.Sequential([tf.keras.layers.Conv2D(5, 3, input_shape=(6, 6, 1))])
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
