"""The networks and images of an experiment, loaded; training and evaluation start from it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import numpy as np

from hgd_tf.attacks import Roles
from hgd_tf.attacks.recipes import SEEN_CLASSES, UNSEEN_CLASSES
from hgd_tf.crafting import SetCrafter
from hgd_tf.data import CropShape, LabeledImages, Splits, are_photographs, load_photographs, load_splits
from hgd_tf.data.splits import UNKNOWN, ClassSplit, drawn_classes
from hgd_tf.errors import DataError, TargetError
from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.targets import TARGETS, Target

IMAGENET_CHANNELS = 3
COMPETITION_SIDE = 299  # of the images of the NIPS 2017 competition


class Experiment(NamedTuple):
    """What an `ExperimentConfig` names.

    Attributes:
      roles, ens_target: the networks.
      splits: the images, at the target's side; those in the package at their own.
      splits_at: the same images read at a side in pixels; None: `splits`.
      sets: crafts attacked images.
    """

    roles: Roles
    ens_target: Optional[Target]
    splits: Splits
    splits_at: Callable[[Optional[int]], Splits]
    sets: SetCrafter


def load_experiment(config: ExperimentConfig, sets_dir: Union[str, Path]) -> Experiment:
    """Loads networks and images.

    Raises:
      TargetError, DataError: one of them does not load, or they do not fit each other.
    """
    if config.images and (config.labels or config.test_dir) and not are_photographs(config.images):
        raise DataError(f"`labels` and `test_dir` go with photographs, received `images={config.images}`")
    target = config.load_target(config.image_size, config.feature_layer)
    roles = config.load_roles(target, _is_as_named(target, config))
    ens_target = config.load_other(config.ens_target) if config.ens_target else None
    splits_at = functools.lru_cache(maxsize=2)(functools.partial(load_images, config, target))
    splits = splits_at(None)
    for network in (target, *roles.members, roles.holdout, *roles.named.values(), ens_target or target):
        _check_fit(network, splits)
    return Experiment(roles, ens_target, splits, splits_at, SetCrafter(roles, sets_dir, config.seed))


def sides_to_test(config: ExperimentConfig, experiment: Experiment) -> list[Optional[int]]:
    """The sides at which the test images are attacked; None: that of `experiment.splits`.

    Unless the configuration says: of ImageNet networks the competition's, 299, and the target's own.
    """
    own = experiment.splits.test.images.shape[1]
    imagenet = config.target in TARGETS and TARGETS[config.target].channels == IMAGENET_CHANNELS
    sides = config.test_sizes or ((COMPETITION_SIDE, own) if imagenet else (own,))
    return [None if side == own else side for side in dict.fromkeys(sides)]


def _is_as_named(target: Target, config: ExperimentConfig) -> bool:
    """Whether the target is what loading its name alone gives."""
    if config.target in TARGETS:
        return config.checkpoint is None and target.image_size == TARGETS[config.target].image_size
    return config.image_size is None


def load_images(config: ExperimentConfig, target: Target, side: Optional[int]) -> Splits:
    """The images alone, for a target, at a side in pixels; None: the target's, and of those in the package their own.

    Raises:
      DataError: they do not load, or are not of the target's classes and channels.
    """
    class_split = None
    if config.class_split:
        parts = (drawn_classes(part, target.classes, config.seed) for part in (SEEN_CLASSES, UNSEEN_CLASSES))
        class_split = ClassSplit(*parts)
    if are_photographs(config.images) or config.test_dir is not None:
        shape = CropShape(side or target.image_size, target.channels)
        return load_photographs(config.images, config.labels, config.test_dir, shape, class_split, target.classes)
    whole = load_splits(config.images, side or target.image_size, target.channels, target.classes)
    splits = whole if class_split is None else whole.by_classes(class_split)
    return splits if side is None else splits.resized(side)


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
