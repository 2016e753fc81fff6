"""A frozen network made quicker: batch normalization folded away, quick gradients by the input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from hgd_tf.architectures.convolution import InputGradientConv2D, InputGradientDepthwiseConv2D
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras

layers = keras.layers

REDUCED = ("bfloat16", "float16")

Remade = tuple[type[keras.layers.Layer], dict[str, Any]]  # a copy's class and configuration
Remake = Callable[[keras.layers.Layer, dict[str, Any]], Remade]


def frozen_copy(network: keras.Model) -> keras.Model:
    """A copy of a functional model that answers the same in inference mode, up to rounding, with quicker gradients.

    It is for inference: its moving statistics are gone. A convolution whose only successor is a batch normalization
    takes over its scale, mean and shift; the normalization becomes the identity, so that every layer keeps its name.
    What stands elsewhere, as in pre-activation networks, stays, and so does what is not known to fold exactly.

    Raises:
      TargetError: a layer cannot be made anew from its configuration and weights.
    """
    return _copied(network, _with_quick_gradient, folding=True)


def inference_copy(network: keras.Model) -> keras.Model:
    """A copy like `frozen_copy`, without gradients of this package's own and in float32, whatever it was trained in.

    What it computes is in TensorFlow's own operations; models inside it, functional or Sequential, are copied likewise.
    """
    return _copied(network, _plain, folding=True)


def float32_copy(network: keras.Model) -> keras.Model:
    """A copy layer by layer that computes in float32, whatever it was trained in."""
    return _copied(network, _in_float32)


def bfloat16_copy(network: keras.Model) -> keras.Model:
    """A copy of a functional model that computes in bfloat16; its variables and outputs stay float32.

    For training under a frozen network's guidance where the hardware has bfloat16; not for results.
    """
    copy = _copied(network, _in_bfloat16)
    outputs = {name: tf.cast(output, tf.float32) for name, output in copy.output.items()}
    return keras.Model(copy.input, outputs, name=network.name)


def computes_in_less_than_float32(network: keras.Model) -> bool:
    """Whether a layer, or one inside it, computes in bfloat16 or float16."""
    return any(getattr(module, "compute_dtype", None) in REDUCED for module in network.submodules)


class ForwardConv2D(keras.layers.Conv2D):
    """Keras' `Conv2D` computed in groups without XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = self.convolution_op(inputs, self.kernel)
        # Keeps what follows apart: fused with a bias, the CPU's kernel has no groups.
        outputs = tf.ensure_shape(outputs, outputs.shape)
        return self.activation(tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs)


# --- copies ---


def _copied(network: keras.Model, remake: Remake, folding: bool = False) -> keras.Model:
    """A copy of a functional or Sequential model and of the models inside it, with the same names and weights."""
    folds = _folds(network) if folding else {}
    absorbed = {norm.name for norm in folds.values()}

    def clone(layer):
        if _is_graph(layer):
            # Called with `training=True` somewhere, its normalizations use the batch's statistics.
            return _copied(layer, remake, folding and all(map(_is_plain, layer.inbound_nodes)))
        with _named(network, layer):
            kind, config = remake(layer, layer.get_config())
            if layer.name in absorbed:
                # Not left out: a model's own layers, such as a `feature_layer`, are found by name and must be there.
                return layers.Activation("linear", name=layer.name, dtype=config["dtype"])
            return kind.from_config({**config, "use_bias": True} if layer.name in folds else config)

    # A copy, not the network changed: it is the user's own, who may train it on.
    copy = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in absorbed or _is_graph(layer):
            continue
        with _named(network, layer):
            remade = copy.get_layer(layer.name)
            remade.trainable = layer.trainable  # also of layers inside it: the order of its weights depends on it
            remade.set_weights(
                _folded_weights(layer, folds[layer.name]) if layer.name in folds else layer.get_weights()
            )
    return copy


@contextlib.contextmanager
def _named(network: keras.Model, layer: keras.layers.Layer) -> Iterator[None]:
    """Says of which layer an error is."""
    try:
        yield
    except Exception as error:
        raise TargetError(
            f"{network.name}: layer {layer.name!r} ({type(layer).__name__}) cannot be made anew from get_config() and "
            f"get_weights(): {error}"
        ) from error


def _is_graph(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _with_quick_gradient(layer: keras.layers.Layer, config: dict[str, Any]) -> Remade:
    return InputGradientConv2D if _admits_quick_gradient(layer) else type(layer), config


def _plain(layer: keras.layers.Layer, config: dict[str, Any]) -> Remade:
    kind, config = _in_float32(layer, config)
    if kind in (layers.Conv2D, InputGradientConv2D):
        return (ForwardConv2D if layer.groups > 1 else layers.Conv2D), config
    return (layers.DepthwiseConv2D if kind is InputGradientDepthwiseConv2D else kind), config


def _in_float32(layer: keras.layers.Layer, config: dict[str, Any]) -> Remade:
    return type(layer), {**config, "dtype": "float32"} if layer.compute_dtype in REDUCED else config


def _in_bfloat16(layer: keras.layers.Layer, config: dict[str, Any]) -> Remade:
    kind = InputGradientDepthwiseConv2D if _admits_quick_depthwise_gradient(layer) else type(layer)
    if kind in (layers.InputLayer, layers.Rescaling):  # pixels above 128 would be rounded to whole ones
        return kind, config
    return kind, {**config, "dtype": "mixed_bfloat16"}


def _admits_quick_gradient(layer: keras.layers.Layer) -> bool:
    if type(layer) is not layers.Conv2D or not _is_linear(layer) or layer.data_format != "channels_last":
        return False
    # The gradient is a convolution of the same padding: of an even kernel, `same` pads the sides unequally.
    fits = layer.padding == "valid" or all(size % 2 == 1 for size in layer.kernel_size)
    return fits and layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1


def _admits_quick_depthwise_gradient(layer: keras.layers.Layer) -> bool:
    if type(layer) is not layers.DepthwiseConv2D or not _is_linear(layer) or layer.data_format != "channels_last":
        return False
    return layer.depth_multiplier == 1 and layer.dilation_rate == (1, 1)


def _is_linear(layer: keras.layers.Layer) -> bool:
    return layer.activation is keras.activations.linear


# --- folding ---

# By exact class: what a subclass, the user's own or Keras' Conv2DTranspose, makes of its kernel is not known.
CONVOLUTIONS = (layers.Conv2D, InputGradientConv2D, ForwardConv2D)
DEPTHWISE = (layers.DepthwiseConv2D, InputGradientDepthwiseConv2D)
NORMALIZATIONS = (layers.BatchNormalization, layers.experimental.SyncBatchNormalization)


def _folds(network: keras.Model) -> dict[str, keras.layers.Layer]:
    """The name of each convolution that can take over a batch normalization, and which."""
    consumers: dict[int, list[keras.layers.Layer]] = {}  # by identity: symbolic tensors have no equality
    for layer in network.layers:
        for node in layer.inbound_nodes:
            for tensor in node.keras_inputs:
                consumers.setdefault(id(tensor), []).append(layer)
    # What the network gives must stay the convolution's own.
    responses = {id(tensor) for tensor in tf.nest.flatten(network.output)}
    folds = {}
    for layer in network.layers:
        if type(layer) in CONVOLUTIONS + DEPTHWISE and _is_linear(layer) and len(layer.inbound_nodes) == 1:
            following = consumers.get(id(layer.output), [])
            alone = len(following) == 1 and id(layer.output) not in responses
            if alone and _normalizes_filters(following[0], layer):
                folds[layer.name] = following[0]
    return folds


def _normalizes_filters(layer: keras.layers.Layer, convolution: keras.layers.Layer) -> bool:
    """Whether it is a batch normalization by moving statistics, one of each of the convolution's filters."""
    if type(layer) not in NORMALIZATIONS or len(layer.inbound_nodes) != 1 or not _is_plain(layer.inbound_nodes[0]):
        return False
    rank = len(convolution.output.shape)
    filters = rank - 1 if convolution.data_format == "channels_last" else 1
    return [axis % rank for axis in tf.nest.flatten(layer.axis)] == [filters]


def _is_plain(node: Any) -> bool:
    """Whether a layer is called without more than a first argument, such as `training=True`."""
    return len(node.call_args) <= 1 and all(value is None or value is False for value in node.call_kwargs.values())


def _folded_weights(convolution: keras.layers.Layer, norm: keras.layers.Layer) -> list[np.ndarray]:
    kernel, *bias = convolution.get_weights()
    # float64, so that rounding to float32 comes once, at the end.
    mean, variance = (moment.numpy().astype(np.float64) for moment in (norm.moving_mean, norm.moving_variance))
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0.0) + ((bias[0] if bias else 0.0) - mean) * scale
    return [kernel * (scale.reshape(kernel.shape[2:]) if type(convolution) in DEPTHWISE else scale), shift]
