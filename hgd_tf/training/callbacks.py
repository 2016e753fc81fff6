"""Keras callbacks of a training run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.crafting import AttackedSet
from hgd_tf.errors import RunError
from hgd_tf.files import replacing, write_json
from hgd_tf.targets import resize_to

# What Keras' own callbacks forget when training stops.
_MEMORY = ("best", "wait", "cooldown_counter", "best_epoch")


class BestDenoiser(tf.keras.callbacks.Callback):
    """Calls `save` whenever the validation loss is the lowest so far."""

    def __init__(self, save: Callable[[], None]):
        super().__init__()
        self.save = save
        self.best = float("inf")

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best = float(logs["val_loss"])
            self.save()


class TrainingState(tf.keras.callbacks.Callback):
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
        self, directory: Path, log_file: Path, tracked: tf.train.Checkpoint, others: list[tf.keras.callbacks.Callback]
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
                f"{self.directory}: the state of the interrupted run is damaged ({error}); use --overwrite"
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


class Progress(tf.keras.callbacks.Callback):
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
            f"accuracy {100 * logs['val_accuracy']:.1f} %  learning rate {logs['lr']:.0e}"
        )

    def close(self):
        """Ends the bar's line, also where training was interrupted."""
        self.bar.close()


class ImageStrip(tf.keras.callbacks.Callback):
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
