"""A Keras classifier of the user's own as a target."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.stack import keras

PIXELS = (0.0, 255.0)


def user_network(
    model: keras.Model,
    feature_layer: str | None,
    input_range: tuple[float, float] = PIXELS,
    image_size: int | None = None,
) -> keras.Model:
    """Wraps a classifier so that it takes pixels in [0, 255] and gives a dict of responses.

    Args:
      model: functional or Sequential, from images (N, H, W, C) to logits or softmax probabilities (N, classes).
      feature_layer: name of the layer whose output is `features`; None: the responses are `logits` alone.
      input_range: what the model expects black and white to be, such as (-1, 1) or (0, 1).
      image_size: side of its input, needed where the model leaves it open.

    Raises:
      TargetError: the model or the layer does not fit.
    """
    if not getattr(model, "inputs", None):
        raise TargetError(f"{model.name}: expected a built functional or Sequential model, received one without inputs")
    if len(model.outputs) != 1 or len(model.output_shape) != 2:
        raise TargetError(f"{model.name}: expected one output of shape (N, classes), received {model.output_shape}")
    _, height, width, channels = _image_shape(model)
    size = image_size or height
    if size is None:
        raise TargetError(f"{model.name} admits any input size: say which (--image_size)")
    if (height, width) not in ((None, None), (size, size)):
        raise TargetError(
            f"{model.name}: expected square images of side {size}, its input shape is {model.input_shape}"
        )
    responses = {"logits": _logits(model)}
    if feature_layer is not None:
        responses["features"] = _maps(model, feature_layer)
    low, high = input_range
    images = keras.Input((size, size, channels), name="images")
    outputs = keras.Model(model.input, responses)(keras.layers.Rescaling((high - low) / 255.0, offset=low)(images))
    return keras.Model(images, outputs, name=model.name)


def _image_shape(model: keras.Model) -> tuple:
    if len(model.inputs) != 1 or len(model.input_shape) != 4:
        raise TargetError(f"{model.name}: expected one input of shape (N, H, W, C), received {model.input_shape}")
    return model.input_shape


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    try:
        return model.get_layer(name)
    except ValueError:
        names = ", ".join(layer.name for layer in model.layers)
        raise TargetError(f"{model.name} has no layer {name!r}: expected one of {names}") from None


def _maps(model: keras.Model, name: str) -> tf.Tensor:
    layer = _layer(model, name)
    maps = layer.get_output_at(0)  # not .output, which of a model inside a model is in a graph of its own
    if len(maps.shape) != 4:
        raise TargetError(f"{model.name}: expected maps (N, h, w, C) of layer {name!r}, it gives {tuple(maps.shape)}")
    return maps


def _is_softmax(activation) -> bool:
    return activation in (keras.activations.softmax, tf.nn.softmax) or isinstance(activation, keras.layers.Softmax)


def _logits(model: keras.Model) -> tf.Tensor:
    """The output before a final softmax, where there is one."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return last.input
    if isinstance(last, keras.Model):  # a head inside
        return keras.Model(last.input, _logits(last))(last.get_input_at(0))
    if not _is_softmax(getattr(last, "activation", None)):
        return model.output
    if isinstance(last, keras.layers.Activation):
        return last.input
    linear = type(last).from_config({**last.get_config(), "activation": "linear", "name": f"{last.name}_logits"})
    logits = linear(last.input)
    linear.set_weights(last.get_weights())
    return logits
