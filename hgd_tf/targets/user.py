"""A Keras classifier of the user's own as a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import tensorflow as tf

from hgd_tf.errors import TargetError, first_line
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.answers import OUTPUTS, Answers, LogProbabilities, find_answers, probe_images
from hgd_tf.targets.graph import Place, exposing, is_graph, places, producer, scope_name
from hgd_tf.targets.steadiness import check_steady

PIXELS = (0.0, 255.0)
CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


def user_network(
    model: keras.Model,
    feature_layer: Optional[str],
    input_range: tuple[float, float] = PIXELS,
    image_size: Optional[int] = None,
    outputs: str = "auto",
    name: Optional[str] = None,
) -> keras.Model:
    """Wraps a classifier so that it takes pixels in [0, 255] and gives a dict of float32 responses.

    The layers are the model's own; where they belong to other graphs as well, or are used twice, it is by this model.

    Args:
      model: functional or Sequential, from images (N, H, W, C) or (N, C, H, W) to logits or probabilities (N, classes).
      feature_layer: the layer whose output is `features`, by its name, or OUTER/INNER of a model inside; None: the
        responses are `logits` alone. Of a layer used twice, the last output.
      input_range: what the model expects black and white to be, such as (-1, 1) or (0, 1).
      image_size: side of its input, needed where the model leaves it open.
      outputs: what it gives, `logits` or `probabilities`; `auto`: they are probabilities where they lie in [0, 1] and
        sum to one, for images of all kinds. Logits of probabilities are what their softmax takes; where there is no
        such tensor, log(max(p, 1e-30)).

      name: of the model, for messages; None: its own.

    Raises:
      TargetError: the model or the layer does not fit, or it answers differently each time.
    """
    name = name or model.name
    if outputs not in OUTPUTS:
        raise TargetError(f"outputs: expected one of {', '.join(OUTPUTS)}, received {outputs!r}")
    if not is_graph(model):
        raise TargetError(f"{name}: expected a built functional or Sequential model, received one without inputs")
    output = class_output(model, name)
    size, channels, channels_first = image_shape(model, image_size, name)
    features = [] if feature_layer is None else [_maps(model, feature_layer, name)]
    model, output, features = _on_float_images(model, output, features)
    model.trainable = False
    images = keras.Input((size, size, channels), name="images")
    low, high = input_range
    scaled = keras.layers.Rescaling((high - low) / 255.0, offset=low)(images)
    scaled = keras.layers.Permute((3, 1, 2))(scaled) if channels_first else scaled
    probes = probe_images(size, channels)
    try:
        scaled_probes = keras.Model(images, scaled)(probes)
        answers = find_answers(model, output, outputs, scaled_probes, name)
        responses = _responses(model, answers, features)
        network = keras.Model(images, responses(scaled), name=scope_name(name))
        check_steady(network, probes, model, scaled_probes, name)
        check_gradient(network, probes[:1], name)
    except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
        shape = f"(N, {size}, {size}, {channels})"
        raise TargetError(f"{name} cannot be computed on images {shape}: {first_line(error)}") from error
    return network


def class_output(model: Any, name: str) -> Any:
    """The one symbolic output (N, classes) of a model of Keras 2 or 3, or of several the one called `logits`."""
    output = model.output
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    tensors = tf.nest.flatten(output)
    if len(tensors) != 1 or len(tensors[0].shape) != 2 or tensors[0].shape[-1] is None:
        raise TargetError(
            f"{name}: expected one output of shape (N, classes), received {model.output_shape}; "
            "keras.Model(model.input, model.get_layer(NAME).output) has one"
        )
    if tensors[0].shape[-1] < 2:
        raise TargetError(
            f"{name} gives one value an image, as a sigmoid of two classes does: expected a value a class, "
            "such as keras.Model(model.input, keras.layers.Concatenate()([1 - model.output, model.output]))"
        )
    return tensors[0]


def image_shape(model: Any, image_size: Optional[int], name: str) -> tuple[int, int, bool]:
    """Side, channels, and whether these come first."""
    shape = tuple(model.inputs[0].shape)
    if len(model.inputs) != 1 or len(shape) != 4:
        raise TargetError(f"{name}: expected one input of shape (N, H, W, C), received {model.input_shape}")
    channels_first = shape[2] == shape[3] and shape[1] != shape[2]
    channels, height, width = shape[1:] if channels_first else (shape[3], *shape[1:3])
    size = image_size or height
    if size is None or channels is None:
        what = "size: say which (`image_size`)" if channels else f"channels, {shape}: expected a number of them"
        raise TargetError(f"{name} admits any input {what}")
    if (height, width) not in ((None, None), (size, size)):
        raise TargetError(f"{name}: expected square images of side {size}, its input shape is {shape}")
    return size, channels, channels_first


def layer_named(layer: str, names: list[str], name: str) -> str:
    """Of the full names of a model's layers, OUTER/INNER of models inside, the one that is meant."""
    fitting = [layer] if layer in names else [each for each in names if each.endswith(f"/{layer}")]
    if not fitting:
        raise TargetError(f"{name} has no layer {layer!r}: expected one of {', '.join(names)}")
    if len(fitting) > 1:
        raise TargetError(f"{name} has several layers {layer!r}: expected one of {', '.join(fitting)}")
    return fitting[0]


def _maps(model: keras.Model, layer: str, name: str) -> Place:
    known = list(places(model))
    full_name = layer_named(layer, list(dict.fromkeys(each for each, _ in known)), name)
    place = [its_place for each, its_place in known if each == full_name][-1]
    if len(place.tensor.shape) != 4:
        shape = tuple(place.tensor.shape)
        raise TargetError(f"{name}: expected maps (N, h, w, C) of layer {layer!r}, it gives {shape}")
    return place


def _on_float_images(model: keras.Model, output: Any, features: list[Place]) -> tuple[keras.Model, Any, list[Place]]:
    """The model on float32 images, any number of them: through whole numbers there is no gradient."""
    images = model.inputs[0]
    if tf.as_dtype(images.dtype).is_floating and images.shape[0] is None:
        return model, output, features
    wanted = [Place((), output), *features]
    float_model = exposing(model, wanted, [keras.Input(images.shape[1:])], name=model.name)
    output, *maps = float_model.outputs
    return float_model, output, [Place((), tensor) for tensor in maps]


def _responses(model: keras.Model, answers: Answers, features: list[Place]) -> keras.Model:
    """The model from what it takes to the dict of responses, float32."""
    layers = keras.layers
    exposed = exposing(model, [answers.place, *features])
    logits, *maps = exposed.outputs
    if len(logits.shape) != 2:
        logits = layers.Reshape((logits.shape[1:].num_elements(),), name="hgd_classes")(logits)
    if answers.are_probabilities:
        logits = LogProbabilities(name="hgd_log_probabilities")(logits)
    responses = {"logits": _float32(logits, "hgd_logits")}
    for tensor, place in zip(maps, features):
        _, node = producer(model, place) or (None, None)
        if getattr(node and node.layer, "data_format", None) == "channels_first":
            tensor = layers.Permute((2, 3, 1), name="hgd_maps")(tensor)
        responses["features"] = _float32(tensor, "hgd_features")
    return keras.Model(exposed.input, responses)


def _float32(tensor: Any, name: str) -> Any:
    if tensor.dtype == tf.float32:
        return tensor
    return keras.layers.Activation("linear", dtype="float32", name=name)(tensor)


def check_gradient(network: keras.Model, images: Any, name: str) -> None:
    """Refuses a network whose logits do not follow from the image continuously."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = network(images, training=False)["logits"]
    if tape.gradient(logits, images) is None:
        raise TargetError(f"{name}: its logits have no gradient by the image, which attacks follow")
