"""The networks and images of an experiment, loaded; training and evaluation start from it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from hgd_tf.attacks import Roles
from hgd_tf.attacks.recipes import SEEN_CLASSES, UNSEEN_CLASSES
from hgd_tf.attacks.roles import assign_roles
from hgd_tf.crafting import SetCrafter
from hgd_tf.data import CropShape, LabeledImages, Splits, load_photographs, load_splits
from hgd_tf.data.splits import UNKNOWN, ClassSplit, drawn_classes
from hgd_tf.errors import TargetError
from hgd_tf.targets import TARGETS, Target, load_target
from hgd_tf.training.config import ExperimentConfig


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
        outputs=config.outputs,
        custom_objects=config.custom_objects,
    )

    def load(name: str) -> Target:
        return load_target(name, input_range=config.input_range, custom_objects=config.custom_objects)

    roles = assign_roles(
        target,
        config.members,
        config.holdout,
        config.networks,
        target_name=config.target,
        load=load,
        target_as_loaded=_is_as_named(target, config),
    )
    ens_target = load(config.ens_target) if config.ens_target else None
    splits = _load_images(config, target)
    for network in (target, *roles.members, roles.holdout, *roles.named.values(), ens_target or target):
        _check_fit(network, splits)
    return Experiment(roles, ens_target, splits, SetCrafter(roles, sets_dir, config.seed))


def _is_as_named(target: Target, config: ExperimentConfig) -> bool:
    """Whether the target is what loading its name alone gives."""
    if config.target in TARGETS:
        return config.checkpoint is None and target.image_size == TARGETS[config.target].image_size
    return config.image_size is None


def _load_images(config: ExperimentConfig, target: Target) -> Splits:
    class_split = None
    if config.class_split:
        parts = (drawn_classes(part, target.classes, config.seed) for part in (SEEN_CLASSES, UNSEEN_CLASSES))
        class_split = ClassSplit(*parts)
    if config.photographs is None and config.test_dir is None:
        whole = load_splits(config.data_dir, target.image_size, target.channels)
        return whole if class_split is None else whole.by_classes(class_split)
    shape = CropShape(target.image_size, target.channels)
    return load_photographs(config.photographs, config.labels, config.test_dir, shape, class_split)


def labeled_by(target: Target, part: LabeledImages) -> LabeledImages:
    """With the target's own answer where the class is unknown: accuracy is then agreement with the clean image's."""
    if not np.any(part.labels == UNKNOWN):
        return part
    predicted = target.network.predict(part.images.astype(np.float32), batch_size=16, verbose=0)["logits"].argmax(
        axis=-1
    )
    return part._replace(labels=np.where(part.labels == UNKNOWN, predicted, part.labels))


def _check_fit(network: Target, splits: Splits) -> None:
    channels = splits.validation.images.shape[-1]
    if network.channels != channels or network.classes < splits.classes:
        raise TargetError(
            f"{network.name} takes {network.channels} channels and knows {network.classes} classes; "
            f"the images of {splits.name} have {channels} channels and {splits.classes} classes"
        )
