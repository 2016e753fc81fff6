"""A Keras 3 classifier of the user's own as a target: a function of tensors inside a Keras 2 network.

What is made of it is a Keras 3 model too, from pixels in [0, 255] to the dict of responses. It shares the layers of the
user's model, which stays as it is, and is what a defence's folder holds.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Optional, Union

import h5py
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.stack import KERAS_3_STACK, has_keras_3, import_keras_3, keras, keras_package_version

WITH_TENSORFLOW = "expected KERAS_BACKEND=tensorflow, with which a .keras file of any backend loads"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile)
REDUCED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
EXACT = "float32"
OUTPUT = "output"
MOST_DIFFERENCE = 1e-3  # of probabilities from the softmax of what is taken for their logits, in half precision too


def keras_version(path: Union[str, Path]) -> str:
    """The version of Keras that wrote a model: a `.keras` file, the same unpacked, or HDF5; empty where none is said."""
    path = Path(path)
    try:
        if path.is_dir():
            return json.loads((path / "metadata.json").read_text(encoding="utf-8"))["keras_version"]
        if zipfile.is_zipfile(path):
            return json.loads(_zipped(path, "metadata.json"))["keras_version"]
        return _hdf5_attribute(path, "keras_version")
    except UNREADABLE:
        return ""


def _zipped(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


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
            f"{what} is a model of Keras 3, this Python's Keras is {keras_package_version()}: expected {KERAS_3_STACK}; "
            "or the same model built in Keras 2 with its weights, as a .keras or SavedModel path"
        )
    try:
        module = import_keras_3()
        backend = module.backend.backend()
    except ImportError as error:
        raise TargetError(f"{what} needs Keras 3, whose import fails ({error}): {WITH_TENSORFLOW}") from error
    if backend != "tensorflow":
        raise TargetError(f"{what} needs Keras 3 on TensorFlow, this process's computes with {backend}: {WITH_TENSORFLOW}")
    return module


def load_keras_3(path: Union[str, Path], custom_objects: Optional[Mapping[str, Any]] = None) -> Any:
    """The Keras 3 model in a file; no code in it is run.

    Raises:
      TargetError: it cannot be loaded.
    """
    module = keras_3(str(path))
    path = Path(path)
    try:
        if _holds_code(path):
            raise TargetError(
                f"{path} holds code of its own, in a Lambda layer, which is not run: expected a layer class, with "
                "custom_objects; or load the model yourself with safe_mode=False, and pass it on"
            )
        return module.saving.load_model(path, custom_objects=custom_objects, compile=False, safe_mode=True)
    except UNREADABLE as error:
        raise TargetError(f"{path} is no model that Keras {module.__version__} can load: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What Keras says, without the descriptions of whole models around it."""
    missing = re.search(r"(?:Could not locate (?:class|function)|Unknown \w+:) '?(\w+)", str(error))
    if missing:
        return f"it has {missing[1]} of its own, expected among custom_objects (--custom_objects=MODULE)"
    return str(error).rpartition("Exception encountered: ")[2].partition("Full object config")[0].strip()


def _holds_code(path: Path) -> bool:
    """Whether a model's description holds a Python function, which the older of its formats would run unasked."""
    if path.is_dir():
        description = (path / "config.json").read_text(encoding="utf-8")
    elif zipfile.is_zipfile(path):
        description = _zipped(path, "config.json").decode()
    else:
        description = _hdf5_attribute(path, "model_config")
    return '"__lambda__"' in json.dumps(json.loads(description))  # in one spelling


def keras_3_network(
    model: Any,
    feature_layer: Optional[str] = None,
    input_range: tuple[float, float] = (0.0, 255.0),
    image_size: Optional[int] = None,
) -> keras.Model:
    """A Keras 2 network from pixels in [0, 255] to a dict of responses; arguments as `user_network`.

    A model without a graph of layers (a subclass) may be one; it has no feature layer.

    Raises:
      TargetError: the model or the layer does not fit.
    """
    module = keras_3(model.name)
    graph = _graph(module, model)
    low, high = input_range
    images = module.Input(_image_shape(graph, image_size), name="images")
    scaled = module.layers.Rescaling((high - low) / 255.0, offset=low, name="pixels", dtype=EXACT)(images)
    calls, outputs = _calls(module, graph, scaled)
    responses = {"logits": _logits(module, calls, outputs[OUTPUT])}
    if feature_layer is not None:
        responses["features"] = _maps(model.name, calls, feature_layer)
    return network_of(module.Model(images, responses, name=model.name))


def network_of(model: Any) -> keras.Model:
    """A Keras 2 network that answers as a Keras 3 model from pixels to the dict of responses does, in float32."""
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    layer = Keras3Layer(model, name=f"{model.name}_keras3", dtype=_policy_of(model))
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
        """The Keras 3 model."""
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
        calls, responses = _calls(module, self.model, images)
        tensors = {call.layer.name: call.output for call in reversed(calls)}  # of a layer called twice, its first
        tensors = {call.layer.name: tensors[call.layer.name] for call in calls}
        convolutions = [call.layer.name for call in calls if type(call.layer) is module.layers.Conv2D]
        return Graph(module.Model, images, {**tensors, **responses}, list(dict.fromkeys(convolutions)))


class Graph(NamedTuple):
    """The layers of a network.

    Attributes:
      model_class: makes a model of inputs and outputs.
      images: the input.
      outputs: of each layer, by its name, in the order of the forward pass; and the responses.
      convolutions: the names of those that are convolutions but depthwise ones.
    """

    model_class: Any
    images: Any
    outputs: dict[str, Any]
    convolutions: list[str]


class _Call(NamedTuple):
    """A layer's, or operation's, call in a Keras 3 graph: tensors are symbolic."""

    layer: Any
    inputs: tuple
    output: Any


def _graph(module: ModuleType, model: Any) -> Any:
    """The model as a functional one that is not compiled and shares its layers."""
    if getattr(model, "inputs", None):
        if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
            shapes = [tensor.shape for tensor in model.inputs]
            raise TargetError(f"{model.name}: expected one input of shape (N, H, W, C), received {shapes}")
        inputs, outputs = model.inputs[0], model.outputs
    else:
        inputs = module.Input(_built_shape(model)[1:])
        outputs = module.tree.flatten(model(inputs))
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = [tensor.shape for tensor in outputs]
        raise TargetError(f"{model.name}: expected one output of shape (N, classes), received {shapes}")
    return module.Model(inputs, outputs[0], name=model.name)


def _built_shape(model: Any) -> tuple:
    """The shape of the images with which a model without a graph was called first."""
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise TargetError(f"{model.name}: expected a model that was built on images (N, H, W, C): call it once on some")
    return tuple(shape)


def _image_shape(graph: Any, image_size: Optional[int]) -> tuple[int, int, int]:
    _, height, width, channels = graph.inputs[0].shape
    size = image_size or height
    if size is None:
        raise TargetError(f"{graph.name} admits any input size: say which (--image_size)")
    if (height, width) not in ((None, None), (size, size)):
        raise TargetError(
            f"{graph.name}: expected square images of side {size}, its input shape is {graph.inputs[0].shape}"
        )
    return size, size, channels


def _calls(module: ModuleType, graph: Any, inputs: Any) -> tuple[list[_Call], dict[str, Any]]:
    """Calls a functional model's layers, themselves, on another input: the calls in their order, and the outputs."""
    outputs = graph.output if isinstance(graph.output, dict) else {OUTPUT: graph.output}
    ends = {name: module.layers.Identity(dtype=tensor.dtype) for name, tensor in outputs.items()}
    marked = module.Model(graph.inputs[0], [ends[name](tensor) for name, tensor in outputs.items()])
    calls: list[_Call] = []
    ended = {}

    def record(layer: Any, *args, **kwargs) -> Any:
        if any(layer is end for end in ends.values()):
            ended[layer.name] = args[0]
            return args[0]
        output = layer(*args, **kwargs)
        calls.append(_Call(layer, args, output))
        return output

    module.models.clone_model(marked, inputs, clone_function=lambda layer: layer, call_function=record)
    return calls, {name: ended[end.name] for name, end in ends.items()}


def _maps(name: str, calls: list[_Call], feature_layer: str) -> Any:
    maps = next((call.output for call in calls if call.layer.name == feature_layer), None)
    if maps is None:
        names = ", ".join(dict.fromkeys(call.layer.name for call in calls))
        raise TargetError(f"{name} has no layer {feature_layer!r}: expected one of {names}")
    if len(maps.shape) != 4:
        raise TargetError(f"{name}: expected maps (N, h, w, C) of layer {feature_layer!r}, it gives {maps.shape}")
    return maps


def _logits(module: ModuleType, calls: list[_Call], output: Any) -> Any:
    """The tensor before a final softmax, where there is one, else the output."""
    before = _before_softmax(module, calls, output)
    return output if before is None else before


def _before_softmax(module: ModuleType, calls: list[_Call], output: Any) -> Any:
    last = next((call for call in calls if call.output is output), None)
    if last is None:
        return None
    layer, inputs = last.layer, last.inputs[0]
    if _passes_on(module, layer):
        before = _before_softmax(module, calls, inputs)
        return None if before is None else layer(before)
    if len(getattr(layer, "inputs", None) or ()) == len(getattr(layer, "outputs", None) or ()) == 1:  # a head inside
        inner_calls, outputs = _calls(module, module.Model(layer.inputs[0], layer.outputs[0]), inputs)
        return _before_softmax(module, inner_calls, outputs[OUTPUT])
    if _is_softmax(module, layer):
        return inputs
    if not _is_softmax(module, getattr(layer, "activation", None)):
        return None
    if isinstance(layer, module.layers.Activation):
        return inputs
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear", "name": f"{layer.name}_logits"})
    logits = linear(inputs)
    linear.set_weights(layer.get_weights())
    return logits


def _is_softmax(module: ModuleType, function: Any) -> bool:
    """Whether a layer, operation or activation is the softmax over classes."""
    if type(function).__name__ == "Softmax":  # the layer; and what keras.ops.softmax puts into a graph, of no public class
        return function.axis in (-1, 1)
    return function in (module.activations.softmax, module.ops.softmax, tf.nn.softmax)


def _passes_on(module: ModuleType, layer: Any) -> bool:
    """Whether a layer gives its input's values, in another shape at most."""
    kinds = (module.layers.Identity, module.layers.Dropout, module.layers.Flatten, module.layers.Reshape)
    linear = isinstance(layer, module.layers.Activation) and layer.activation is module.activations.linear
    return linear or isinstance(layer, kinds)


def _policy_of(model: Any) -> str:
    """The lowest precision in which a layer of a model computes, as Keras names its policy."""
    types = {layer.compute_dtype for layer in _all_layers(model)}
    return next((policy for dtype, policy in REDUCED.items() if dtype in types), EXACT)


def _all_layers(model: Any) -> list[Any]:
    """The layers of a model and of those inside it."""
    inside = [_all_layers(layer) if getattr(layer, "layers", None) else [layer] for layer in model.layers]
    return [layer for layers in inside for layer in layers]


def _in_policy(model: Any, policy: str) -> Any:
    """A copy of a functional model that computes in a precision, or the model itself where it does so already."""
    if _policy_of(model) == policy:
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
