"""Who plays the paper's networks: named, and loaded."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS, Roles
from hgd_tf.errors import TargetError
from hgd_tf.foundation.description import NOT_EMPTY, Rule, one_of, setting
from hgd_tf.targets import TARGETS, Target, load_target
from hgd_tf.targets.answers import OUTPUTS
from hgd_tf.targets.user import PIXELS

THE_TARGET = "target"  # among the members: the target itself
INCREASING = Rule("two increasing numbers", lambda bounds: bounds[0] < bounds[1])
OF_APPENDIX_D = Rule(
    f"names among {', '.join(APPENDIX_D_NETWORKS)}", lambda networks: set(networks) <= set(APPENDIX_D_NETWORKS)
)


def load_attacked(name: str, **options: Any) -> Target:
    """`load_target`; of NAME@SIDE, the registered network NAME with an input of that side, called NAME@SIDE.

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


@dataclasses.dataclass(frozen=True)
class Cast:
    """The networks of an experiment or a set, by registered names or paths of Keras models."""

    target: str = setting(
        "mini_inception", "The classifier: a name (python -m hgd_tf.targets) or a Keras model's path."
    )
    checkpoint: Optional[str] = setting(None, "Weights of a named target, instead of those in the package.")
    input_range: tuple[float, float] = setting(
        PIXELS, "Of Keras models: the values they take for black and white.", INCREASING
    )
    outputs: str = setting("auto", "Of a Keras model: what it gives; auto: as its answers show.", one_of(OUTPUTS))
    custom_objects: Optional[str] = setting(None, "Python module with what files of Keras models need.")
    members: tuple[str, ...] = setting(
        (THE_TARGET, "mini_inception_resnet", "mini_resnet"),
        "Attacked: NAME or NAME@SIDE; the word 'target' is the target.",
        NOT_EMPTY,
    )
    holdout: str = setting("mini_vgg", "The network of the black-box sets.")
    networks: dict[str, str] = dataclasses.field(
        default_factory=dict,
        metadata={"meaning": "Who plays appendix D's networks: IncV3=NAME,advV3=NAME,….", "rule": OF_APPENDIX_D},
    )

    def load_target(self, image_size: Optional[int] = None, feature_layer: Optional[str] = None) -> Target:
        """The target; arguments as in `load_target`."""
        return load_target(
            self.target,
            self.checkpoint,
            image_size,
            feature_layer=feature_layer,
            input_range=self.input_range,
            outputs=self.outputs,
            custom_objects=self.custom_objects,
        )

    def load_other(self, name: str) -> Target:
        """A network beside the target."""
        return load_attacked(name, input_range=self.input_range, custom_objects=self.custom_objects)

    def load_roles(self, target: Target, as_named: bool) -> Roles:
        """The networks by the parts they play, each loaded once.

        Args:
          as_named: whether `load_other` gives the target too, by its name. Where it gives another one, of another size
            or with other weights, that one plays the parts in `networks` which have its name: so these depend on no
            target.

        Raises:
          TargetError: a network does not load, or two members are the same.
        """
        loaded = {THE_TARGET: target, self.target: target}

        def network(name: str) -> Target:
            if name not in loaded:
                loaded[name] = self.load_other(name)
            return loaded[name]

        members = tuple(map(network, self.members))
        names = [member.name for member in members]
        if len(set(names)) < len(names):
            raise TargetError(f"the attacked members need names of their own, received {', '.join(names)}")
        held_out = network(self.holdout)
        if not as_named:
            del loaded[self.target]
        return Roles(target, members, held_out, {part: network(name) for part, name in self.networks.items()})
