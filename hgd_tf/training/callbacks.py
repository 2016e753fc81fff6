"""Keras callbacks of a training run."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.crafting import AttackedSet
from hgd_tf.errors import RunError
from hgd_tf.files import replacing, write_json
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import resize_to
from hgd_tf.training.clock import Clock

# What Keras' own callbacks forget when training stops.
_MEMORY = ("best", "wait", "cooldown_counter", "best_epoch")


class BestDenoiser(keras.callbacks.Callback):
    """Calls `save` whenever the validation loss is the lowest so far."""

    def __init__(self, save: Callable[[], None]):
        super().__init__()
        self.save = save
        self.best = float("inf")

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best = float(logs["val_loss"])
            self.save()


class CosineSchedule(keras.callbacks.Callback):
    """The learning rate rises linearly from 0 for `warmup_steps`, then falls along half a cosine to 0 at `steps`."""

    def __init__(self, learning_rate: float, steps: int, warmup_steps: int):
        super().__init__()
        # Keras' warm-up comes on top of the steps of its decay.
        self.rate = keras.optimizers.schedules.CosineDecay(
            learning_rate if not warmup_steps else 0.0,
            max(steps - warmup_steps, 1),
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        optimizer.learning_rate.assign(self.rate(optimizer.iterations + 1))

    def on_epoch_end(self, epoch, logs=None):
        logs["lr"] = float(self.model.optimizer.learning_rate)


class AveragedWeights(keras.callbacks.Callback):
    """Validates, and shows the callbacks before this one, the optimizer's averaged weights; then puts the last back.

    Args:
      statistics: gives the values of the denoiser's other variables that go with the weights it holds, by the epoch.
    """

    def __init__(self, statistics: Callable[[int], list[np.ndarray]]):
        super().__init__()
        self.statistics = statistics
        self._epoch = 0
        self._last: list[np.ndarray] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_test_begin(self, logs=None):
        # Before validation, so that the loss by which the best is chosen is of the weights that are saved. Batch
        # normalization's moving statistics are of the last weights: with the average it would be far off.
        denoiser = self.model.denoiser
        self._last = [
            variable.numpy() for variable in (*denoiser.trainable_variables, *denoiser.non_trainable_variables)
        ]
        self.model.optimizer.finalize_variable_values(denoiser.trainable_variables)
        for variable, value in zip(denoiser.non_trainable_variables, self.statistics(self._epoch)):
            variable.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        # Not when the test ends: the callbacks before this one save and show the average when the epoch does.
        denoiser = self.model.denoiser
        for variable, value in zip((*denoiser.trainable_variables, *denoiser.non_trainable_variables), self._last):
            variable.assign(value)


class Throughput(keras.callbacks.Callback):
    """Adds to an epoch's logs the rate of training and what share of the time it waited or crafted.

    `images_per_second` is of the steps with all they wait for, without validation; `waiting` and `crafting` are
    fractions; `hours` counts them all since the run began.

    Args:
      history: the logs of the epochs before.
    """

    def __init__(self, clock: Clock, batch_size: int, history: list[dict[str, float]]):
        super().__init__()
        self.clock = clock
        self.batch_size = batch_size
        self.hours = history[-1]["hours"] if history else 0.0
        self._began = 0.0
        self._steps = 0
        self._seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.clock.read_and_reset()
        self._steps, self._began = 0, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        self._seconds = time.perf_counter() - self._began

    def on_epoch_end(self, epoch, logs=None):
        waiting, crafting = self.clock.read_and_reset()
        self.hours += self._seconds / 3600
        logs["images_per_second"] = self._steps * self.batch_size / self._seconds
        logs["waiting"], logs["crafting"] = waiting / self._seconds, crafting / self._seconds
        logs["hours"] = self.hours


class TrainingState(keras.callbacks.Callback):
    """Keeps all that a killed run needs to go on as if never interrupted; must be the last callback.

    After each epoch the denoiser and the optimizer go into a checkpoint; then one rename of `state.json` makes it
    count, together with the epoch, the other callbacks' memory and the log, which `log.csv` repeats.

    Args:
      directory: of the state.
      log_file: CSV of every epoch's logs.
      tracked: the variables to keep.
      others: the callbacks whose memory to keep.
    """

    def __init__(
        self, directory: Path, log_file: Path, tracked: tf.train.Checkpoint, others: list[keras.callbacks.Callback]
    ):
        super().__init__()
        self.directory = directory
        self.log_file = log_file
        self.tracked = tracked
        self.others = others
        self.history: list[dict[str, float]] = []
        self.stopped = False
        self._memories: Optional[list[dict]] = None

    @property
    def _state_file(self) -> Path:
        return self.directory / "state.json"

    def restore(self) -> int:
        """Restores variables and log; the number of epochs that are done, 0 where there is no state.

        Raises:
          RunError: the state is damaged.
        """
        if not self._state_file.exists():
            return 0
        try:
            state = json.loads(self._state_file.read_text(encoding="utf-8"))
            self.tracked.read(str(self.directory / state["checkpoint"])).assert_existing_objects_matched()
            self.history, self.stopped, self._memories = state["history"], state["stopped"], state["memories"]
        except (OSError, ValueError, TypeError, LookupError, AssertionError, tf.errors.OpError) as error:
            raise RunError(
                f"{self.directory}: the state of the interrupted run is damaged ({error}); use `overwrite=True`"
            ) from error
        self._write_log()
        return len(self.history)

    def on_train_begin(self, logs=None):
        """After Keras' callbacks have reset themselves."""
        for callback, memory in zip(self.others, self._memories or []):
            for name, value in memory.items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch, **{name: float(value) for name, value in logs.items()}})
        checkpoint = f"epoch-{epoch + 1}"
        self.directory.mkdir(exist_ok=True)
        try:
            self.tracked.write(str(self.directory / checkpoint))
        except tf.errors.OpError as error:
            raise RunError(f"{self.directory}: the state cannot be written: {error.message}") from error
        memories = [
            {name: _plain(vars(other)[name]) for name in _MEMORY if name in vars(other)} for other in self.others
        ]
        self.stopped = bool(self.model.stop_training)
        write_json(
            self._state_file,
            {"checkpoint": checkpoint, "stopped": self.stopped, "memories": memories, "history": self.history},
        )
        for file in self.directory.glob("epoch-*"):
            if file.is_dir():  # where TensorFlow was killed while it wrote
                shutil.rmtree(file)
            elif not file.name.startswith(f"{checkpoint}."):
                file.unlink()
        self._write_log()

    def _write_log(self):
        with replacing(self.log_file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.history[0]))
            writer.writeheader()
            writer.writerows(self.history)


def _plain(value):
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


class Progress(keras.callbacks.Callback):
    """One bar over all steps, and a line after each epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int, first_epoch: int):
        super().__init__()
        self.epochs = epochs
        total, done = epochs * steps_per_epoch, first_epoch * steps_per_epoch
        self.bar = tqdm(total=total, initial=done, desc="training", unit="step", mininterval=1)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self.bar.write(
            f"epoch {epoch + 1:3d}/{self.epochs}  loss {logs['loss']:.4f}  validation: loss {logs['val_loss']:.4f}, "
            f"accuracy {100 * logs['val_accuracy']:.1f} %  learning rate {logs['lr']:.0e}, "
            f"{logs['images_per_second']:.1f} img/s (waiting {logs['waiting']:.1%}, crafting {logs['crafting']:.1%})"
        )

    def close(self):
        """Ends the bar's line, also where training was interrupted."""
        self.bar.close()


class ImageStrip(keras.callbacks.Callback):
    """Writes strips of clean, attacked, denoised and difference images to TensorBoard after each epoch."""

    def __init__(self, directory: Path, examples: AttackedSet, count: int = 4):
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(directory))
        self.clean = examples.clean.images[:count]
        self.attacked = examples.attacked[:, :count]
        self.names = examples.names

    def on_epoch_end(self, epoch, logs=None):
        size = self.model.target.image_size
        clean = resize_to(self.clean, size).numpy()
        attacked = resize_to(self.attacked.reshape(-1, *self.clean.shape[1:]), size)
        denoised = self.model.denoiser(attacked, training=False)
        by_attack = [np.split(images.numpy(), len(self.names)) for images in (attacked, denoised)]
        with self.writer.as_default(step=epoch):
            for name, before, after in zip(self.names, *by_attack):
                tf.summary.image(name, strip(clean, before, after), max_outputs=len(clean))
        self.writer.flush()


def strip(clean: np.ndarray, attacked: np.ndarray, denoised: np.ndarray) -> np.ndarray:
    """Clean, attacked, denoised and (denoised - clean) around mid-grey side by side; uint8 (N, H, 4 W, C)."""
    difference = 127.5 + denoised - clean.astype(np.float32)
    panels = [np.asarray(panel, np.float32) for panel in (clean, attacked, denoised, difference)]
    return np.clip(np.round(np.concatenate(panels, axis=2)), 0, 255).astype(np.uint8)
