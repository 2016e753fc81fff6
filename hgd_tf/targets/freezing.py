"""A frozen network made quicker: batch normalization folded away, quick gradients by the input."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import tensorflow as tf

from hgd_tf.stack import keras
from hgd_tf.targets.convolution import InputGradientConv2D, InputGradientDepthwiseConv2D

layers = keras.layers

FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D)
REDUCED = ("bfloat16", "float16")


def frozen_copy(network: keras.Model) -> keras.Model:
    """A copy of a functional model that answers the same in inference mode, up to rounding, with quicker gradients.

    It is for inference: its moving statistics are gone. A convolution whose only successor is a batch normalization
    takes over its scale, mean and shift; the normalization becomes the identity, so that every layer keeps its name.
    What stands elsewhere, as in pre-activation networks, stays.
    """
    return _folded_copy(network, lambda layer: InputGradientConv2D if _admits_quick_gradient(layer) else type(layer))


def inference_copy(network: keras.Model) -> keras.Model:
    """A copy like `frozen_copy`, without gradients of this package's own and in float32, whatever it was trained in.

    What it computes is in TensorFlow's own operations; models inside it, functional or Sequential, are copied likewise.
    """
    return _folded_copy(network, _inference_kind, in_float32=True)


class ForwardConv2D(keras.layers.Conv2D):
    """Keras' `Conv2D` computed in groups without XLA."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = self.convolution_op(inputs, self.kernel)
        # Keeps what follows apart: fused with a bias, the CPU's kernel has no groups.
        outputs = tf.ensure_shape(outputs, outputs.shape)
        return self.activation(tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs)


def _inference_kind(layer: keras.layers.Layer) -> type:
    if type(layer) in (layers.Conv2D, InputGradientConv2D):
        return ForwardConv2D if layer.groups > 1 else layers.Conv2D
    return layers.DepthwiseConv2D if type(layer) is InputGradientDepthwiseConv2D else type(layer)


def _folded_copy(
    network: keras.Model, kind_of: Callable[[keras.layers.Layer], Any], in_float32: bool = False
) -> keras.Model:
    """A copy without the normalizations that convolutions can take over.

    Args:
      network: functional or Sequential.
      kind_of: the class of a layer's copy.
      in_float32: whether layers of less precision are to compute in it.
    """
    folds = _folds(network)
    normalizations = {norm.name for norm in folds.values()}

    def clone(layer):
        if isinstance(layer, keras.Model):
            return _folded_copy(layer, kind_of, in_float32)
        config = layer.get_config()
        if in_float32 and layer.compute_dtype in REDUCED:
            config["dtype"] = "float32"
        if layer.name in normalizations:
            return layers.Activation("linear", name=layer.name, dtype=config["dtype"])
        return kind_of(layer).from_config({**config, "use_bias": True} if layer.name in folds else config)

    folded = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in folds:
            folded.get_layer(layer.name).set_weights(_folded_weights(layer, folds[layer.name]))
        elif layer.name not in normalizations and not isinstance(layer, keras.Model):
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    return folded


def _admits_quick_gradient(layer: keras.layers.Layer) -> bool:
    if type(layer) is not layers.Conv2D or layer.activation is not keras.activations.linear:
        return False
    fits = layer.padding == "valid" or all(size % 2 == 1 for size in layer.kernel_size)
    return fits and layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1


def _admits_quick_depthwise_gradient(layer: keras.layers.Layer) -> bool:
    if type(layer) is not layers.DepthwiseConv2D or layer.activation is not keras.activations.linear:
        return False
    return layer.depth_multiplier == 1 and layer.dilation_rate == (1, 1)


def _folds(network: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """The name of each convolution that can take over a batch normalization, and which."""
    consumers: dict[int, list[keras.layers.Layer]] = {}
    for layer in network.layers:
        for node in layer.inbound_nodes:
            for tensor in tf.nest.flatten(node.input_tensors):
                consumers.setdefault(id(tensor), []).append(layer)
    responses = {id(tensor) for tensor in tf.nest.flatten(network.output)}
    folds = {}
    for layer in network.layers:
        if isinstance(layer, FOLDABLE) and layer.activation is keras.activations.linear and _is_called_once(layer):
            following = consumers.get(id(layer.output), [])
            alone = len(following) == 1 and id(layer.output) not in responses
            if alone and isinstance(following[0], layers.BatchNormalization) and _is_called_once(following[0]):
                folds[layer.name] = following[0]
    return folds


def _is_called_once(layer: keras.layers.Layer) -> bool:
    return len(layer.inbound_nodes) == 1


def _folded_weights(convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    kernel, *bias = convolution.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0.0) + ((bias[0] if bias else 0.0) - mean) * scale
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    return [kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale), shift]


def bfloat16_copy(network: keras.Model) -> keras.Model:
    """A copy of a functional model that computes in bfloat16; its variables and outputs stay float32.

    For training under a frozen network's guidance where the hardware has bfloat16; not for results.
    """

    def clone(layer):
        kind, config = type(layer), layer.get_config()
        if _admits_quick_depthwise_gradient(layer):
            kind = InputGradientDepthwiseConv2D
        if kind not in (layers.InputLayer, layers.Rescaling):  # pixels above 128 would be rounded to whole ones
            config["dtype"] = "mixed_bfloat16"
        return kind.from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    outputs = {name: tf.cast(output, tf.float32) for name, output in copy.output.items()}
    return keras.Model(copy.input, outputs, name=network.name)
