"""The attacks that threat models describe, on the models that they know."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import GradientAttack, SquareAttack
from hgd_tf.attacks.losses import TARGETED
from hgd_tf.attacks.roles import load_attacked
from hgd_tf.data import LabeledImages
from hgd_tf.data.transports import Transport
from hgd_tf.defenses import Classifier, load_defense
from hgd_tf.defenses.adapters import with_identity_backwards
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.evaluation.evaluate import attacked_at_a_time
from hgd_tf.evaluation.threat_models import END_TO_END, IDENTITY, OBLIVIOUS, SQUARE, TRANSFER, ThreatModel
from hgd_tf.targets import TARGETS

Model = Callable[[tf.Tensor], "dict[str, tf.Tensor]"]
AnyDefense = Union[Classifier, Model]
SOME_IMAGES = 16  # on which two answers are compared
ALIKE = 1e-4  # of the largest logit: two answers of one defence, by the order of its sums


class Made(NamedTuple):
    """Attacked images.

    Attributes:
      images: float32 (N, H, W, C).
      spent: int (2, N), gradients and queries of each.
      losses: mean loss along the first run; empty without gradients.
    """

    images: np.ndarray
    spent: np.ndarray
    losses: tuple[float, ...]


class Attackers:
    """Attacks, each compiled once; what one makes for a defence that it does not know serves every other defence.

    Args:
      holdout: attacked for a transfer that names no networks.
    """

    def __init__(self, holdout: Optional[Model] = None):
        self._holdout = holdout
        self._attacks: dict[Hashable, Callable[..., Any]] = {}
        self._transferred: dict[Hashable, dict[int, Made]] = {}

    def forget(self) -> None:
        """What was made: it is large."""
        self._transferred.clear()

    def made(self, defense: AnyDefense, attacker: ThreatModel, images: LabeledImages, numbers: np.ndarray) -> Made:
        """The images, of those numbers in their set, attacked."""
        if attacker.knowledge == END_TO_END:
            return self._made(defense, attacker, images, numbers)
        settings = dataclasses.replace(attacker, key="-", title="-", images=None)
        known = self._transferred.setdefault((self._known_parts(defense, attacker), settings), {})
        new = np.array([number not in known for number in numbers])
        if new.any():
            made = self._made(defense, attacker, LabeledImages(images.images[new], images.labels[new]), numbers[new])
            for place, number in enumerate(numbers[new]):
                known[number] = Made(made.images[place], made.spent[:, place], made.losses)
        each = [known[number] for number in numbers]
        return Made(np.stack([one.images for one in each]), np.stack([one.spent for one in each], 1), each[0].losses)

    def _made(self, defense: AnyDefense, attacker: ThreatModel, images: LabeledImages, numbers: np.ndarray) -> Made:
        # Another object would be compiled anew; what an attack is given at each call makes no other.
        settings = dataclasses.replace(attacker, key="-", title="-", epsilon=1.0, seed=0, images=None)
        key = self._known_parts(defense, attacker), settings
        if key not in self._attacks:
            self._attacks[key] = _attack(self._known(defense, attacker), attacker, images)
        found = self._attacks[key](
            images.images,
            images.labels,
            attacker.epsilon,
            seed=attacker.seed,
            numbers=numbers,
            batch_size=attacked_at_a_time(defense) if isinstance(defense, Classifier) else None,
        )
        losses = () if attacker.method == SQUARE else tuple(float(loss) for loss in found.losses)
        return Made(found.images, np.stack([found.gradients, found.queries]), losses)

    def _known_parts(self, defense: AnyDefense, attacker: ThreatModel) -> Hashable:
        """Of defences that are alike to the attacker, the same."""
        if attacker.knowledge == TRANSFER:
            return attacker.networks
        if attacker.knowledge == OBLIVIOUS:
            flows = undefended(_with_parts(defense, attacker)).flows
            return tuple((flow.weight, *(id(target.network) for target in flow.targets)) for flow in flows)
        return id(defense)

    def _known(self, defense: AnyDefense, attacker: ThreatModel) -> Model:
        """What the attacker's gradients go through."""
        if attacker.knowledge == OBLIVIOUS:
            return undefended(_with_parts(defense, attacker))
        if attacker.knowledge == TRANSFER:
            networks: list[Model] = [_network(name) for name in attacker.networks]
            if not networks and self._holdout is not None:
                networks = [self._holdout]
            if not networks:
                raise ValueError(f"{attacker.key}: a transfer needs `networks`, received none and no held-out network")
            return lambda images: {"logits": tf.add_n([one(images)["logits"] for one in networks]) / len(networks)}
        if attacker.backward == IDENTITY:
            return with_identity_backwards(_with_parts(defense, attacker))
        return defense


def answers_apart(defense: AnyDefense, images: np.ndarray) -> float:
    """How far two answers to the same images are apart, as a share of the largest logit."""
    pixels = tf.constant(images, tf.float32)
    once, again = (np.asarray(defense(pixels)["logits"], np.float64) for _ in range(2))
    return float(np.max(np.abs(once - again)) / max(np.max(np.abs(once)), 1e-12))


def undefended(defense: Classifier) -> Ensemble:
    """The classifiers of a defence without their denoisers."""
    return Ensemble([Flow([], flow.targets, flow.title, flow.weight) for flow in defense.flows])


def _attack(known: Model, attacker: ThreatModel, images: LabeledImages) -> Callable[..., Any]:
    if attacker.method == SQUARE:
        return SquareAttack(known, queries=attacker.steps, norm=attacker.norm, rounding=attacker.rounding)
    # Past the border is enough where the attacked model is the judge, sees just this, and answers twice alike.
    is_judged = attacker.knowledge == END_TO_END and not attacker.rounding and not Transport(attacker.transport).changes
    return GradientAttack(
        known,
        loss=(TARGETED if attacker.targets else "") + attacker.loss,
        norm=attacker.norm,
        rule=attacker.method,
        steps=attacker.steps,
        momentum=attacker.momentum,
        step=None if attacker.method == "apgd" else attacker.step,
        restarts=attacker.restarts,
        targets=attacker.targets,
        expectation=attacker.expectation,
        rounding=attacker.rounding,
        early_stop=is_judged and answers_apart(known, images.images[:SOME_IMAGES]) <= ALIKE,
    )


def _network(name: str) -> Model:
    """A classifier, or else a defence, such as one of another seed."""
    return load_attacked(name) if name.partition("@")[0] in TARGETS else load_defense(name)


def _with_parts(defense: AnyDefense, attacker: ThreatModel) -> Classifier:
    """The defence, of which the attacker tells denoisers from classifiers."""
    if not isinstance(defense, Classifier):
        raise ValueError(f"{attacker.key}: this attacker needs a `Classifier`, received {defense!r}")
    return defense
