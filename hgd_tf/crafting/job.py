"""A set of attacked images by names: what a command line describes and any process can load."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from hgd_tf.attacks.recipes import RECIPES
from hgd_tf.attacks.roles import THE_TARGET, assign_roles
from hgd_tf.competition.files import competition_files, is_competition_table
from hgd_tf.crafting.plan import SetPlan
from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.data.labeled_files import LabeledFile, labeled_files, unlabeled_files
from hgd_tf.data.sources import (
    ArraySource,
    FileSource,
    PartialSource,
    Source,
    TfdsSource,
    images_per_class,
    part_of_classes,
)
from hgd_tf.errors import DataError
from hgd_tf.strategy import make_strategy
from hgd_tf.targets import load_target

EMBEDDED, TFDS = "embedded", "tfds"
EMBEDDED_PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class CraftConfig:
    """One set.

    Attributes:
      recipe: a name of `RECIPES`.
      target, members, holdout: names of networks, or paths of Keras models; `target` among them is the target.
      networks: by the names of appendix D, who plays them.
      source: a folder of images; `embedded:PART`; `tfds:NAME:SPLIT`.
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
    recipe, open_source = RECIPES[config.recipe], find_source(config)
    with make_strategy(config.strategy, config.batch_size).scope():
        target = load_target(config.target)
        roles = assign_roles(
            target,
            config.members,
            config.holdout,
            config.networks,
            target_name=config.target,
            load=load_target,
        )
        source = open_source(config.image_size or target.image_size, target.channels)
        if len(source.labels) and source.labels.max() >= target.classes:
            raise DataError(
                f"{config.source} has images of class {source.labels.max()}, {target.name} knows {target.classes}"
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


def find_source(config: CraftConfig) -> Callable[[int, int], Source]:
    """The images that the configuration names, for a side and a number of channels.

    Raises:
      DataError: they are not there.
    """
    kind, *rest = config.source.split(":")
    if kind == EMBEDDED and len(rest) == 1 and rest[0] in EMBEDDED_PARTS:
        return lambda *_: ArraySource(getattr(load_fashion_mnist(), rest[0]), f"fashion_mnist-{rest[0]}")
    if kind == TFDS and len(rest) >= 2:
        *name, split = rest
        return lambda size, channels: TfdsSource(":".join(name), split, size, channels, config.central_fraction)
    if kind in (EMBEDDED, TFDS) and not Path(config.source).exists():
        raise DataError(
            "expected embedded:train, embedded:validation, embedded:test, tfds:NAME:SPLIT or a folder, "
            f"received {config.source!r}"
        )
    files = _files(config)
    return lambda size, channels: FileSource(files, size, channels, config.central_fraction)


def _files(config: CraftConfig) -> list[LabeledFile]:
    folder = Path(config.source)
    if config.labels is not None and folder.is_dir() and is_competition_table(config.labels):
        files = competition_files(folder, config.labels, config.crop_boxes)
        if not files:
            raise DataError(f"{folder} holds no image that {config.labels} names")
        return files
    if config.labels is not None or not folder.is_dir() or any(path.is_dir() for path in folder.iterdir()):
        return labeled_files(folder, config.labels)
    return unlabeled_files(folder)
