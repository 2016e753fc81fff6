"""A set of attacked images by names: what a command line describes and any process can load."""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

from hgd_tf.attacks.recipes import RECIPES
from hgd_tf.attacks.roles import Cast
from hgd_tf.crafting.plan import SetPlan
from hgd_tf.data.opening import open_images
from hgd_tf.data.sources import PartialSource, images_per_class, part_of_classes
from hgd_tf.foundation.description import at_least, check, one_of, setting, within
from hgd_tf.strategy import STRATEGIES, make_strategy


@dataclasses.dataclass(frozen=True)
class CraftConfig(Cast):
    """One set; an `HgdError` says which field is of another type or value than expected."""

    recipe: str = setting("train_set", "The attacks.", one_of(RECIPES))
    images: str = setting("embedded:test", "The images.")
    labels: Optional[str] = setting(None, "Table of the images' classes; default: a folder a class, or none are known.")
    crop_boxes: bool = setting(False, "The images are the competition's originals: cut its boxes out.")
    image_size: Optional[int] = setting(None, "Side of the set's images; default: the target's.", at_least(1))
    central_fraction: float = setting(
        1.0, "Part of height and width around the middle that is kept.", within(0.01, 1.0)
    )
    images_per_class: Optional[int] = setting(None, "Images drawn of each class; default: all.", at_least(1))
    count: Optional[int] = setting(None, "Images drawn; default: all.", at_least(1))
    seed: int = setting(0, "Of every random draw.", at_least(0))
    batch_size: int = setting(50, "Images computed at a time.", at_least(1))
    shard_size: int = setting(100, "Images a shard.", at_least(1))
    strategy: str = setting("auto", "One device, or a replica on each; auto: all GPUs.", one_of(STRATEGIES))
    judged: bool = setting(True, "Record every network's answers to every image.")

    def __post_init__(self):
        check(self)


def load_plan(config: CraftConfig) -> SetPlan:
    """Loads networks and lists images.

    Raises:
      TargetError, DataError, HgdError: one of them does not load, or they do not fit.
    """
    recipe = RECIPES[config.recipe]
    with make_strategy(config.strategy, config.batch_size).scope():
        target = config.load_target()
        roles = config.load_roles(target, as_named=config.checkpoint is None)
        source = open_images(
            config.images,
            config.image_size or target.image_size,
            target.channels,
            labels=config.labels,
            classes=target.classes,
            crop_boxes=config.crop_boxes,
            central_fraction=config.central_fraction,
        )
        if recipe.classes != (0.0, 1.0):
            source = part_of_classes(source, recipe.classes, target.classes, config.seed)
        if config.images_per_class is not None:
            source = images_per_class(source, config.images_per_class, config.seed)
        if config.count is not None:
            order = np.random.default_rng(config.seed).permutation(len(source.labels))
            source = PartialSource(source, order[: config.count])
        everyone = dict.fromkeys((target, *roles.members, roles.holdout, *roles.named.values()))
        judges = tuple(everyone) if config.judged else ()
        return SetPlan(recipe, roles, source, config.seed, config.batch_size, config.shard_size, judges)
