"""The paper's sets of attacked images as data: which attack, on which network, with which epsilon (Table 1)."""

from __future__ import annotations

from typing import NamedTuple

from hgd_tf.attacks.sign_gradient import Steps, ifgsm_steps
from hgd_tf.targets import Target


class Roles(NamedTuple):
    """The networks that play Table 1's parts.

    Attributes:
      target: the network to defend (IncV3).
      members: the attacked ensemble, usually the target among them (IncV3, IncResV2, Res).
      holdout: attacked in the black-box set only (IncV4).
    """

    target: Target
    members: tuple[Target, ...]
    holdout: Target


TARGET, EACH_MEMBER, ENSEMBLE, HOLDOUT = "target", "each member", "ensemble", "holdout"


class RecipeAttack(NamedTuple):
    """An attack on a role: its name, its steps in units of epsilon, the attacked role."""

    name: str
    steps: Steps
    role: str


class Recipe(NamedTuple):
    """A named list of attacks, each with its own draw of every image's epsilon, uniform in lowest..highest."""

    name: str
    attacks: tuple[RecipeAttack, ...]
    lowest: int
    highest: int


class BoundAttack(NamedTuple):
    """An attack on the networks that play its role."""

    name: str
    steps: Steps
    models: tuple[Target, ...]


def _ifgsm(count: int, role: str) -> RecipeAttack:
    return RecipeAttack("fgsm" if count == 1 else f"ifgsm{count}", ifgsm_steps(count), role)


TRAIN_SET = Recipe(
    "train_set",
    (_ifgsm(1, EACH_MEMBER), *(_ifgsm(count, ENSEMBLE) for count in (1, 2, 4, 8))),
    lowest=1,
    highest=16,
)
VALIDATION_SET = TRAIN_SET._replace(name="validation_set")


def white_test_set(epsilon: int) -> Recipe:
    """WhiteTestSet of Table 1: attacks on the target, ignorant of any defence."""
    return Recipe(f"white_eps{epsilon}", (_ifgsm(1, TARGET), _ifgsm(4, ENSEMBLE)), epsilon, epsilon)


def black_test_set(epsilon: int) -> Recipe:
    """BlackTestSet of Table 1: attacks on a network that no training attack has seen."""
    return Recipe(f"black_eps{epsilon}", (_ifgsm(1, HOLDOUT), _ifgsm(4, HOLDOUT)), epsilon, epsilon)


TEST_SETS = tuple(test_set(epsilon) for test_set in (white_test_set, black_test_set) for epsilon in (4, 16))


def bind(recipe: Recipe, roles: Roles) -> list[BoundAttack]:
    """The recipe's attacks on actual networks, named after them: for m members, `TRAIN_SET` has m + 4."""
    bound = []
    for attack in recipe.attacks:
        for name, models in _players(attack.role, roles):
            bound.append(BoundAttack(f"{attack.name}_{name}", attack.steps, models))
    return bound


def _players(role: str, roles: Roles) -> list[tuple[str, tuple[Target, ...]]]:
    if role == EACH_MEMBER:
        return [(member.name, (member,)) for member in roles.members]
    models = {TARGET: (roles.target,), ENSEMBLE: roles.members, HOLDOUT: (roles.holdout,)}[role]
    return [(ENSEMBLE if role == ENSEMBLE else models[0].name, models)]
