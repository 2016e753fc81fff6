"""A defense on disk: a folder with `denoiser.keras` and `defense.json`; and those that come with the package."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Union

import hgd_tf.denoisers  # noqa: F401  registers the layers that a denoiser file names
from hgd_tf.defenses.defense import Defense
from hgd_tf.errors import RunError
from hgd_tf.files import replacing, write_json
from hgd_tf.stack import keras
from hgd_tf.targets import Target, TargetSource, load_target
from hgd_tf.targets.keras3 import is_keras_3_file, keras_3_layer, load_keras_3, network_of

DENOISER_FILE = "denoiser.keras"
TARGET_FILE = "target.keras"
DEFENSE_FILE = "defense.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)
SHIPPED = Path(__file__).parent / "shipped"


def save_model(model: keras.Model, path: Union[str, Path]) -> None:
    """Writes an uncompiled model, hence without optimizer state, as a `.keras` file; complete or not at all."""
    with replacing(path) as temporary:
        model.save(temporary)


def save_defense(defense: Defense, directory: Union[str, Path]) -> None:
    """Writes a defense into a folder, made where it is absent.

    A registered target is written as its name; any other is written whole, as `target.keras`, by the Keras it is of.

    Raises:
      ValueError: the denoiser is no Keras model.
    """
    directory = Path(directory)
    if not isinstance(defense.denoiser, keras.Model):
        raise ValueError(f"expected a Keras model as denoiser, received {type(defense.denoiser).__name__}")
    save_model(defense.denoiser, directory / DENOISER_FILE)
    save_target(defense.target, directory)


def save_target(target: Target, directory: Union[str, Path]) -> None:
    """Writes the part of `save_defense` that says which target it is."""
    directory = Path(directory)
    if target.source is None:
        foreign = keras_3_layer(target.network)
        save_model(target.network if foreign is None else foreign.model, directory / TARGET_FILE)
    source = target.source and target.source._asdict()
    write_json(directory / DEFENSE_FILE, {"target_name": target.name, "registered_target": source})


def shipped_defenses() -> tuple[str, ...]:
    """Names of the trained defenses that come with the package; a folder of that name in `SHIPPED` holds each."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{DEFENSE_FILE}")))


def defense_directory(name_or_directory: Union[str, Path]) -> Path:
    """The folder itself; or, where there is no such folder, that of the shipped defense of that name."""
    directory = Path(name_or_directory)
    if not directory.exists() and str(name_or_directory) in shipped_defenses():
        return SHIPPED / name_or_directory
    return directory


def load_defense(name_or_directory: Union[str, Path]) -> Defense:
    """Loads what `save_defense` or a training run wrote, or a defense that comes with the package.

    Args:
      name_or_directory: a folder; or, where there is no such folder, one of `shipped_defenses()`, such as
        `efficientnet_lite0_lgd`.

    Raises:
      RunError: the folder or a file in it is missing or damaged.
      TargetError: the target cannot be loaded.
    """
    directory = defense_directory(name_or_directory)
    denoiser = load_denoiser(directory)
    try:
        description = json.loads((directory / DEFENSE_FILE).read_text(encoding="utf-8"))
        if description["registered_target"]:
            target = load_target(*TargetSource(**description["registered_target"]))
        else:
            target = Target(_load_network(directory / TARGET_FILE), name=description["target_name"])
    except UNREADABLE as error:
        raise RunError(f"{directory}: the saved defense cannot be read: {error}") from error
    return Defense(denoiser, target)


def _load_network(path: Path) -> keras.Model:
    if is_keras_3_file(path):
        return network_of(load_keras_3(path))
    return keras.models.load_model(path, compile=False)


def load_denoiser(name_or_directory: Union[str, Path]) -> keras.Model:
    """The denoiser of what `load_defense` loads, without its target.

    Raises:
      RunError: the folder or a file in it is missing or damaged.
    """
    directory = defense_directory(name_or_directory)
    missing = [name for name in (DEFENSE_FILE, DENOISER_FILE) if not (directory / name).is_file()]
    if missing:
        raise RunError(
            f"{directory} holds no defense: {missing[0]} is missing (expected the folder of a training run, or one of "
            f"{', '.join(shipped_defenses())})"
        )
    try:
        return keras.models.load_model(directory / DENOISER_FILE, compile=False)
    except UNREADABLE as error:
        raise RunError(f"{directory}: the saved defense cannot be read: {error}") from error
