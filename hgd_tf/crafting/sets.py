"""Sets of attacked images for training and evaluation: crafted once, used by every run that asks for the same."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

from hgd_tf.attacks import Recipe, Roles, bind
from hgd_tf.crafting.plan import SetPlan, attack_cache
from hgd_tf.crafting.run import craft_set, open_shards
from hgd_tf.data.sources import ArraySource
from hgd_tf.data.splits import LabeledImages
from hgd_tf.errors import DataError
from hgd_tf.targets import batch_size_for

SHARD_BATCHES = 5  # what an interruption may cost


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
