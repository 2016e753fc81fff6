"""Finds every variable of a network in a file of weights and assigns it, or changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

import numpy as np
from absl import logging

from hgd_tf.checkpoints.names import Names, Slot, slots, to_keras_layout
from hgd_tf.errors import CheckpointError
from hgd_tf.foundation.stack import keras

COUNTER = "num_batches_tracked"  # of PyTorch's batch normalization; no weight
NAMED_AT_MOST = 3


def assign(
    network: keras.Model,
    tensors: Mapping[str, np.ndarray],
    names: Names,
    *,
    file: str,
    layer_name: Callable[[str], str] = lambda name: name,
    definition_order: Optional[Callable[[Sequence[str]], list[str]]] = None,
    background_class: bool = False,
) -> None:
    """Gives every variable of `network` its value in the file, whatever prefix the file's names have.

    What the file has and the network does not (optimizer slots, moving averages, a global step) is listed at debug
    level (`--verbosity=1`).

    Args:
      network: functional; unchanged where something is missing.
      tensors: the file's, by name, in its order; may read them when asked.
      layer_name: a layer's name to the file's.
      definition_order: layer names in the order of the forward pass to those in the file's order; a PyTorch file none
        of whose names is the network's is then matched by order and shape. Where it has a scale that the network's
        batch normalizations do without, the convolutions before them take it over.
      background_class: whether the file's class 0 is a background class (TF-Slim's), which is dropped.

    Raises:
      CheckpointError: a variable is missing or of another shape.
    """
    wanted = slots(network, names, layer_name)
    if definition_order is not None and not _prefixes(wanted[0].name, tensors):
        wanted = slots(network, names, layer_name, definition_order, with_scale=True)
        found = _by_order(wanted, tensors, network.name, file)
    else:
        found = _by_name(wanted, tensors, network.name, file)
    classes = network.output_shape["logits"][-1] if background_class else None
    values = [_value(slot, tensors[name], names, classes, f"{file}: {name}") for slot, name in zip(wanted, found)]
    _absorb_scales(wanted, values)
    for slot, value in zip(wanted, values):
        if slot.variable is not None:
            slot.variable.assign(value)
    logging.debug("%s: not in %s: %s", file, network.name, sorted(set(tensors) - set(found)))


def find_prefix(wanted: Sequence[str], names: Iterable[str], file: str) -> str:
    """What stands before the wanted names among `names`: the prefix under which most of them are.

    Raises:
      CheckpointError: none of them is there, or two prefixes serve equally well.
    """
    present = set(names)
    prefixes = _prefixes(wanted[0], present)
    if not prefixes:
        raise CheckpointError(f"{file} has no {wanted[0]!r} under any prefix; it holds {_some(sorted(present))}")
    found = {prefix: sum(prefix + name in present for name in wanted) for prefix in prefixes}
    best = [prefix for prefix in prefixes if found[prefix] == max(found.values())]
    if len(best) > 1:
        raise CheckpointError(f"{file} holds more than one such network, under {_some(best)}: expected one")
    return best[0]


def _prefixes(wanted: str, names: Iterable[str]) -> list[str]:
    ends = (name for name in names if name == wanted or name.endswith(("/" + wanted, "." + wanted)))
    return sorted(name[: len(name) - len(wanted)] for name in ends)


def _by_name(wanted: list[Slot], tensors: Mapping[str, np.ndarray], network: str, file: str) -> list[str]:
    prefix = find_prefix([slot.name for slot in wanted], tensors, file)
    found = [prefix + slot.name for slot in wanted]
    missing = [name for name in found if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{file} does not hold {network}: it lacks {len(missing)} of {len(wanted)} variables, such as "
            f"{_some(missing)}"
        )
    return found


def _by_order(wanted: list[Slot], tensors: Mapping[str, np.ndarray], network: str, file: str) -> list[str]:
    found = [name for name in tensors if not name.endswith(COUNTER)]
    if len(found) != len(wanted):
        raise CheckpointError(
            f"{file} does not hold {network}: none of its names is the network's, and where {len(wanted)} tensors "
            f"were expected, {len(found)} were received, such as {_some(found)}"
        )
    return found


def _value(slot: Slot, array: np.ndarray, names: Names, classes: Optional[int], source: str) -> np.ndarray:
    """The array in Keras' layout, float32, without the background class where there are `classes` others."""
    expected = slot.shape
    is_head = classes is not None and slot.keras_shape[-1] == classes
    if is_head:
        expected = tuple(size + 1 if size == classes else size for size in expected)
    if np.shape(array) != expected:
        raise CheckpointError(f"{source}: expected shape {expected}, received {np.shape(array)}")
    value = to_keras_layout(array, slot.kind, names).reshape((*slot.keras_shape[:-1], -1))
    return value[..., 1:] if is_head else value


def _absorb_scales(wanted: list[Slot], values: list[np.ndarray]) -> None:
    """Moves scales without a variable into kernel and mean: s (Wx - m) / d + b is ((sW)x - sm) / d + b."""
    place = {(slot.layer.name, slot.kind): number for number, slot in enumerate(wanted)}
    for slot, scale in zip(wanted, values):
        if slot.variable is None:
            norm = slot.layer.name
            convolution = norm.rpartition("/")[0]
            for key in ((convolution, "kernel"), (norm, "moving_mean")):
                values[place[key]] = values[place[key]] * scale


def _some(names: Sequence[str]) -> str:
    some = ", ".join(map(repr, names[:NAMED_AT_MOST])) or "nothing"
    return some + (", …" if len(names) > NAMED_AT_MOST else "")
