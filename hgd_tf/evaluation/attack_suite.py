"""What is left of a defence under threat models: each attack on what those before it in its column left.

The same attack in several columns is made once on each image, one that knows nothing of the defence once for all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.crafting.sets import transported
from hgd_tf.data import LabeledImages
from hgd_tf.data.transports import Transport
from hgd_tf.defenses import Classifier
from hgd_tf.evaluation.attackers import AnyDefense, Attackers, Model
from hgd_tf.evaluation.evaluate import attacked_at_a_time
from hgd_tf.evaluation.kept_figures import KeptFigures, identity
from hgd_tf.evaluation.threat_models import NOTHING, ThreatModel


class Held(NamedTuple):
    """What a column's attackers left of a defence.

    Attributes:
      answers: bool (N,), whether each image is answered right, whatever the attackers did.
      gradients, queries: evaluations an image that is held took, on average over those.
      losses: mean loss along the first run of the first attacker with gradients; empty if there is none.
      by_attacker: how many images are held after each of the attackers, in their order.
    """

    answers: np.ndarray
    gradients: float
    queries: float
    losses: tuple[float, ...]
    by_attacker: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.answers))

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.accuracy * (1 - self.accuracy) / len(self.answers)))


class _Outcome:
    """Of one attack on one defence: which images it was made on, are held, and what each took."""

    def __init__(self, count: int):
        self.known, self.held = np.zeros(count, bool), np.ones(count, bool)
        self.spent = np.zeros((2, count), np.int64)
        self.losses: tuple[float, ...] = ()

    def add(self, numbers: np.ndarray, figures: Mapping[str, Any]) -> None:
        self.known[numbers], self.held[numbers] = True, figures["held"]
        self.spent[:, numbers] = figures["spent"]
        self.losses = self.losses or tuple(figures["losses"])


def columns_of(threat_models: Sequence[ThreatModel]) -> dict[str, list[ThreatModel]]:
    """The attackers by their columns' keys, in the order given."""
    columns: dict[str, list[ThreatModel]] = {}
    for attacker in threat_models:
        columns.setdefault(attacker.key, []).append(attacker)
    return columns


class AttackSuite:
    """Attacks defences on the same images.

    Args:
      defenses: by name, each a `Classifier`; or any function of float32 images (N, H, W, C) in [0, 255] to `logits`,
        of which there is nothing that an oblivious attacker could know.
      threat_models: those of one key are one column, whose first `images` they share.
      images: clean, uint8 (N, H, W, C).
      holdout: attacked for a transfer that names no networks.
      at_side: the images read at a side in pixels, for threat models that have one.
      keep_in: a file for what every attack left, from which an interrupted suite goes on; for the caller to remove.

    Raises:
      ValueError: the attackers of a column are to share images and do not.
    """

    def __init__(
        self,
        defenses: Mapping[str, AnyDefense],
        threat_models: Sequence[ThreatModel],
        images: LabeledImages,
        *,
        holdout: Optional[Model] = None,
        at_side: Optional[Callable[[int], LabeledImages]] = None,
        keep_in: Optional[Path] = None,
    ):
        self.defenses = dict(defenses)
        self.columns = columns_of(threat_models)
        for key, attackers in self.columns.items():
            if len({(attacker.images, attacker.side) for attacker in attackers}) > 1:
                raise ValueError(f"{key}: attackers of one column need the same `images` and `side`")
        self.images = images
        self._attackers = Attackers(holdout)
        self._at_side = at_side
        models = [model for defense in self.defenses.values() for model in _models(defense)]
        described = [list(self.defenses), [dataclasses.asdict(attacker) for attacker in threat_models]]
        self._outcomes: dict[tuple[str, ThreatModel], _Outcome] = {}
        self.kept = KeptFigures(keep_in, identity(described, models, images) if keep_in else "")

    def run(self) -> dict[str, dict[str, Held]]:
        """What is held, by the defences' names and the columns' keys; a bar shows how many images still are."""
        total = len(self.defenses) * sum(map(len, self.columns.values()))
        held: dict[str, dict[str, Held]] = {name: {} for name in self.defenses}
        with tqdm(total=total, desc="attacking", unit="attack") as bar:
            for key in self.columns:
                for name in self.defenses:
                    held[name][key] = self.attack(name, key, bar)
                self._attackers.forget()
        return held

    def attack(self, name: str, key: str, bar: Optional[tqdm] = None) -> Held:
        """One defence under one column."""
        defense, attackers = self.defenses[name], self.columns[key]
        count = min(attackers[0].images or len(self.images.labels), len(self.images.labels))
        held = np.ones(count, bool)
        spent = np.zeros((2, count), np.int64)
        losses: tuple[float, ...] = ()
        by_attacker = []
        for number, attacker in enumerate(attackers):
            waiting = np.flatnonzero(held)
            if bar is not None:
                bar.set_postfix_str(f"{name}, {key}: {attacker.knowledge} {attacker.method} on {len(waiting)} images")
            outcome = self._outcome(name, attacker, count)
            new = waiting[~outcome.known[waiting]]
            if len(new):
                measure = functools.partial(self._measured, defense, attacker, new)
                outcome.add(new, self.kept.measured(f"{name}/{key}/{number}", measure))
            held[waiting] = outcome.held[waiting]
            spent[:, waiting] += outcome.spent[:, waiting]
            losses = losses or outcome.losses
            by_attacker.append(int(held.sum()))
            if bar is not None:
                bar.update()
        gradients, queries = spent[:, held].mean(axis=1) if held.any() else (0.0, 0.0)
        return Held(held, float(gradients), float(queries), losses, tuple(by_attacker))

    def _outcome(self, name: str, attacker: ThreatModel, count: int) -> _Outcome:
        """What is known already, from another column, of the same attack."""
        settings = dataclasses.replace(attacker, key="-", title="-", images=count)
        if (name, settings) not in self._outcomes:
            self._outcomes[name, settings] = _Outcome(count)
        return self._outcomes[name, settings]

    def _measured(self, defense: AnyDefense, attacker: ThreatModel, waiting: np.ndarray) -> Any:
        """Which of the waiting images are held, and what was spent on each."""
        side = attacker.side
        images, labels = self.images if side is None or self._at_side is None else self._at_side(side)
        images, labels = images[waiting], labels[waiting]
        size = attacked_at_a_time(defense) if isinstance(defense, Classifier) else len(images)
        # An image that is answered wrong as it is needs no attack.
        held = _right(defense, _arrived(images, attacker, waiting), labels, size)
        spent = np.zeros((2, len(waiting)), np.int64)
        losses: tuple[float, ...] = ()
        if attacker.knowledge != NOTHING and held.any():
            made = self._attackers.made(defense, attacker, LabeledImages(images[held], labels[held]), waiting[held])
            spent[:, held], losses = made.spent, made.losses
            held[held] = _right(defense, _arrived(made.images, attacker, waiting[held]), labels[held], size)
        return {"held": held.tolist(), "spent": spent.tolist(), "losses": list(losses)}


def _models(defense: AnyDefense) -> list[Any]:
    flows = defense.flows if isinstance(defense, Classifier) else ()
    return [model for flow in flows for model in (*flow.denoisers, *(target.network for target in flow.targets))]


def _arrived(images: np.ndarray, attacker: ThreatModel, numbers: np.ndarray) -> Iterable[np.ndarray]:
    transport = Transport(attacker.transport)
    if not transport.changes:
        return images
    return transported(np.round(images).astype(np.uint8), transport, attacker.seed, numbers)


def _right(defense: AnyDefense, images: Iterable[np.ndarray], labels: np.ndarray, batch_size: int) -> np.ndarray:
    """Whether each image, of any sizes, is answered right."""
    right = np.zeros(len(labels), bool)
    images = list(images)
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    for alike in places.values():
        for first in range(0, len(alike), batch_size):
            batch = alike[first : first + batch_size]
            logits = defense(tf.constant(np.stack([images[place] for place in batch]), tf.float32))["logits"]
            right[batch] = np.argmax(logits, axis=-1) == labels[batch]
    return right
