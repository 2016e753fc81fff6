"""What a Keras 3 classifier of the user's own gives, as responses to pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import answers, keras3
from hgd_tf.targets.graph import scope_name
from hgd_tf.targets.steadiness import same, unsteady_error
from hgd_tf.targets.user import PIXELS, check_gradient, class_output, image_shape, layer_named

FORMATS = {"mixed_float16": answers.FORMATS[tf.float16], "mixed_bfloat16": answers.FORMATS[tf.bfloat16]}
MOST_CALLS = 16  # behind the logits: softmax, reshapes, casts


def keras_3_network(
    model: Any,
    feature_layer: Optional[str] = None,
    input_range: tuple[float, float] = PIXELS,
    image_size: Optional[int] = None,
    outputs: str = "auto",
    name: Optional[str] = None,
) -> keras.Model:
    """A Keras 2 network from pixels in [0, 255] to a dict of responses; arguments as `user_network`.

    A model without a graph of layers (a subclass) may be one, once it was called on images: its only layer is itself.

    Raises:
      TargetError: the model or the layer does not fit, or it answers differently each time.
    """
    name = name or model.name
    module = keras3.keras_3(name)
    graph = _graph(module, model, name)
    size, channels, channels_first = image_shape(graph, image_size, name)
    features = None if feature_layer is None else layer_named(feature_layer, list(_names(module, graph)), name)
    probes = answers.probe_images(size, channels)
    try:
        traced = _traced(module, graph, (size, size, channels), input_range, channels_first, features)._replace(
            name=name
        )
        responses = {"logits": _logits(module, traced, outputs, probes)}
        if features is not None:
            responses["features"] = _maps(module, traced, features)
        network = keras3.network_of(module.Model(traced.images, responses, name=scope_name(name)))
        _check_steady(module, network, traced, probes)
        check_gradient(network, probes[:1], name)
    except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
        shape = f"(N, {size}, {size}, {channels})"
        raise TargetError(f"{name} cannot be computed on images {shape}: {keras3.reason(error)}") from error
    return network


class _Traced(NamedTuple):
    """A model from pixels on.

    Attributes:
      images: symbolic pixels in [0, 255].
      precision: of the coarsest number format in which it computes.
    """

    name: str
    images: Any
    calls: list[keras3.Call]
    output: Any
    precision: answers.Precision


def _graph(module: ModuleType, model: Any, name: str) -> Any:
    """The model as a functional one that is not compiled and shares its layers."""
    if not getattr(model, "inputs", None):
        images = module.Input(built_shape(model, name)[1:])
        model = module.Model(images, model(images))
    if isinstance(model, module.Sequential):
        model = keras3.functional(model)
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return module.Model(inputs, class_output(model, name), name=scope_name(name))


def built_shape(model: Any, name: str) -> tuple:
    """The shape of the images with which a model without a graph was called first."""
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise TargetError(f"{name}: expected a model that was built on images (N, H, W, C): call it once on some")
    return tuple(shape)


def _names(module: ModuleType, graph: Any, prefix: str = "") -> Iterator[str]:
    for layer in graph.layers:
        if not isinstance(layer, module.layers.InputLayer):
            yield prefix + layer.name
        if keras3.is_graph(layer):
            yield from _names(module, layer, f"{prefix}{layer.name}/")


def _traced(
    module: ModuleType,
    graph: Any,
    shape: tuple[int, int, int],
    input_range: tuple[float, float],
    channels_first: bool,
    features: Optional[str],
) -> _Traced:
    """The model on pixels; the models inside it are opened where a response lies in one."""
    images = module.Input(shape, name="images")
    low, high = input_range
    scaled = module.layers.Rescaling((high - low) / 255.0, offset=low, name="pixels", dtype=keras3.EXACT)(images)
    if channels_first:
        scaled = module.layers.Permute((3, 1, 2))(scaled)
    opened = {features[:end] for end, sign in enumerate(features or "") if features and sign == "/"}
    while True:
        calls, outputs = keras3.calls_of(graph, scaled, opened)
        tail = _tail(calls, outputs[keras3.OUTPUT])
        closed = [call for call in tail if keras3.is_graph(call.layer) and call.name not in opened]
        if not closed:
            precision = answers.Precision(*FORMATS.get(keras3.policy_of(graph), answers.FLOAT32))
            return _Traced(graph.name, images, calls, outputs[keras3.OUTPUT], precision)
        opened.add(closed[0].name)


def _tail(calls: Sequence[keras3.Call], output: Any) -> list[keras3.Call]:
    """The calls that end in an output, last first, as long as one tensor of as many values follows from another."""
    tail: list[keras3.Call] = []
    while len(tail) < MOST_CALLS:
        call = next((call for call in calls if call.output is output), None)
        if call is None:
            break
        tail.append(call)
        output = call.inputs[0]
        if not hasattr(output, "shape") or math.prod(output.shape[1:]) != math.prod(call.output.shape[1:]):
            break
    return tail


def _logits(module: ModuleType, traced: _Traced, outputs: str, probes: np.ndarray) -> Any:
    candidates = [each for call in _tail(traced.calls, traced.output) for each in _before_activation(module, call)]
    given, *values = _values(module, traced, [traced.output, *candidates], probes)

    def behind(squash: answers.Squash) -> Any:
        fitting = (c for c, its in zip(candidates, values) if answers.agree(squash, its, given, traced.precision))
        return next(fitting, None)

    are_probabilities, logits = answers.tell(traced.name, given, traced.precision, outputs, behind)
    if logits is None and are_probabilities:
        return module.ops.log(module.ops.maximum(module.ops.cast(traced.output, keras3.EXACT), answers.FLOOR))
    if logits is None or len(logits.shape) == 2:
        return traced.output if logits is None else logits
    return module.layers.Reshape((given.shape[-1],), name="hgd_classes")(logits)


def _before_activation(module: ModuleType, call: keras3.Call) -> list[Any]:
    """What a layer would give without its activation; and what it takes, where that has as many values."""
    found = []
    layer, taken = call.layer, call.inputs[0]
    if getattr(layer, "activation", None) is not None and not isinstance(layer, module.layers.Activation):
        linear = type(layer).from_config({**layer.get_config(), "activation": None, "name": f"{layer.name}_logits"})
        found.append(linear(*call.inputs))
        linear.set_weights(layer.get_weights())
    if hasattr(taken, "shape") and math.prod(taken.shape[1:]) == math.prod(call.output.shape[1:]):
        found.append(taken)
    return found


def _values(module: ModuleType, traced: _Traced, tensors: list[Any], probes: np.ndarray) -> list[np.ndarray]:
    """(N, values) float32 each."""
    outputs = module.Model(traced.images, tensors)(probes, training=False)
    return [tf.cast(tf.reshape(t, (len(probes), -1)), tf.float32).numpy() for t in tf.nest.flatten(outputs)]


def _maps(module: ModuleType, traced: _Traced, name: str) -> Any:
    call = [call for call in traced.calls if call.name == name][-1]
    if len(call.output.shape) != 4:
        shape = tuple(call.output.shape)
        raise TargetError(f"{traced.name}: expected maps (N, h, w, C) of layer {name!r}, it gives {shape}")
    if getattr(call.layer, "data_format", None) == "channels_first":
        return module.layers.Permute((2, 3, 1), name="hgd_maps")(call.output)
    return call.output


def _check_steady(module: ModuleType, network: keras.Model, traced: _Traced, probes: np.ndarray) -> None:
    """As `steadiness.check_steady`."""
    tolerance = math.sqrt(traced.precision.spacing)
    whole, half = (network(images, training=False) for images in (probes, probes[::-2]))
    if all(same(whole[key][::-2], half[key], tolerance) for key in whole):
        return
    once, again = (_values(module, traced, [call.output for call in traced.calls], probes) for _ in range(2))
    unsteady = [call for call, one, other in zip(traced.calls, once, again) if not same(one, other, tolerance)]
    raise unsteady_error(
        traced.name, f"{unsteady[0].name!r} ({type(unsteady[0].layer).__name__})" if unsteady else None
    )
