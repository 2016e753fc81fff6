"""What a classifier gives, logits or probabilities, told by what it computes; and its logits."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.graph import Place, before, exposing, places, producer

OUTPUTS = ("auto", "logits", "probabilities")
PROBES = 8
LONGEST_TAIL = 16  # layers behind the logits: softmax, reshapes, casts
FLOOR = 1e-30  # of probabilities whose logarithm is taken; softmax then errs by less than classes * FLOOR
FORMATS = {tf.float16: (2.0**-10, 2.0**-14), tf.bfloat16: (2.0**-7, 2.0**-126)}  # spacing at 1, smallest normal number
FLOAT32 = (2.0**-23, 2.0**-126)
Squash = Callable[[Any], Any]  # softmax or sigmoid
Found = TypeVar("Found")


@keras.utils.register_keras_serializable(package="hgd_tf")
class LogProbabilities(keras.layers.Layer):
    """Logits whose softmax is the given probabilities: log(max(p, 1e-30)), float32. Below, there is no gradient."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Of (N, classes)."""
        return tf.math.log(tf.maximum(tf.cast(inputs, tf.float32), FLOOR))


class Answers(NamedTuple):
    """Where a model's logits are.

    Attributes:
      place: of a tensor with N * classes values.
      are_probabilities: whether its logarithms are the logits.
    """

    place: Place
    are_probabilities: bool = False


class Precision(NamedTuple):
    """Of a number format: its spacing at 1, and its smallest normal number."""

    spacing: float
    smallest: float


def probe_images(size: int, channels: int) -> np.ndarray:
    """Images of all kinds, the same every time: float32 (PROBES, size, size, channels), pixels in [0, 255]."""
    generator = np.random.default_rng(0)
    level = generator.uniform(0, 255, (PROBES, 1, 1, channels))
    contrast = np.linspace(0, 255, PROBES).reshape(PROBES, 1, 1, 1)
    noise = generator.uniform(-1, 1, (PROBES, size, size, channels))
    return np.clip(level + contrast * noise, 0, 255).astype(np.float32)


def find_answers(model: keras.Model, output: Any, outputs: str, images: tf.Tensor, name: str) -> Answers:
    """The logits behind a model's output.

    Args:
      output: symbolic, (N, classes).
      outputs: what it gives; `auto`: that is told by its values for `images`.
      images: some, as the model expects them.

    Raises:
      TargetError: that cannot be told, or what the model gives belongs to no single class.
    """
    place = Place((), output)
    tail = _tail(model, place)
    values = _values(model, tail, images)
    precision = precision_of(model)

    def behind(squash: Squash) -> Optional[Place]:
        return _behind(squash, model, tail, values, images, precision)

    are_probabilities, logits = tell(name, values[0], precision, outputs, behind)
    return Answers(place, are_probabilities) if logits is None else Answers(logits)


def tell(
    name: str, given: np.ndarray, precision: Precision, outputs: str, behind: Callable[[Squash], Optional[Found]]
) -> tuple[bool, Optional[Found]]:
    """Whether values are probabilities; and the logits behind them, where there are some.

    Args:
      given: its output for images of all kinds, float32 (N, classes).
      behind: gives what, squashed, is the output, or None.

    Raises:
      TargetError: as in `find_answers`.
    """
    if not np.all(np.isfinite(given)):
        raise TargetError(f"{name} gives values that are not finite (NaN or infinite); is `input_range` right?")
    if outputs == "logits":
        return False, None
    if outputs == "auto" and not _are_distributions(given, precision):
        if _in_unit_interval(given) and (given.max() > 0.5 or behind(tf.nn.sigmoid) is not None):
            raise TargetError(
                f"{name} gives values in [0, 1] that do not sum to one ({_few(given)}), as sigmoids of several labels "
                "do: expected a softmax or logits of classes that exclude each other; where they are logits, "
                "say `outputs='logits'`"
            )
        return False, None
    logits = behind(tf.nn.softmax)
    if logits is None and outputs == "auto" and np.ptp(given, axis=0).max() == 0:
        raise TargetError(f"{name} gives every image the same values, {_few(given)}: {_ASK}")
    return True, logits


_ASK = "say what they are, `outputs='logits'` or `outputs='probabilities'`"


def _few(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values[0][:3]) + (", …" if values.shape[-1] > 3 else "")


def _are_distributions(values: np.ndarray, precision: Precision) -> bool:
    """Whether values lie in [0, 1] and sum to one, up to rounding every one of them."""
    tolerance = min(values.shape[-1] * precision.spacing, 0.05)
    return _in_unit_interval(values, tolerance) and bool(np.all(np.abs(values.sum(axis=-1) - 1) <= tolerance))


def _in_unit_interval(values: np.ndarray, tolerance: float = 0.0) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1 + tolerance)


def _tail(model: keras.Model, place: Place) -> list[Place]:
    """The output and what it is computed from, as far back as one tensor of as many values follows from another."""
    classes, tail = place.tensor.shape[-1], [place]
    last: Optional[Place] = place
    while len(tail) < LONGEST_TAIL:
        last = before(model, last)  # type: ignore[arg-type]
        if last is None or last.tensor.shape[1:].num_elements() != classes:
            break
        tail.append(last)
    return tail


def _values(model: keras.Model, wanted: list[Place], images: tf.Tensor) -> list[np.ndarray]:
    """(N, values) float32 each."""
    outputs = exposing(model, wanted)(images, training=False)
    return [tf.cast(tf.reshape(t, (t.shape[0], -1)), tf.float32).numpy() for t in tf.nest.flatten(outputs)]


def _behind(squash, model, tail, values, images, precision: Precision) -> Optional[Place]:
    """The nearest tensor whose `squash` the output is: of a layer's own, or before a layer's fused activation."""
    given = values[0]
    for place, its_values in zip(tail, values):
        if np.allclose(its_values, given, rtol=4 * precision.spacing, atol=0):
            inner = _before_activation(model, place)
            if inner is not None and agree(squash, _values(model, [inner], images)[0], given, precision):
                return inner
        elif agree(squash, its_values, given, precision):
            return place
    return None


def agree(squash, logits: np.ndarray, given: np.ndarray, precision: Precision) -> bool:
    """Whether squashed logits are the given values; an exponential errs as much as its argument is rounded."""
    if not np.all(np.isfinite(logits)):
        return False
    relative = min(8 * precision.spacing * (1 + np.ptp(logits)), 0.1)
    return np.allclose(squash(logits), given, rtol=relative, atol=2 * precision.smallest)


def _before_activation(model: keras.Model, place: Place) -> Optional[Place]:
    """What the layer that gives a tensor would give without its activation."""
    found = producer(model, place)
    if found is None:
        return None
    nodes, node = found
    layer = node.layer
    if getattr(layer, "activation", None) is None or isinstance(layer, keras.layers.Activation):
        return None
    linear = _without_activation(layer)
    tensor = linear(*node.call_args, **node.call_kwargs)
    linear.set_weights(layer.get_weights())
    return Place(nodes, tensor)


def _without_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A copy; what only training needs may be the user's own, and is left out."""
    training = ("_initializer", "_regularizer", "_constraint")
    config = {name: value for name, value in layer.get_config().items() if not name.endswith(training)}
    return type(layer).from_config({**config, "activation": "linear", "name": f"{layer.name}_logits"})


def precision_of(model: keras.Model) -> Precision:
    """Of the coarsest number format in which a model computes."""
    formats = {tf.as_dtype(place.tensor.dtype) for _, place in places(model)} & set(FORMATS)
    return Precision(*max([FORMATS[kind] for kind in formats], default=FLOAT32))
