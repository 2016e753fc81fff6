"""Makes of a training run a defense that comes with the package: `load_defense(NAME)`.

    python -m hgd_tf.defenses.ship runs/imagenet_lgd hgd_tf/defenses/shipped/efficientnet_lite0_lgd

The kernels of the denoiser's convolutions are rounded to bfloat16, in which `--precision=bfloat16` computed with them,
and the file is deflated: 1.7 bytes a parameter instead of 4. Beside it go the run's configuration and learning curve.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from hgd_tf import cli
from hgd_tf.defenses.defense import Defense
from hgd_tf.defenses.saving import DENOISER_FILE, load_defense, save_defense
from hgd_tf.errors import RunError
from hgd_tf.files import replacing, write_json
from hgd_tf.training.run_directory import CONFIG_FILE, LOG_FILE

KERNEL_RANK = 4
PLACES = ("photographs", "labels", "test_dir", "data_dir")


def ship(run_dir: Path, directory: Path) -> None:
    """Writes the defense into `directory`, and the run's records where it has them.

    Raises:
      RunError: the run holds no defense.
    """
    defense = load_defense(run_dir)
    save_defense(Defense(rounded(defense.denoiser), defense.target), directory)
    deflate(directory / DENOISER_FILE)
    if (run_dir / LOG_FILE).is_file():
        shutil.copyfile(run_dir / LOG_FILE, directory / LOG_FILE)
    if (run_dir / CONFIG_FILE).is_file():
        write_json(directory / CONFIG_FILE, _without_places(json.loads((run_dir / CONFIG_FILE).read_text("utf-8"))))


def _without_places(config: dict) -> dict:
    """A run's configuration that says what its folders are called, not where they lay."""
    experiment = {
        name: str(Path(*Path(value).parts[-2:])) if name in PLACES and value else value
        for name, value in config["experiment"].items()
    }
    return {**config, "experiment": experiment}


def rounded(denoiser: tf.keras.Model) -> tf.keras.Model:
    """The same denoiser, its convolutions' kernels replaced by their nearest bfloat16 values."""
    weights = [
        tf.cast(tf.cast(weight, tf.bfloat16), tf.float32).numpy() if weight.ndim == KERNEL_RANK else weight
        for weight in denoiser.get_weights()
    ]
    denoiser.set_weights(weights)
    return denoiser


def deflate(path: Path) -> None:
    """Compresses the members of a zip file, such as Keras', which stores them as they are."""
    with replacing(path) as temporary, zipfile.ZipFile(path) as stored, _deflated(temporary) as deflated:
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))


def _deflated(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise RunError(f"expected the folders of a run and of the shipped defense, received {len(arguments)} arguments")
    run_dir, directory = map(Path, arguments)
    ship(run_dir, directory)
    print(f"{directory / DENOISER_FILE}: {(directory / DENOISER_FILE).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
