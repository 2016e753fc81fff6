"""Sets of attacked images for training and evaluation: crafted once, used by every run that asks for the same.

And as a defence sees them: after what lies between the attacker and it, at its own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

from hgd_tf.attacks import Recipe, Roles, bind
from hgd_tf.crafting.plan import SetPlan, attack_cache
from hgd_tf.crafting.run import craft_set, open_shards
from hgd_tf.data.sources import ArraySource
from hgd_tf.data.splits import LabeledImages
from hgd_tf.data.transports import DrawnTransport, Transport
from hgd_tf.errors import DataError
from hgd_tf.targets import batch_size_for, resize_to

SHARD_BATCHES = 5  # what an interruption may cost
AnyTransport = Union[Transport, DrawnTransport]
Images = Union[np.ndarray, Sequence[np.ndarray]]  # (N, H, W, C), or N of (H, W, C) each
SEEN = np.float16  # holds 0..255 to within 0.0625, in half of the memory
TRANSPORT_DRAWS = 29  # keeps a transport's draws apart from others of the same seed


class AttackedSet(NamedTuple):
    """Clean images and what each of A attacks made of them.

    Attributes:
      clean: N images and labels.
      names: of the A attacks.
      attacked: uint8 (A, N, H, W, C); float16 as a defence sees it (`set_as_seen`).
      epsilon: int64 (A, N).
    """

    clean: LabeledImages
    names: tuple[str, ...]
    attacked: np.ndarray
    epsilon: np.ndarray

    def pairs(self) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Attacked (A * N, H, W, C), and beside them (clean, labels): x and y of `GuidedDenoiser.fit`."""
        count = len(self.names)
        clean, labels = self.clean
        attacked = self.attacked.reshape(-1, *clean.shape[1:])
        return attacked, (np.tile(clean, (count, 1, 1, 1)), np.tile(labels, count))


class SetCrafter:
    """Crafts the sets of an experiment, or reads them where they were crafted before.

    >>> import hgd_tf, tempfile
    >>> target, other = map(hgd_tf.load_target, ("mini_vgg", "mini_resnet"))
    >>> roles = hgd_tf.Roles(target, members=(target,), holdout=other)
    >>> crafter = hgd_tf.SetCrafter(roles, tempfile.mkdtemp())
    >>> attacked_set = crafter.attacked_set(hgd_tf.RECIPES["white_eps4"], hgd_tf.load_fashion_mnist().test.head(20))
    >>> attacked_set.names, attacked_set.attacked.shape
    (('fgsm_mini_vgg', 'ifgsm4_ensemble'), (2, 20, 28, 28, 1))
    >>> attacked, (clean, labels) = attacked_set.pairs()
    >>> attacked.shape, labels.shape
    ((40, 28, 28, 1), (40,))

    Args:
      roles: the networks.
      sets_dir: folder of the crafted sets. The name of a set's folder holds a digest of all that determines its
        content: recipe, networks with their weights, clean images, seed and batch size.
      seed: of the draws of epsilon.
    """

    def __init__(self, roles: Roles, sets_dir: Union[str, Path], seed: int = 0):
        self.roles = roles
        self.sets_dir = Path(sets_dir)
        self.seed = seed
        self._attack_on = attack_cache()

    def attacked_set(self, recipe: Recipe, clean: LabeledImages) -> AttackedSet:
        """The recipe's attacks on `clean`. Where crafting them was interrupted, it goes on.

        Raises:
          DataError: that set is there and damaged.
        """
        # Of what the recipe attacks alone: sets that do not attack the target are shared by several.
        attacked = [model.image_size for attack in bind(recipe, self.roles) for model in attack.models]
        batch_size = batch_size_for(max([clean.images.shape[1], *attacked]))
        source, shard_size = ArraySource(clean, "image"), SHARD_BATCHES * batch_size
        plan = SetPlan(recipe, self.roles, source, self.seed, batch_size, shard_size, attack_on=self._attack_on)
        folder = self.sets_dir / f"{recipe.name}-{len(clean.labels)}-{plan.digest()}"
        try:
            shards = open_shards(folder, craft_set(plan, folder))
            records = [record for shard in range(plan.shard_count) for record in shards.read(shard)]
            if len(records) != len(clean.labels):
                raise DataError(f"{folder}: expected {len(clean.labels)} images, received {len(records)}")
        except DataError as error:
            raise DataError(f"{error}; remove {folder} to craft it again") from error
        attacked = np.stack([record.attacked for record in records], axis=1)
        return AttackedSet(clean, plan.names, attacked, np.stack([record.epsilon for record in records], axis=1))


def transported(images: np.ndarray, transport: AnyTransport, seed: int, numbers: Iterable[int]) -> Images:
    """What arrives of images, uint8 (N, H, W, C): uint8 (H', W', C) each.

    Args:
      numbers: of the images; an image's draws depend on the seed and its number alone.
    """
    if not transport.changes:
        return images
    draws = (np.random.default_rng([seed, int(number), TRANSPORT_DRAWS]) for number in numbers)
    return [transport(image, draw) for image, draw in zip(images, draws)]


def resized(images: Images, image_size: int) -> np.ndarray:
    """Images of any sizes, resized as defences do it: float32 (N, image_size, image_size, C)."""
    if isinstance(images, np.ndarray):
        return resize_to(images, image_size).numpy()
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    together = np.empty((len(images), image_size, image_size, images[0].shape[-1]), np.float32)
    for alike in places.values():
        together[alike] = resize_to(np.stack([images[place] for place in alike]), image_size)
    return together


def set_as_seen(attacked_set: AttackedSet, transport: AnyTransport, image_size: int, seed: int) -> AttackedSet:
    """The set as a defence of that size sees it: attacked images transported and resized, clean ones resized.

    Its images are float16, since resized ones are no integers.
    """
    count = len(attacked_set.clean.labels)

    def seen(images: Images) -> np.ndarray:
        return resized(images, image_size).astype(SEEN)

    attacked = [
        seen(transported(images, transport, seed, range(place * count, (place + 1) * count)))
        for place, images in enumerate(attacked_set.attacked)
    ]
    clean = LabeledImages(seen(attacked_set.clean.images), attacked_set.clean.labels)
    return attacked_set._replace(clean=clean, attacked=np.stack(attacked))


def joined(parts: Sequence[AttackedSet]) -> AttackedSet:
    """Sets of the same attacks on several parts of some images as one."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*(part.clean for part in parts)))
    attacked = np.concatenate([part.attacked for part in parts], axis=1)
    epsilon = np.concatenate([part.epsilon for part in parts], axis=1)
    return AttackedSet(LabeledImages(images, labels), parts[0].names, attacked, epsilon)
