"""`load_target`: a frozen classifier by name, from a file, or from a model in memory."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Optional, Union

import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.targets.registry import TARGETS, shipped_weights, target_spec
from hgd_tf.targets.target import Target, TargetSource
from hgd_tf.targets.user import PIXELS, user_network


def load_target(
    name_or_model: Union[str, Path, tf.keras.Model],
    checkpoint: Optional[str] = None,
    image_size: Optional[int] = None,
    *,
    feature_layer: Optional[str] = None,
    input_range: tuple[float, float] = PIXELS,
) -> Target:
    """Loads a frozen classifier.

    Args:
      name_or_model: a name of `python -m hgd_tf.targets`; or the path of a `.keras` file or SavedModel folder that
        Keras wrote; or a `tf.keras.Model`.
      checkpoint: weights file of a registered target, instead of those that ship with the package.
      image_size: side of the square input, instead of the native one; images of other sizes are resized to it.
      feature_layer: of a model of the user's own: the layer whose output is `features`, needed for feature guidance.
      input_range: of a model of the user's own: the values it expects for black and white.

    Returns:
      The target; its `name` is the registered name, the file's without its ending, or the model's own.

    Raises:
      TargetError: the name, file, layer or size does not fit.
    """
    if image_size is not None and image_size < 1:
        raise TargetError(f"image_size must be at least 1, received {image_size}")
    if isinstance(name_or_model, str) and name_or_model in TARGETS:
        return _load_registered(name_or_model, checkpoint, image_size)
    if checkpoint is not None:
        raise TargetError(
            f"a checkpoint goes with a registered target only, received {name_or_model!r} with {checkpoint}"
        )
    if isinstance(name_or_model, tf.keras.Model):
        model, name = name_or_model, name_or_model.name
    else:
        model, name = _load_keras(Path(name_or_model)), Path(name_or_model).stem
    return Target(user_network(model, feature_layer, input_range, image_size), name=name)


def build_target(name: str, image_size: Optional[int] = None) -> tf.keras.Model:
    """A registered target's network with fresh random weights, trainable."""
    spec = target_spec(name)
    return spec.build(image_size or spec.image_size)


def _load_registered(name: str, checkpoint: Optional[str], image_size: Optional[int]) -> Target:
    network = build_target(name, image_size)
    path = Path(checkpoint) if checkpoint else shipped_weights(name)
    if not path.is_file():
        raise TargetError(f"{name}: no weights file at {path}")
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TargetError(f"{path} does not hold the weights of {name}: {error}") from error
    return Target(network, name=name, source=TargetSource(name, checkpoint, image_size))


def _load_keras(path: Path) -> tf.keras.Model:
    if not path.exists():
        target_spec(str(path))  # neither a name nor a path: raises, listing the names
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise TargetError(f"{path} is no model that Keras can load: {error}") from error
    if not isinstance(model, tf.keras.Model) or not getattr(model, "inputs", None):
        raise TargetError(f"{path}: expected a functional or Sequential Keras model, received {type(model).__name__}")
    return model
