"""A Keras 3 classifier of the user's own as a target: a function of tensors inside a Keras 2 network.

What is made of it is a Keras 3 model too, from pixels in [0, 255] to the dict of responses. It shares the layers of the
user's model, which stays as it is, and is what a defence's folder holds.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Optional, Union

import h5py
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.files import check_archive
from hgd_tf.foundation.stack import KERAS_3_STACK, has_keras_3, import_keras_3, keras, keras_package_version
from hgd_tf.targets.graph import scope_name

WITH_TENSORFLOW = "expected KERAS_BACKEND=tensorflow, with which a .keras file of any backend loads"
REDUCED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
EXACT = "float32"
OUTPUT = "output"


def keras_version(path: Union[str, Path]) -> str:
    """The version of Keras that wrote a `.keras` file, the same unpacked, or an `.h5` file; empty where unsaid."""
    path = Path(path)
    try:
        if _is_of_files(path):
            return json.loads(_file_in(path, "metadata.json"))["keras_version"]
        return _hdf5_attribute(path, "keras_version")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return ""


def _is_of_files(path: Path) -> bool:
    return path.is_dir() or zipfile.is_zipfile(path)


def _file_in(path: Path, name: str) -> str:
    if path.is_dir():
        return (path / name).read_text(encoding="utf-8")
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode()


def _hdf5_attribute(path: Path, name: str) -> str:
    with h5py.File(path, "r") as file:
        value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def is_keras_3_file(path: Union[str, Path]) -> bool:
    """Whether Keras 3 wrote a model, which Keras 2 cannot read."""
    return keras_version(path).startswith("3.")


def keras_3(what: str) -> ModuleType:
    """Keras 3, computing with TensorFlow.

    Args:
      what: needs it, for the error.

    Raises:
      TargetError: this Python has none, or it computes with something else.
    """
    if not has_keras_3():
        raise TargetError(
            f"{what} is a model of Keras 3, this Python's Keras is {keras_package_version()}: expected "
            f"{KERAS_3_STACK}; or the same model built in Keras 2 with its weights, as a .keras or SavedModel path"
        )
    try:
        module = import_keras_3()
        backend = module.backend.backend()
    except ImportError as error:
        raise TargetError(f"{what} needs Keras 3, whose import fails ({error}): {WITH_TENSORFLOW}") from error
    if backend != "tensorflow":
        raise TargetError(f"{what} needs Keras 3 on TensorFlow, here it computes with {backend}: {WITH_TENSORFLOW}")
    return module


def load_keras_3(path: Path, custom_objects: Mapping[str, Any], safe_mode: bool) -> Any:
    """The Keras 3 model in a file.

    Raises:
      TargetError: this process has no Keras 3 on TensorFlow.
      ValueError: the file holds code, in safe mode; or it is damaged, as other errors of Keras' say.
    """
    module = keras_3(str(path))
    check_archive(path)
    if safe_mode and _holds_code(path):
        raise ValueError("the file holds code, which safe_mode refuses")
    return module.saving.load_model(path, custom_objects=dict(custom_objects), compile=False, safe_mode=safe_mode)


def reason(error: Exception) -> str:
    """What Keras says, on one line: the cause, without the descriptions of layers and models around it."""
    text = re.sub(r"\x1b\[\d+m", "", str(error))  # it sets words in bold type
    inner = re.search(r"^\s+\w*Error: (.*)", text, re.MULTILINE)
    if inner:
        return inner[1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrapped = len(lines) > 1 and lines[0].startswith("Exception encountered")
    return lines[wrapped] if lines else type(error).__name__


def _holds_code(path: Path) -> bool:
    """Whether a model's description holds a Python function, which the older of its formats would run unasked."""
    is_of_files = _is_of_files(path)
    description = _file_in(path, "config.json") if is_of_files else _hdf5_attribute(path, "model_config")
    return '"__lambda__"' in json.dumps(json.loads(description))  # in one spelling


def network_of(model: Any) -> keras.Model:
    """A Keras 2 network that answers as a Keras 3 model from pixels to the dict of responses does, in float32."""
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    layer = Keras3Layer(model, name=f"{model.name}_keras3", dtype=policy_of(model))
    return keras.Model(images, layer(images), name=model.name)


def keras_3_layer(network: keras.Model) -> Optional[Keras3Layer]:
    """The layer that is a Keras 3 model, of what `network_of` made or a copy of it."""
    return next((layer for layer in network.layers if isinstance(layer, Keras3Layer)), None)


class Keras3Layer(keras.layers.Layer):
    """A Keras 3 model as a layer of Keras 2, whose weights are its own; always in inference mode, its outputs float32.

    Given another `dtype` than the model's it is a copy in that precision, of which layers of the user's own, and those
    that scale pixels, stay as they are.

    Args:
      model: functional, from one tensor to a dict.
    """

    def __init__(self, model: Any, **kwargs):
        super().__init__(autocast=False, **kwargs)
        model = _in_policy(model, REDUCED.get(self.compute_dtype, EXACT))
        self.frozen = [variable.value for variable in model.weights]  # which Keras 2 tracks; the model it cannot

        def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {name: tf.cast(tensor, tf.float32) for name, tensor in model(images, training=False).items()}

        self._answer = tf.autograph.experimental.do_not_convert(answer)
        self._model = lambda: model

    @property
    def model(self) -> Any:
        return self._model()

    def call(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(images)

    def get_config(self) -> dict[str, Any]:
        """Enough for a copy in memory, which shares the model; it is no text."""
        return {**super().get_config(), "model": self.model}

    def graph(self) -> Graph:
        """Its layers, for what looks into them."""
        module = import_keras_3()
        images = module.Input(self.model.inputs[0].shape[1:])
        calls, responses = calls_of(self.model, images)
        tensors = {call.name: call.output for call in calls}  # of a layer called twice, its last
        convolutions = [call.name for call in calls if type(call.layer) is module.layers.Conv2D]
        return Graph(module.Model, images, {**tensors, **responses}, list(dict.fromkeys(convolutions)))


class Graph(NamedTuple):
    """The layers of a network.

    Attributes:
      model_class: makes a model of inputs and outputs.
      outputs: of each layer, by its name, in the order of the forward pass; and the responses.
      convolutions: the names of those that are convolutions but depthwise ones.
    """

    model_class: Any
    images: Any
    outputs: dict[str, Any]
    convolutions: list[str]


class Call(NamedTuple):
    """A layer's, or operation's, call in a Keras 3 graph; tensors are symbolic.

    Attributes:
      name: of the layer; OUTER/INNER of a model inside.
    """

    name: str
    layer: Any
    inputs: tuple
    output: Any


def calls_of(
    graph: Any, inputs: Any, opened: Collection[str] = (), prefix: str = ""
) -> tuple[list[Call], dict[str, Any]]:
    """Calls a functional model's layers, themselves, on another input.

    Args:
      graph: of one input, and one output or a dict of them.
      inputs: that other one.
      opened: names of models inside, as `Call` has them, whose layers are called one by one.

    Returns:
      The calls in their order; and the outputs by their names, a single one as `OUTPUT`.
    """
    module = import_keras_3()
    outputs = graph.output if isinstance(graph.output, dict) else {OUTPUT: graph.output}
    ends = {name: module.layers.Identity(dtype=tensor.dtype) for name, tensor in outputs.items()}
    marked = module.Model(graph.inputs[0], [ends[name](tensor) for name, tensor in outputs.items()])
    calls: list[Call] = []
    ended = {}

    def record(layer: Any, *args, **kwargs) -> Any:
        if any(layer is end for end in ends.values()):
            ended[layer.name] = args[0]
            return args[0]
        name = prefix + layer.name
        if name in opened:
            inside, responses = calls_of(functional(layer), args[0], opened, f"{name}/")
            calls.extend(inside)
            output = responses[OUTPUT]
        else:
            output = layer(*args, **kwargs)
        calls.append(Call(name, layer, args, output))
        return output

    module.models.clone_model(marked, inputs, clone_function=lambda layer: layer, call_function=record)
    return calls, {name: ended[end.name] for name, end in ends.items()}


def is_graph(layer: Any) -> bool:
    """Whether it is a functional or Sequential model from one tensor to one."""
    return all(len(getattr(layer, side, None) or ()) == 1 for side in ("inputs", "outputs"))


def functional(model: Any) -> Any:
    """Such a model as a functional one, which is not compiled; the layers are the same."""
    return import_keras_3().Model(model.inputs[0], model.outputs[0], name=scope_name(model.name))


def policy_of(model: Any) -> str:
    """The lowest precision in which a layer of a model computes, as Keras names its policy."""
    types = {layer.compute_dtype for layer in _all_layers(model)}
    return next((policy for dtype, policy in REDUCED.items() if dtype in types), EXACT)


def _all_layers(model: Any) -> list[Any]:
    inside = [_all_layers(layer) if getattr(layer, "layers", None) else [layer] for layer in model.layers]
    return [layer for layers in inside for layer in layers]


def _in_policy(model: Any, policy: str) -> Any:
    """A copy of a functional model that computes in a precision, or the model itself where it does so already."""
    if policy_of(model) == policy:
        return model
    module = import_keras_3()
    scaling = (module.layers.InputLayer, module.layers.Rescaling, module.layers.Normalization)

    def clone(layer: Any) -> Any:
        own = not type(layer).__module__.startswith("keras.")
        if own or isinstance(layer, scaling) or not isinstance(layer, module.layers.Layer):
            return layer
        return type(layer).from_config({**layer.get_config(), "dtype": policy})

    copy = module.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy
