"""Tensors of a functional Keras model, found in its own graph: layers may belong to other graphs, or be used twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from hgd_tf.foundation.stack import keras


def scope_name(name: str) -> str:
    """The name of a scope for any text: letters, digits, and `_.-/` stay, all else becomes `_`; never empty."""
    name = re.sub(r"[^A-Za-z0-9_./-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else f"m{name}"


class Place(NamedTuple):
    """A tensor of a model, or of a model inside it.

    Attributes:
      nodes: the uses of the models inside which it lies, from the outside; empty for the model's own tensors.
      tensor: symbolic, of the innermost model's graph.
    """

    nodes: tuple[Any, ...]
    tensor: Any


def is_graph(model: Any) -> bool:
    """Whether it is a built functional or Sequential model."""
    return isinstance(model, keras.Model) and bool(getattr(model, "inputs", None)) and hasattr(model, "_nodes_by_depth")


def own_nodes(model: keras.Model) -> list[Any]:
    """The uses of layers that make up a model, each after those that it depends on."""
    # No public name: a layer's `inbound_nodes` are of every model that has it.
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def layer_tensors(model: keras.Model) -> dict[str, Any]:
    """What each layer of a model gives in it, by its name and in order; of a layer used twice, the last time."""
    given = {
        **dict(zip(model.input_names, model.inputs)),
        **{node.layer.name: node.outputs for node in own_nodes(model)},
    }
    return {layer.name: given[layer.name] for layer in model.layers if layer.name in given}


def places(model: keras.Model, nodes: tuple[Any, ...] = ()) -> Iterator[tuple[str, Place]]:
    """The outputs of all layers, those of models inside included, each after those that it depends on.

    Yields:
      Names of the layers, from the outside and parted by slashes, and the tensor.
    """
    for node in own_nodes(model):
        inside = (*nodes, node)
        if is_graph(node.layer):
            yield from places(node.layer, inside)
        name = "/".join(part.layer.name for part in inside)
        for tensor in tf.nest.flatten(node.outputs):
            yield name, Place(nodes, tensor)


def producer(model: keras.Model, place: Place) -> Optional[tuple[tuple[Any, ...], Any]]:
    """The use of a layer that gives a tensor, after those of the models inside which it lies; None: an input."""
    inside = place.nodes[-1].layer if place.nodes else model
    if any(place.tensor is tensor for tensor in inside.inputs):
        outer = _single(place.nodes[:-1], place.nodes[-1]) if place.nodes else None
        return outer and producer(model, outer)
    for node in own_nodes(inside):
        for number, tensor in enumerate(tf.nest.flatten(node.outputs)):
            if tensor is place.tensor and is_graph(node.layer):
                return producer(model, Place((*place.nodes, node), node.layer.outputs[number]))
            if tensor is place.tensor:
                return place.nodes, node
    return None


def before(model: keras.Model, place: Place) -> Optional[Place]:
    """What the layer that gives a tensor takes; None where that is not one tensor."""
    found = producer(model, place)
    return found and _single(*found)


def _single(nodes: tuple[Any, ...], node: Any) -> Optional[Place]:
    taken = tf.nest.flatten(node.keras_inputs)
    return Place(nodes, taken[0]) if len(taken) == 1 else None


def exposing(
    model: keras.Model, wanted: Sequence[Place], inputs: Optional[Sequence[Any]] = None, name: Optional[str] = None
) -> keras.Model:
    """A model with the same layers that gives the wanted tensors, in a list.

    Args:
      inputs: of the new model, instead of the model's own; they may be of another type or batch size.
    """
    if inputs is None and not any(place.nodes for place in wanted):
        return keras.Model(model.input, [place.tensor for place in wanted], name=name)
    if inputs is None:
        inputs = [keras.Input(batch_size=t.shape[0], shape=t.shape[1:], dtype=t.dtype) for t in model.inputs]
    found: dict[int, Any] = {}
    known = _replayed(model, inputs, wanted, found)
    outputs = [found[i] if place.nodes else known[id(place.tensor)] for i, place in enumerate(wanted)]
    return keras.Model(tf.nest.pack_sequence_as(model.input, list(inputs)), outputs, name=name)


def _replayed(model: keras.Model, inputs: Sequence[Any], wanted: Sequence[Place], found: dict[int, Any]) -> dict:
    """A model's tensors on other inputs, by the old ones' ids; `found` gets the wanted ones of models inside."""
    known = {id(old): new for old, new in zip(model.inputs, inputs)}
    added = [place.tensor for place in wanted if not place.nodes]
    for node in own_nodes(keras.Model(model.input, [*model.outputs, *added])):
        arguments, options = tf.nest.map_structure(lambda v: known.get(id(v), v), (node.call_args, node.call_kwargs))
        inside = {i: Place(place.nodes[1:], place.tensor) for i, place in enumerate(wanted) if node in place.nodes[:1]}
        if inside:
            outputs = _opened(node.layer, inside, found)(*arguments, **options)
        else:
            outputs = node.layer(*arguments, **options)
        known.update(zip(map(id, tf.nest.flatten(node.outputs)), tf.nest.flatten(outputs)))
    return known


def _opened(layer: keras.Model, inside: dict[int, Place], found: dict[int, Any]):
    """The model inside another one, called so that its wanted tensors get into `found` too."""
    own = [Place((), tensor) for tensor in layer.outputs]
    opened = exposing(layer, [*own, *inside.values()], name=f"{layer.name}_opened{min(inside)}")

    def call(*arguments, **options):
        outputs = opened(*arguments, **options)
        found.update(zip(inside, outputs[len(own) :]))
        return outputs[: len(own)]

    return call
