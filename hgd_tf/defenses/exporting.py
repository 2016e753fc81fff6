"""Defenses as SavedModels for TensorFlow Serving; they load in plain TensorFlow, without this package."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

import numpy as np
import tensorflow as tf

from hgd_tf.defenses.comparison import Comparison, compare
from hgd_tf.defenses.ensemble import Classifier, Ensemble
from hgd_tf.defenses.serving_warm_up import WARM_UP_FILE, write_warm_up
from hgd_tf.errors import RunError
from hgd_tf.files import remove_leftovers, replacing, write_json
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, resize_to
from hgd_tf.targets.freezing import computes_in_less_than_float32, float32_copy, inference_copy
from hgd_tf.versions import package_versions

PIXELS, BYTES, DENOISE = "serving_default", "serving_bytes", "denoise"
EXTRAS, DESCRIPTION_FILE = "assets.extra", "export.json"

Resized = tuple[tf.Tensor, ...]  # images, float32 (N, size, size, C), in the order of their sizes


class Export(NamedTuple):
    """What was exported.

    Attributes:
      size: of its files, in bytes.
    """

    path: Path
    size: int
    signatures: tuple[str, ...]


def export_path(output_dir: Union[str, Path], name: str, version: int, overwrite: bool = False) -> Path:
    """Where a version of a model goes: `<output_dir>/<name>/<version>`.

    Raises:
      RunError: it is there already, and is not to be overwritten.
    """
    path = Path(output_dir) / name / str(version)
    if path.exists() and not overwrite:
        raise RunError(f"{path} exists already: expected another version, or `overwrite=True`")
    return path


def export_defense(classifier: Classifier, path: Union[str, Path], source: str = "a program") -> Export:
    """Writes a SavedModel, complete or not at all; what stood at `path` is replaced.

    Before it is written, its logits are compared with the classifier's on a few images; what was trained in bfloat16,
    with the same layers' in float32. The description beside the model, `export.json`, says how far they were apart.

    Batch normalization is folded into the convolutions where that is possible, and everything is computed in float32,
    also what was trained in bfloat16. Signatures, for batches of any number:

    - `serving_default`: `images` uint8 (N, H, W, C) in [0, 255] of any size, to `logits` and `probabilities` float32
      (N, classes) and `classes` int64 (N,), 0-based;
    - `serving_bytes`: `image_bytes` (N,), the content of image files (PNG, JPEG, GIF, BMP) of any sizes, to the same.
      The pixels are taken as they are stored: an orientation in a photograph's EXIF data is not followed, for
      TensorFlow's decoders do not read it; turn such images first, and give their pixels to `serving_default`;
    - `denoise`, of a single flow: `images` as above, to `denoised` float32 (N, size, size, C) in pixel units,
      unclipped: what the flow's first target is given. Several flows have no denoised image in common.

    Weights stay variables: constants in the graph would be a little quicker at every call, but the first would take
    seconds to fold them, and a graph may not be larger than 2 GiB.

    Args:
      classifier: what is exported.
      path: `.../NAME/VERSION`, as TensorFlow Serving wants it.
      source: where the classifier comes from, for the description beside the model.

    Raises:
      TargetError: a layer cannot be copied, or the model would answer otherwise than the classifier.
      OSError: it cannot be written.
    """
    path = Path(path)
    model = ExportedModel(classifier)
    signatures = model.signatures()
    comparison = compare(lambda images: signatures[PIXELS](images=images), _in_float32(classifier), str(path))
    try:
        with replacing(path) as temporary:
            remove_leftovers(path.parent)
            tf.saved_model.save(model, temporary, signatures=signatures)
            _write_extras(Path(temporary) / EXTRAS, model, path, source, signatures, comparison)
    except BaseException:
        with contextlib.suppress(OSError):  # other versions are in it
            path.parent.rmdir()
        raise
    return Export(path, folder_size(path), tuple(signatures))


def folder_size(folder: Union[str, Path]) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


class ExportedModel(tf.Module):
    """A classifier as functions in TensorFlow's own operations.

    The Keras models are no attributes of it: they would be saved with their layers' classes, and missed on loading.

    Args:
      classifier: its networks are copied.
    """

    def __init__(self, classifier: Classifier):
        super().__init__()
        copy = _copied(classifier, inference_copy)
        self.channels, self.sizes = copy.channels, copy.sizes
        self.saved_variables = list(copy.variables)
        self._answer = tf.function(lambda images: copy.of_sized(dict(zip(self.sizes, images))))
        self._denoise = lambda images: {"denoised": copy.flows[0].denoise(images)}
        self._is_one_flow = len(copy.flows) == 1

    def signatures(self) -> dict[str, Any]:
        """The functions that are saved, by their names."""
        images = tf.TensorSpec((None, None, None, self.channels), tf.uint8, "images")
        image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
        functions = {
            PIXELS: tf.function(lambda images: self._answer(self._resized(images)), [images]),
            BYTES: tf.function(lambda image_bytes: self._answer(self._decoded(image_bytes)), [image_bytes]),
        }
        if self._is_one_flow:
            functions[DENOISE] = tf.function(self._denoise, [images])
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def _resized(self, images: tf.Tensor) -> Resized:
        return tuple(resize_to(images, size) for size in self.sizes)

    def _decoded(self, image_bytes: tf.Tensor) -> Resized:
        def decode(content):
            resized = self._resized(_decode(content, self.channels)[tf.newaxis])
            return tuple(image[0] for image in resized)

        specs = tuple(tf.TensorSpec((size, size, self.channels), tf.float32) for size in self.sizes)
        return tf.map_fn(decode, image_bytes, fn_output_signature=specs)


def _in_float32(classifier: Classifier) -> Ensemble:
    """The classifier with its own networks, but for those that compute in less: their layers in float32."""
    return _copied(
        classifier, lambda network: float32_copy(network) if computes_in_less_than_float32(network) else network
    )


def _copied(classifier: Classifier, copied: Callable[[keras.Model], keras.Model]) -> Ensemble:
    copied = functools.lru_cache(None)(copied)  # flows may share networks
    return classifier.with_parts(
        lambda part: _logits_only(copied(part.network), part.name) if isinstance(part, Target) else copied(part)
    )


def _logits_only(network: keras.Model, name: str) -> Target:
    """A target without auxiliary heads, whose variables would be saved."""
    return Target(keras.Model(network.input, {"logits": network.output["logits"]}), name=name)


def _decode(content: tf.Tensor, channels: int) -> tf.Tensor:
    """An encoded image as uint8 (H, W, channels), a JPEG with the exact inverse transform that Pillow uses as well."""
    image = tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, channels, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _write_extras(
    folder: Path, model: ExportedModel, path: Path, source: str, signatures: dict[str, Any], comparison: Comparison
) -> None:
    """What TensorFlow Serving reads beside the model, and a description for people."""
    folder.mkdir()
    name, size = path.parent.name, max(model.sizes)
    images = np.full((1, size, size, model.channels), 128, np.uint8)
    inputs = {signature: {"images": images} for signature in signatures if signature != BYTES}
    encoded = np.array([tf.io.encode_png(images[0]).numpy()], object)
    write_warm_up(folder / WARM_UP_FILE, name, {**inputs, BYTES: {"image_bytes": encoded}})
    description = {
        "name": name,
        "version": path.name,
        "source": source,
        "versions": package_versions(),
        "comparison with the source": comparison._asdict(),
        "signatures": {signature: _shapes(function) for signature, function in signatures.items()},
        "notes": {BYTES: "pixels as they are stored: the orientation of a photograph (EXIF) is not followed"},
    }
    write_json(folder / DESCRIPTION_FILE, description)


def _shapes(function: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Of a concrete function: type and shape of each input and output, None for what is open."""
    outputs = {name: tf.TensorSpec.from_tensor(tensor) for name, tensor in function.structured_outputs.items()}
    inputs = {spec.name: spec for spec in tf.nest.flatten(function.structured_input_signature)}
    return {
        side: {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}
        for side, specs in (("inputs", inputs), ("outputs", outputs))
    }
