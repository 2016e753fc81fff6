"""A defense on disk: a folder with `denoiser.keras` and `defense.json`; and those that come with the package."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Optional, Union

import hgd_tf.denoisers  # noqa: F401  registers the layers that a denoiser file names
from hgd_tf.defenses.ensemble import Defense
from hgd_tf.errors import RunError, TargetError
from hgd_tf.files import replacing, write_json
from hgd_tf.foundation.stack import is_keras_3_model, keras, load_model
from hgd_tf.targets import Target, TargetSource, load_target
from hgd_tf.targets.answers import probe_images
from hgd_tf.targets.keras3 import keras_3_layer, network_of
from hgd_tf.targets.reading import UNREADABLE, CustomObjects, read_model, why
from hgd_tf.targets.steadiness import same_answers

DENOISER_FILE = "denoiser.keras"
TARGET_FILE = "target.keras"
DEFENSE_FILE = "defense.json"
_WITH_TARGET = "; the denoiser can be loaded: load_defense(DIR, target=…)"
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
      RunError: Keras cannot save the target; the denoiser is saved nevertheless.
    """
    directory = Path(directory)
    if not isinstance(defense.denoiser, keras.Model):
        raise ValueError(f"expected a Keras model as denoiser, received {type(defense.denoiser).__name__}")
    save_model(defense.denoiser, directory / DENOISER_FILE)
    save_target(defense.target, directory)


def save_target(target: Target, directory: Union[str, Path]) -> None:
    """Writes the part of `save_defense` that says which target it is.

    Raises:
      RunError: Keras cannot save it; all else is written.
    """
    directory = Path(directory)
    description = {"target_name": target.name, "registered_target": target.source and target.source._asdict()}
    module = {"custom_objects": target.module} if target.module else {}
    write_json(directory / DEFENSE_FILE, {**description, **module})
    if target.source is not None:
        return
    try:
        foreign = keras_3_layer(target.network)
        save_model(target.network if foreign is None else foreign.model, directory / TARGET_FILE)
    except Exception as error:  # whatever the code of the user's layers does
        raise RunError(f"{directory}: {target.name} cannot be saved: {why(error)}{_WITH_TARGET}") from error


def check_saving(target: Target) -> None:
    """Saves a target and loads it again, to know before work that ends in `save_target`.

    Raises:
      TargetError: that fails, or it answers otherwise afterwards.
    """
    if target.source is not None:
        return
    images = probe_images(target.image_size, target.channels)
    with tempfile.TemporaryDirectory() as folder:
        try:
            save_target(target, folder)
            again = _saved_target(Path(folder), json.loads((Path(folder) / DEFENSE_FILE).read_text(encoding="utf-8")))
        except (RunError, TargetError) as error:
            reason = str(error).replace(f"{folder}/", "").replace(f"{folder}: ", "").partition(_WITH_TARGET)[0]
            raise TargetError(f"{target.name} cannot be kept beside its denoiser: {reason}") from error
    if not same_answers(target.network, again.network, images):
        raise TargetError(f"{target.name} cannot be kept beside its denoiser: read from its file, it answers otherwise")


def shipped_defenses() -> tuple[str, ...]:
    """Names of the trained defenses that come with the package; a folder of that name in `SHIPPED` holds each."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{DEFENSE_FILE}")))


def defense_directory(name_or_directory: Union[str, Path]) -> Path:
    """The folder itself; or, where there is no such folder, that of the shipped defense of that name."""
    directory = Path(name_or_directory)
    if not directory.exists() and str(name_or_directory) in shipped_defenses():
        return SHIPPED / name_or_directory
    return directory


def load_saved(
    name_or_directory: Union[str, Path],
    target: Optional[Target] = None,
    custom_objects: CustomObjects = None,
    safe_mode: Optional[bool] = None,
) -> Defense:
    """A folder, or where there is none, one of `shipped_defenses()`, with arguments and errors of `load_defense`."""
    directory = defense_directory(name_or_directory)
    denoiser = load_denoiser(directory)
    if target is not None:
        return Defense(denoiser, target)
    try:
        description = json.loads((directory / DEFENSE_FILE).read_text(encoding="utf-8"))
        return Defense(denoiser, _saved_target(directory, description, custom_objects, safe_mode))
    except UNREADABLE as error:
        raise RunError(f"{directory}: the saved defense cannot be read: {error}") from error


def _saved_target(
    directory: Path, description: dict, custom_objects: CustomObjects = None, safe_mode: Optional[bool] = None
) -> Target:
    if description["registered_target"]:
        return load_target(*TargetSource(**description["registered_target"]))
    module = description.get("custom_objects")
    try:
        network = read_model(directory / TARGET_FILE, module if custom_objects is None else custom_objects, safe_mode)
    except TargetError as error:
        raise RunError(f"{error}{_WITH_TARGET}") from error
    if is_keras_3_model(network):
        network = network_of(network)
    return Target(network, name=description["target_name"], module=module)


def load_denoiser(name_or_directory: Union[str, Path]) -> keras.Model:
    """The denoiser of what `load_saved` loads, without its target, of which nothing need be there.

    Raises:
      RunError: the folder or the file in it is missing or damaged.
    """
    directory = defense_directory(name_or_directory)
    if not (directory / DENOISER_FILE).is_file():
        raise RunError(
            f"{directory} holds no defense: {DENOISER_FILE} is missing (expected the folder of a training run, or one "
            f"of {', '.join(shipped_defenses())})"
        )
    try:
        return load_model(directory / DENOISER_FILE)
    except UNREADABLE as error:
        reason = str(error).rpartition("Exception encountered: ")[2]
        raise RunError(f"{directory}: the saved defense cannot be read: {reason}") from error
