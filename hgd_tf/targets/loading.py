"""`load_target`: a frozen classifier by name, from a file, or from a model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

from hgd_tf.errors import CheckpointError, TargetError
from hgd_tf.foundation.stack import is_keras_3_model, keras, outside_graphs
from hgd_tf.targets.freezing import frozen_copy
from hgd_tf.targets.keras3_user import keras_3_network
from hgd_tf.targets.published import find_published, load_published, missing_message
from hgd_tf.targets.reading import CustomObjects, read_model
from hgd_tf.targets.registry import TARGETS, shipped_weights, target_spec
from hgd_tf.targets.target import Target, TargetSource
from hgd_tf.targets.user import PIXELS, user_network


@outside_graphs
def load_target(
    name_or_model: Union[str, Path, keras.Model],
    checkpoint: Optional[str] = None,
    image_size: Optional[int] = None,
    *,
    checkpoint_dir: Optional[str] = None,
    feature_layer: Optional[str] = None,
    input_range: tuple[float, float] = PIXELS,
    outputs: str = "auto",
    custom_objects: CustomObjects = None,
    safe_mode: Optional[bool] = None,
) -> Target:
    """Loads a frozen classifier.

    Args:
      name_or_model: a name of `python -m hgd_tf.targets`; or the path of a `.keras` or `.h5` file or SavedModel folder
        that Keras wrote; or a `keras.Model`. Where Keras 3 is installed, on TensorFlow, its models and files too.
      checkpoint: weights file of a registered target, instead of those that ship with the package or lie in
        `checkpoint_dir`. For an ImageNet target: a TensorFlow checkpoint (V1 or V2; prefix, file, folder or published
        archive), a PyTorch file, or what `python -m hgd_tf.targets convert` wrote.
      image_size: side of the square input, instead of the native one; images of other sizes are resized to it.
      checkpoint_dir: where the published files of ImageNet targets lie; None: $HGD_CHECKPOINTS, or a folder in the
        user's cache.
      feature_layer: of a model of the user's own: the layer whose output is `features`, needed for feature guidance.
      input_range: of a model of the user's own: the values it expects for black and white.
      outputs: of a model of the user's own: whether it gives `logits` or `probabilities`; `auto`: what its answers to
        images of all kinds show.
      custom_objects: what the file of such a model needs of the user's code, by name; or the name of a Python module,
        whose public classes and functions are meant.
      safe_mode: whether Python code inside such a file is refused, as in Lambda layers; None: it is, unless the
        process was asked to run it.

    Returns:
      The target; its `name` is the registered name, the file's without its ending, or the model's own.

    Raises:
      TargetError: the name, file, layer or size does not fit.
      CheckpointError: published weights are missing, damaged, or of another network.
    """
    if image_size is not None and image_size < 1:
        raise TargetError(f"image_size must be at least 1, received {image_size}")
    if isinstance(name_or_model, str) and name_or_model in TARGETS:
        return _load_registered(name_or_model, checkpoint, image_size, checkpoint_dir)
    if checkpoint is not None:
        raise TargetError(
            f"a checkpoint goes with a registered target only, received {name_or_model!r} with {checkpoint}"
        )
    model: Any = name_or_model
    if isinstance(model, keras.Model) or is_keras_3_model(model):
        name = model.name
    else:
        model, name = _load_keras(Path(name_or_model), custom_objects, safe_mode), Path(name_or_model).stem
    wrap = keras_3_network if is_keras_3_model(model) else user_network
    network = wrap(model, feature_layer, input_range, image_size, outputs, name)
    module = custom_objects if isinstance(custom_objects, str) else None
    low, high = input_range
    return Target(network, name=name, module=module, reading=f"{float(low)}..{float(high)} {outputs}")


def build_target(name: str, image_size: Optional[int] = None) -> keras.Model:
    """A registered target's network with fresh random weights, trainable.

    Raises:
      TargetError: there is no such target, or its architecture does not admit that size.
    """
    spec = target_spec(name)
    try:
        return spec.build(image_size or spec.image_size)
    except ValueError as error:
        raise TargetError(f"{name} cannot be built for images of side {image_size}: {error}") from error


@outside_graphs
def load_network(
    name: str, checkpoint: Optional[str] = None, image_size: Optional[int] = None, checkpoint_dir: Optional[str] = None
) -> keras.Model:
    """A registered target's network with its weights, layer by layer as it was trained; arguments as `load_target`."""
    spec = target_spec(name)
    if spec.published is None:
        return _load_shipped(name, checkpoint, image_size)
    path = Path(checkpoint) if checkpoint else find_published(name, spec.published, checkpoint_dir)
    if path is None:
        raise CheckpointError(missing_message(name, spec.published, checkpoint_dir))
    return load_published(build_target(name, image_size), spec, path)


def _load_registered(
    name: str, checkpoint: Optional[str], image_size: Optional[int], checkpoint_dir: Optional[str]
) -> Target:
    network = load_network(name, checkpoint, image_size, checkpoint_dir)
    if target_spec(name).published is not None:  # it rounds differently: the small ones' results are of the plain ones
        network = frozen_copy(network)
    return Target(network, name=name, source=TargetSource(name, checkpoint, image_size))


def _load_shipped(name: str, checkpoint: Optional[str], image_size: Optional[int]) -> keras.Model:
    network = build_target(name, image_size)
    path = Path(checkpoint) if checkpoint else shipped_weights(name)
    if not path.is_file():
        raise TargetError(f"{name}: no weights file at {path}")
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise TargetError(f"{path} does not hold the weights of {name}: {error}") from error
    return network


def _load_keras(path: Path, custom_objects: CustomObjects, safe_mode: Optional[bool]) -> keras.Model:
    if not path.exists():
        target_spec(str(path))  # neither a name nor a path: raises, listing the names
    model = read_model(path, custom_objects, safe_mode)
    if is_keras_3_model(model):
        return model
    if not isinstance(model, keras.Model):
        raise TargetError(
            f"{path} is a SavedModel without Keras' description of its layers, as model.export() writes: "
            "expected a .keras file, which model.save() writes"
        )
    if not getattr(model, "inputs", None):
        raise TargetError(f"{path}: expected a functional or Sequential Keras model, received {type(model).__name__}")
    return model
