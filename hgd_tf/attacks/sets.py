"""Sets of attacked images: crafted once, kept in a folder, used by every run that asks for the same."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.attacks.craft import BATCH_SIZE, craft, draw_epsilon
from hgd_tf.attacks.recipes import BoundAttack, Recipe, Roles, bind
from hgd_tf.attacks.sign_gradient import SignGradientAttack
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.errors import DataError
from hgd_tf.files import replacing
from hgd_tf.targets import Target


class AttackedSet(NamedTuple):
    """Clean images and what each of A attacks made of them.

    Attributes:
      clean: N images and labels.
      names: of the A attacks.
      attacked: uint8 (A, N, H, W, C).
      epsilon: int64 (A, N).
    """

    clean: LabeledImages
    names: tuple[str, ...]
    attacked: np.ndarray
    epsilon: np.ndarray


class SetCrafter:
    """Crafts the sets of an experiment, or reads them where they were crafted before.

    Args:
      roles: the networks.
      sets_dir: folder of the crafted sets. A set's file name holds a digest of all that determines its content:
        recipe, networks with their weights, clean images, seed and batch size.
      seed: of the draws of epsilon.
    """

    def __init__(self, roles: Roles, sets_dir: Union[str, Path], seed: int):
        self.roles = roles
        self.sets_dir = Path(sets_dir)
        self.seed = seed
        self._attacks: dict[tuple[Target, ...], SignGradientAttack] = {}

    def attacked_set(self, recipe: Recipe, clean: LabeledImages) -> AttackedSet:
        """The recipe's attacks on `clean`.

        Raises:
          DataError: a file of that set is there and damaged.
        """
        attacks = bind(recipe, self.roles)
        names = tuple(attack.name for attack in attacks)
        path = self.sets_dir / f"{recipe.name}-{len(clean.labels)}-{self._digest(recipe, attacks, clean)}.npz"
        if not path.exists():
            epsilon = np.stack(
                [
                    draw_epsilon(len(clean.labels), recipe.lowest, recipe.highest, (self.seed, number))
                    for number in range(len(attacks))
                ]
            )
            attacked = self._craft(recipe.name, attacks, clean, epsilon)
            content = io.BytesIO()  # a ZipFile on a full disk would add a traceback of its own
            np.savez(content, attacked=attacked, epsilon=epsilon)
            with replacing(path) as temporary:
                Path(temporary).write_bytes(content.getbuffer())
        return AttackedSet(clean, names, *_read(path, (len(attacks), *clean.images.shape)))

    def _craft(self, title: str, attacks: list[BoundAttack], clean: LabeledImages, epsilon: np.ndarray) -> np.ndarray:
        attacked = np.empty((len(attacks), *clean.images.shape), np.uint8)
        with tqdm(
            total=attacked.shape[0] * attacked.shape[1], desc=f"crafting {title}", unit="img", mininterval=1
        ) as bar:
            for number, attack in enumerate(attacks):
                attacked[number] = craft(
                    self._attack_on(attack.models),
                    clean.images,
                    epsilon[number],
                    attack.steps,
                    seed=self.seed,
                    on_batch=bar.update,
                )
        return attacked

    def _attack_on(self, models: tuple[Target, ...]) -> SignGradientAttack:
        """One object for the same networks, whose loop is compiled once."""
        if models not in self._attacks:
            self._attacks[models] = SignGradientAttack(models)
        return self._attacks[models]

    def _digest(self, recipe: Recipe, attacks: list[BoundAttack], clean: LabeledImages) -> str:
        description = [
            [attack.name, attack.steps, [_fingerprint(model) for model in attack.models]] for attack in attacks
        ]
        digest = hashlib.sha256(
            json.dumps([description, recipe.lowest, recipe.highest, self.seed, BATCH_SIZE]).encode()
        )
        digest.update(str(clean.images.shape).encode() + clean.images.tobytes())
        return digest.hexdigest()[:16]


def _fingerprint(model: Target) -> str:
    digest = hashlib.sha256(f"{model.name} {model.image_size}".encode())
    for weight in model.network.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path) as arrays:
            attacked, epsilon = arrays["attacked"], arrays["epsilon"]
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is truncated or no set of attacked images ({error}); remove it to craft it again"
        ) from error
    if (attacked.shape, epsilon.shape) != (shape, shape[:2]):
        raise DataError(
            f"{path}: expected attacked images of shape {shape} and epsilon of shape {shape[:2]}, "
            f"received {attacked.shape} and {epsilon.shape}; remove it to craft it again"
        )
    return attacked, epsilon
