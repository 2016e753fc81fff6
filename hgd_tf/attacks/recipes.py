"""The sets of attacked images as data: which attack, on which network, with which epsilon, on which classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Union

import numpy as np

from hgd_tf.attacks.methods import METHODS, Method
from hgd_tf.errors import TargetError
from hgd_tf.targets import Target


class Roles(NamedTuple):
    """The networks that play the paper's parts.

    Attributes:
      target: the network to defend (Table 1: IncV3).
      members: the attacked ensemble, usually the target among them (IncV3, IncResV2, Res).
      holdout: attacked in the black-box set only (IncV4).
      named: who plays the networks that appendix D names.
    """

    target: Target
    members: tuple[Target, ...]
    holdout: Target
    named: Mapping[str, Target] = MappingProxyType({})


class Networks(NamedTuple):
    """Networks that appendix D names, attacked together, and a name for them together."""

    name: str
    names: tuple[str, ...]


TARGET, EACH_MEMBER, ENSEMBLE, HOLDOUT, NOBODY = "target", "each member", "ensemble", "holdout", "nobody"
Role = Union[str, Networks]


class RecipeAttack(NamedTuple):
    """A method, by its name in `METHODS`, and the role that is attacked."""

    method: str
    role: Role


class Recipe(NamedTuple):
    """A named list of attacks.

    Attributes:
      attacks: what is done to every image, each with its own draw of the image's epsilon.
      lowest, highest: bounds of epsilon, an integer drawn uniformly, both included.
      classes: the part of the classes, in a random order, whose images are attacked: from this fraction to that.
    """

    name: str
    attacks: tuple[RecipeAttack, ...]
    lowest: int
    highest: int
    classes: tuple[float, float] = (0.0, 1.0)


class BoundAttack(NamedTuple):
    """An attack on the networks that play its role."""

    name: str
    method: Method
    models: tuple[Target, ...]


TRAIN_SET = Recipe(
    "train_set",
    (
        RecipeAttack("fgsm", EACH_MEMBER),
        *(RecipeAttack(method, ENSEMBLE) for method in ("fgsm", "ifgsm2", "ifgsm4", "ifgsm8")),
    ),
    lowest=1,
    highest=16,
)
VALIDATION_SET = TRAIN_SET._replace(name="validation_set")


def white_test_set(epsilon: int) -> Recipe:
    """WhiteTestSet of Table 1: attacks on the target, ignorant of any defence."""
    attacks = (RecipeAttack("fgsm", TARGET), RecipeAttack("ifgsm4", ENSEMBLE))
    return Recipe(f"white_eps{epsilon}", attacks, epsilon, epsilon)


def black_test_set(epsilon: int) -> Recipe:
    """BlackTestSet of Table 1: attacks on a network that no training attack has seen."""
    attacks = (RecipeAttack("fgsm", HOLDOUT), RecipeAttack("ifgsm4", HOLDOUT))
    return Recipe(f"black_eps{epsilon}", attacks, epsilon, epsilon)


TEST_SETS = tuple(test_set(epsilon) for test_set in (white_test_set, black_test_set) for epsilon in (4, 16))

# Table 4: three quarters of the classes to train on, the others to validate and test on.
SEEN_CLASSES, UNSEEN_CLASSES = (0.0, 0.75), (0.75, 1.0)
CLASS_SPLIT = (
    TRAIN_SET._replace(name="seen_classes_train_set", classes=SEEN_CLASSES),
    VALIDATION_SET._replace(name="unseen_classes_validation_set", classes=UNSEEN_CLASSES),
    *(recipe._replace(name=f"unseen_classes_{recipe.name}", classes=UNSEEN_CLASSES) for recipe in TEST_SETS),
)

# What the authors' program trains on: clean images and noise beside Table 1's attacks.
UNATTACKED = (RecipeAttack("no_op", NOBODY), RecipeAttack("sign_noise", NOBODY))
NO_ATTACKS = Recipe("no_attacks", UNATTACKED[:1], lowest=1, highest=16)  # where each step makes its own
TRAIN_MIX = TRAIN_SET._replace(name="train_mix", attacks=(*UNATTACKED, *TRAIN_SET.attacks))

# For crafting while training: without the attack that takes half of the mix's time.
LIGHT_MIX = TRAIN_MIX._replace(
    name="light_mix", attacks=tuple(attack for attack in TRAIN_MIX.attacks if attack.method != "ifgsm8")
)
# For black-box attacks, which are one network's: each member's alone, quick and iterated, beside the white-box pair.
MEMBERS_MIX = Recipe(
    "members_mix",
    (
        RecipeAttack("no_op", NOBODY),
        *(RecipeAttack(method, EACH_MEMBER) for method in ("fgsm", "ifgsm4")),
        RecipeAttack("ifgsm4", ENSEMBLE),
    ),
    lowest=1,
    highest=16,
)
# At the same cost, with iterated attacks that hold better for networks which they do not see.
TRANSFER_MIXES = tuple(
    MEMBERS_MIX._replace(
        name=name,
        attacks=tuple(
            attack._replace(method=f"{kind}_ifgsm4") if attack.method == "ifgsm4" else attack
            for attack in MEMBERS_MIX.attacks
        ),
    )
    for name, kind in (
        ("diverse_mix", "diverse"),
        ("invariant_mix", "invariant"),
        ("momentum_mix", "momentum"),
        ("transfer_mix", "diverse_invariant_momentum"),
    )
)
# For the first steps: among clean images and small epsilons an untrained denoiser learns to do nothing.
STRONG_SET = LIGHT_MIX._replace(
    name="strong_set", attacks=tuple(attack for attack in LIGHT_MIX.attacks if attack.role != NOBODY), lowest=16
)

_SEVEN = Networks("x7", ("IncV3", "advV3", "ensV3", "ens4V3", "IncV4", "IncResV2", "ensIncResV2"))
_EIGHT = Networks("x8", (*_SEVEN.names, "ResNet101"))

APPENDIX_D = Recipe(
    "appendix_d",
    (
        *UNATTACKED,
        RecipeAttack("fgsm", Networks("IncV3", ("IncV3",))),
        RecipeAttack("fgsm", Networks("ensV3_advV3", ("ensV3", "advV3"))),
        RecipeAttack("fgsm", Networks("IncV3_IncV4_ensIncResV2", ("IncV3", "IncV4", "ensIncResV2"))),
        *(RecipeAttack(method, _SEVEN) for method in ("ifgsm5", "ifgsm10", "ifgsm20")),
        *(RecipeAttack(method, _EIGHT) for method in ("ifgsm10", "ifgsm20", "difgsm4")),
        *(RecipeAttack(method, _EIGHT) for method in ("adaifgsm2", "adaifgsm3", "adaifgsm5")),
    ),
    lowest=16,
    highest=16,
)
APPENDIX_D_NETWORKS = _EIGHT.names
# With Table 1's draw of epsilon: a denoiser that sees 16 alone unlearns what to do about 4.
APPENDIX_D_EVERY_EPSILON = APPENDIX_D._replace(name="appendix_d_every_epsilon", lowest=1)

TRAINING_RECIPES = {
    recipe.name: recipe
    for recipe in (
        TRAIN_SET,
        TRAIN_MIX,
        LIGHT_MIX,
        MEMBERS_MIX,
        *TRANSFER_MIXES,
        STRONG_SET,
        APPENDIX_D,
        APPENDIX_D_EVERY_EPSILON,
    )
}
# By a training recipe's name, what its denoisers are validated on: variants of Table 1 on its ValSet, so that their
# losses compare; appendix D's on their own attacks.
VALIDATION_RECIPES = {
    **dict.fromkeys(TRAINING_RECIPES, VALIDATION_SET),
    **{recipe.name: recipe for recipe in (APPENDIX_D, APPENDIX_D_EVERY_EPSILON)},
}

RECIPES = {recipe.name: recipe for recipe in (*TRAINING_RECIPES.values(), VALIDATION_SET, *TEST_SETS, *CLASS_SPLIT)}


def bind(recipe: Recipe, roles: Roles) -> list[BoundAttack]:
    """The recipe's attacks on actual networks, named after them: for m members, `TRAIN_SET` has m + 4.

    Raises:
      TargetError: nobody plays a network that the recipe names.
    """
    bound = []
    for attack in recipe.attacks:
        for name, models in _players(attack.role, roles):
            full_name = f"{attack.method}_{name}" if name else attack.method
            bound.append(BoundAttack(full_name, METHODS[attack.method], models))
    return bound


def check_players(recipe: Recipe, names: Collection[str]) -> None:
    """That each network which the recipe names is among the names; without loading any.

    Raises:
      TargetError: nobody plays one of them.
    """
    for attack in recipe.attacks:
        if isinstance(attack.role, Networks):
            _check_named(attack.role, names)


def _check_named(role: Networks, names: Collection[str]) -> None:
    missing = [name for name in role.names if name not in names]
    if missing:
        raise TargetError(f"no network plays {', '.join(missing)}: expected {missing[0]}=NAME in `networks`")


def _players(role: Role, roles: Roles) -> list[tuple[str, tuple[Target, ...]]]:
    if isinstance(role, Networks):
        _check_named(role, roles.named)
        # A network that plays several parts counts once.
        return [(role.name, tuple(dict.fromkeys(roles.named[name] for name in role.names)))]
    if role == EACH_MEMBER:
        return [(member.name, (member,)) for member in roles.members]
    models = {TARGET: (roles.target,), ENSEMBLE: roles.members, HOLDOUT: (roles.holdout,), NOBODY: ()}[role]
    return [(ENSEMBLE if role == ENSEMBLE else "".join(model.name for model in models), models)]


def draw_epsilon(count: int, lowest: int, highest: int, seed: Union[int, Sequence[int]]) -> np.ndarray:
    """One integer an image, uniform in [lowest, highest] inclusive (Table 1); int64 of shape (count,)."""
    return np.random.default_rng(seed).integers(lowest, highest, size=count, endpoint=True)
