"""The networks and images of an experiment, loaded; training and evaluation start from it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Union

from hgd_tf.attacks import Roles, SetCrafter
from hgd_tf.data.fashion_mnist import Splits, load_fashion_mnist
from hgd_tf.errors import TargetError
from hgd_tf.targets import Target, load_target
from hgd_tf.training.config import THE_TARGET, ExperimentConfig


class Experiment(NamedTuple):
    """What an `ExperimentConfig` names."""

    roles: Roles
    ens_target: Optional[Target]
    splits: Splits
    sets: SetCrafter


def load_experiment(config: ExperimentConfig, sets_dir: Union[str, Path]) -> Experiment:
    """Loads networks and images.

    Raises:
      TargetError, DataError: one of them does not load, or they do not fit each other.
    """
    target = load_target(
        config.target,
        config.checkpoint,
        config.image_size,
        feature_layer=config.feature_layer,
        input_range=config.input_range,
    )
    members = tuple(target if name in (THE_TARGET, config.target) else load_target(name) for name in config.members)
    roles = Roles(target, members, load_target(config.holdout))
    ens_target = load_target(config.ens_target) if config.ens_target else None
    splits = load_fashion_mnist(config.data_dir)
    channels = splits.train.images.shape[-1]
    for network in (*members, target, roles.holdout):
        if (network.classes, network.channels) != (target.classes, channels):
            raise TargetError(
                f"{network.name} has {network.channels} channels and {network.classes} classes; "
                f"expected {channels} as the images and {target.classes} as {target.name}"
            )
    return Experiment(roles, ens_target, splits, SetCrafter(roles, sets_dir, config.seed))
