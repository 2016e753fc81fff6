"""A frozen network made quicker: batch normalization folded away, quick gradients by the input."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.targets.convolution import InputGradientConv2D, InputGradientDepthwiseConv2D

layers = tf.keras.layers

FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D)


def frozen_copy(network: tf.keras.Model) -> tf.keras.Model:
    """A copy of a functional model that answers the same in inference mode, up to rounding, with quicker gradients.

    It is for inference: its moving statistics are gone. A convolution whose only successor is a batch normalization
    takes over its scale, mean and shift; the normalization becomes the identity, so that every layer keeps its name.
    What stands elsewhere, as in pre-activation networks, stays.
    """
    folds = _folds(network)
    normalizations = {norm.name for norm in folds.values()}

    def clone(layer):
        if layer.name in normalizations:
            return layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        kind = InputGradientConv2D if _admits_quick_gradient(layer) else type(layer)
        return kind.from_config({**config, "use_bias": True} if layer.name in folds else config)

    folded = tf.keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in folds:
            folded.get_layer(layer.name).set_weights(_folded_weights(layer, folds[layer.name]))
        elif layer.name not in normalizations:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    return folded


def _admits_quick_gradient(layer: tf.keras.layers.Layer) -> bool:
    if type(layer) is not layers.Conv2D or layer.activation is not tf.keras.activations.linear:
        return False
    fits = layer.padding == "valid" or all(size % 2 == 1 for size in layer.kernel_size)
    return fits and layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1


def _admits_quick_depthwise_gradient(layer: tf.keras.layers.Layer) -> bool:
    if type(layer) is not layers.DepthwiseConv2D or layer.activation is not tf.keras.activations.linear:
        return False
    return layer.depth_multiplier == 1 and layer.dilation_rate == (1, 1)


def _folds(network: tf.keras.Model) -> dict[str, tf.keras.layers.BatchNormalization]:
    """The name of each convolution that can take over a batch normalization, and which."""
    consumers: dict[int, list[tf.keras.layers.Layer]] = {}
    for layer in network.layers:
        for tensor in tf.nest.flatten(layer.input):
            consumers.setdefault(id(tensor), []).append(layer)
    responses = {id(tensor) for tensor in tf.nest.flatten(network.output)}
    folds = {}
    for layer in network.layers:
        if isinstance(layer, FOLDABLE) and layer.activation is tf.keras.activations.linear:
            following = consumers.get(id(layer.output), [])
            alone = len(following) == 1 and id(layer.output) not in responses
            if alone and isinstance(following[0], layers.BatchNormalization):
                folds[layer.name] = following[0]
    return folds


def _folded_weights(convolution: tf.keras.layers.Layer, norm: tf.keras.layers.BatchNormalization) -> list[np.ndarray]:
    kernel, *bias = convolution.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = (norm.beta.numpy() if norm.center else 0.0) + ((bias[0] if bias else 0.0) - mean) * scale
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    return [kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale), shift]


def bfloat16_copy(network: tf.keras.Model) -> tf.keras.Model:
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

    copy = tf.keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    outputs = {name: tf.cast(output, tf.float32) for name, output in copy.output.items()}
    return tf.keras.Model(copy.input, outputs, name=network.name)
