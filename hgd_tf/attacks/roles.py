"""Loading the networks that play the paper's parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Callable

from hgd_tf.attacks.recipes import Roles
from hgd_tf.errors import TargetError
from hgd_tf.targets import TARGETS, Target, load_target

THE_TARGET = "target"  # among the members: the target itself


def assign_roles(
    target: Target,
    members: Sequence[str],
    holdout: str,
    named: Mapping[str, str] = MappingProxyType({}),
    *,
    target_name: str,
    load: Callable[[str], Target],
    target_as_loaded: bool = True,
) -> Roles:
    """The networks by their names, each loaded once.

    Args:
      target: the network to defend.
      members, holdout: names; the word `target` stands for the target.
      named: by the paper's names of networks, ours.
      target_name: by which the target was loaded.
      load: loads a network.
      target_as_loaded: whether `load` gives the target too, by its name. Where it gives another one, of another size or
        with other weights, that one plays the parts in `named` which have its name: so these depend on no target.

    Raises:
      TargetError: a network does not load, or two members are the same.
    """
    loaded = {THE_TARGET: target, target_name: target}

    def network(name: str) -> Target:
        if name not in loaded:
            loaded[name] = load(name)
        return loaded[name]

    players = tuple(map(network, members))
    names = [member.name for member in players]
    if len(set(names)) < len(names):
        raise TargetError(f"the attacked members need names of their own, received {', '.join(names)}")
    held_out = network(holdout)
    if not target_as_loaded:
        del loaded[target_name]
    return Roles(target, players, held_out, {part: network(name) for part, name in named.items()})


def load_attacked(name: str, **options: Any) -> Target:
    """`load_target`; of NAME@SIDE, the registered network NAME with an input of that side, called NAME@SIDE.

    Args:
      name: of a network, or the path of a Keras model.
      options: as in `load_target`.

    Raises:
      TargetError: the network does not load, or not at that side.
    """
    registered, at, side = name.partition("@")
    if not at or registered not in TARGETS:
        return load_target(name, **options)
    if not (side.isascii() and side.isdigit()):
        raise TargetError(f"expected {registered}@SIDE, a number of pixels, received {name!r}")
    loaded = load_target(registered, image_size=int(side), **options)
    return Target(loaded.network, name=name, source=loaded.source)
