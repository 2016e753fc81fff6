"""Makes of a training run a defense that comes with the package.

The kernels of the denoiser's convolutions are rounded to bfloat16, in which `--precision=bfloat16` computed with them,
and compressed: 1.7 bytes a parameter instead of 4. Beside it go the run's configuration and learning curve.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf

from hgd_tf.defenses.ensemble import Defense
from hgd_tf.defenses.saving import DENOISER_FILE, load_saved, save_defense
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.files import replacing, write_json
from hgd_tf.foundation.description import settings
from hgd_tf.foundation.old_names import with_new_names
from hgd_tf.foundation.stack import keras
from hgd_tf.training.run_directory import CONFIG_FILE, LOG_FILE

KERNEL_RANK = 4
WEIGHTS_ENDING = ".h5"
COMPRESSION = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
FORMAT = ("v108", "v110")  # small, and read by every HDF5 since 1.10
LEAST_COMPRESSED = 4096  # numbers of an array; below, what HDF5 adds is more than is saved
PLACES = ("images", "labels", "test_dir")


def ship(run_dir: Path, directory: Path) -> None:
    """Writes the defense into `directory`, and the run's records where it has them.

    Raises:
      RunError: the run holds no defense.
    """
    defense = load_saved(run_dir)
    save_defense(Defense(rounded(defense.denoiser), defense.target), directory)
    compress(directory / DENOISER_FILE)
    if (run_dir / LOG_FILE).is_file():
        shutil.copyfile(run_dir / LOG_FILE, directory / LOG_FILE)
    if (run_dir / CONFIG_FILE).is_file():
        write_json(directory / CONFIG_FILE, _without_places(json.loads((run_dir / CONFIG_FILE).read_text("utf-8"))))


def _without_places(config: dict) -> dict:
    """A run's configuration that says what its folders are called, not where they lay."""
    experiment = {
        name: str(Path(*Path(value).parts[-2:])) if name in PLACES and value else value
        for name, value in with_new_names(config["experiment"].items(), settings(ExperimentConfig))
    }
    return {**config, "experiment": experiment}


def rounded(denoiser: keras.Model) -> keras.Model:
    """The same denoiser, its convolutions' kernels replaced by their nearest bfloat16 values."""
    weights = [
        tf.cast(tf.cast(weight, tf.bfloat16), tf.float32).numpy() if weight.ndim == KERNEL_RANK else weight
        for weight in denoiser.get_weights()
    ]
    denoiser.set_weights(weights)
    return denoiser


def compress(path: Path) -> None:
    """Compresses the weights in a `.keras` file, each by itself: quick to load, unlike a compressed archive."""
    with replacing(path) as temporary, zipfile.ZipFile(path) as plain, zipfile.ZipFile(temporary, "w") as compressed:
        for name in plain.namelist():
            content = plain.read(name)
            compressed.writestr(name, _compressed(content) if name.endswith(WEIGHTS_ENDING) else content)


def _compressed(content: bytes) -> bytes:
    """An HDF5 file with compressed arrays, their bytes sorted by significance: rounded numbers end in zeros."""
    result = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as plain, h5py.File(result, "w", libver=FORMAT) as compressed:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                copied = compressed.require_group(name)
            else:
                options = COMPRESSION if item.size >= LEAST_COMPRESSED else {}
                copied = compressed.create_dataset(name, data=item[()], **options)
            copied.attrs.update(item.attrs)

        plain.visititems(copy)
        compressed.attrs.update(plain.attrs)
    return result.getvalue()
