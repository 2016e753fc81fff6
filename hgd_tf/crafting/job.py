"""A set of attacked images by names: what a command line describes and any process can load."""

from __future__ import annotations

import dataclasses
from typing import Optional

import numpy as np

from hgd_tf.attacks.recipes import RECIPES
from hgd_tf.attacks.roles import THE_TARGET, assign_roles, load_attacked
from hgd_tf.crafting.plan import SetPlan
from hgd_tf.data.opening import open_images
from hgd_tf.data.sources import PartialSource, images_per_class, part_of_classes
from hgd_tf.strategy import make_strategy
from hgd_tf.targets import load_target


@dataclasses.dataclass(frozen=True)
class CraftConfig:
    """One set.

    Attributes:
      recipe: a name of `RECIPES`.
      target, members, holdout: names of networks, or paths of Keras models; `target` among them is the target.
      networks: by the names of appendix D, who plays them.
      source: the images, as in `open_images`.
      labels: table of the folder's labels, or the competition's; None: a folder a class, or none are known.
      crop_boxes: whether the competition's boxes are to be cut out.
      image_size: side of the set's images; None: the target's.
      central_fraction: of height and width that is kept of an image.
      images_per_class, images: how many are drawn; None: all.
      seed: of all draws.
      batch_size, shard_size: images computed, and kept, together.
      strategy: as in `make_strategy`.
      judged: whether every network's answers to every image are recorded.
    """

    recipe: str
    target: str = "mini_inception"
    members: tuple[str, ...] = (THE_TARGET, "mini_inception_resnet", "mini_resnet")
    holdout: str = "mini_vgg"
    networks: dict[str, str] = dataclasses.field(default_factory=dict)
    source: str = "embedded:test"
    labels: Optional[str] = None
    crop_boxes: bool = False
    image_size: Optional[int] = None
    central_fraction: float = 1.0
    images_per_class: Optional[int] = None
    images: Optional[int] = None
    seed: int = 0
    batch_size: int = 50
    shard_size: int = 100
    strategy: str = "auto"
    judged: bool = True


def load_plan(config: CraftConfig) -> SetPlan:
    """Loads networks and lists images.

    Raises:
      TargetError, DataError, HgdError: one of them does not load, or they do not fit.
    """
    recipe = RECIPES[config.recipe]
    with make_strategy(config.strategy, config.batch_size).scope():
        target = load_target(config.target)
        roles = assign_roles(
            target,
            config.members,
            config.holdout,
            config.networks,
            target_name=config.target,
            load=load_attacked,
        )
        source = open_images(
            config.source,
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
        if config.images is not None:
            order = np.random.default_rng(config.seed).permutation(len(source.labels))
            source = PartialSource(source, order[: config.images])
        everyone = dict.fromkeys((target, *roles.members, roles.holdout, *roles.named.values()))
        judges = tuple(everyone) if config.judged else ()
        return SetPlan(recipe, roles, source, config.seed, config.batch_size, config.shard_size, judges)
