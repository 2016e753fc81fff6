"""The recipes against Table 1 of the paper, bound to stand-ins of its networks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hgd_tf.attacks import METHODS, TEST_SETS, TRAINING_RECIPES, VALIDATION_RECIPES, Roles, bind, check_players
from hgd_tf.attacks.recipes import (
    APPENDIX_D,
    APPENDIX_D_EVERY_EPSILON,
    CLASS_SPLIT,
    LIGHT_MIX,
    MEMBERS_MIX,
    RECIPES,
    STRONG_SET,
    TRAIN_MIX,
    TRAIN_SET,
    TRANSFER_MIXES,
    VALIDATION_SET,
)
from hgd_tf.attacks.roles import load_attacked
from hgd_tf.errors import TargetError
from hgd_tf.targets import TARGETS, load_target


class Player(NamedTuple):
    """A network's stand-in."""

    name: str


ROOT = Path(__file__).parents[2]
INC_V3, INC_RES_V2, RES, INC_V4 = (Player(name) for name in ("IncV3", "IncResV2", "Res", "IncV4"))
MEMBERS = (INC_V3, INC_RES_V2, RES)
PAPER = Roles(INC_V3, MEMBERS, INC_V4)
UNVARIED = ("image", 0.0, 0.0, 0, False, 1, 0.0, 3, 0, 1.5)
FGSM, IFGSM2, IFGSM4, IFGSM8 = ((((1 / count,) * count, *UNVARIED),) for count in (1, 2, 4, 8))

# Table 1: (name, (steps in units of epsilon, start, momentum, …), attacked networks) of every attack.
TRAIN_ROWS = [
    ("fgsm_IncV3", FGSM, (INC_V3,)),
    ("fgsm_IncResV2", FGSM, (INC_RES_V2,)),
    ("fgsm_Res", FGSM, (RES,)),
    ("fgsm_ensemble", FGSM, MEMBERS),
    ("ifgsm2_ensemble", IFGSM2, MEMBERS),
    ("ifgsm4_ensemble", IFGSM4, MEMBERS),
    ("ifgsm8_ensemble", IFGSM8, MEMBERS),
]
WHITE_ROWS = [("fgsm_IncV3", FGSM, (INC_V3,)), ("ifgsm4_ensemble", IFGSM4, MEMBERS)]
BLACK_ROWS = [("fgsm_IncV4", FGSM, (INC_V4,)), ("ifgsm4_IncV4", IFGSM4, (INC_V4,))]


@pytest.mark.parametrize("recipe", [TRAIN_SET, VALIDATION_SET])
def test_train_and_validation_set_are_the_seven_attacks_of_table_1(recipe):
    assert [tuple(attack) for attack in bind(recipe, PAPER)] == TRAIN_ROWS
    assert (recipe.lowest, recipe.highest) == (1, 16)


def test_train_and_validation_set_differ_in_their_names():
    assert (TRAIN_SET.name, VALIDATION_SET.name) == ("train_set", "validation_set")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_m_members_give_m_plus_4_attacks_of_different_names(count):
    attacks = bind(TRAIN_SET, Roles(INC_V3, MEMBERS[:count], INC_V4))
    assert len(attacks) == len({attack.name for attack in attacks}) == count + 4
    assert [attack.models for attack in attacks[:count]] == [(member,) for member in MEMBERS[:count]]
    assert all(attack.models == MEMBERS[:count] for attack in attacks[count:])


def test_test_sets_are_those_of_table_1_in_the_columns_order():
    received = [
        (recipe.name, recipe.lowest, recipe.highest, [tuple(attack) for attack in bind(recipe, PAPER)])
        for recipe in TEST_SETS
    ]
    assert received == [
        ("white_eps4", 4, 4, WHITE_ROWS),
        ("white_eps16", 16, 16, WHITE_ROWS),
        ("black_eps4", 4, 4, BLACK_ROWS),
        ("black_eps16", 16, 16, BLACK_ROWS),
    ]


def test_holdout_is_attacked_in_the_black_test_sets_only():
    attacked_in = {
        recipe.name
        for recipe in (TRAIN_SET, VALIDATION_SET, *TEST_SETS)
        for attack in bind(recipe, PAPER)
        if INC_V4 in attack.models
    }
    assert attacked_in == {"black_eps4", "black_eps16"}


def test_white_test_set_attacks_the_target_also_where_it_is_no_member():
    attacks = bind(TEST_SETS[0], Roles(INC_V4, MEMBERS, RES))
    assert [attack.models for attack in attacks] == [(INC_V4,), MEMBERS]


# --- the competition's set ---

SEVEN = ("IncV3", "advV3", "ensV3", "ens4V3", "IncV4", "IncResV2", "ensIncResV2")
EIGHT = (*SEVEN, "ResNet101")
APPENDIX_D_ROWS = [
    ("no_op", "no_op", ()),
    ("sign_noise", "sign_noise", ()),
    ("fgsm_IncV3", "fgsm", ("IncV3",)),
    ("fgsm_ensV3_advV3", "fgsm", ("ensV3", "advV3")),
    ("fgsm_IncV3_IncV4_ensIncResV2", "fgsm", ("IncV3", "IncV4", "ensIncResV2")),
    ("ifgsm5_x7", "ifgsm5", SEVEN),
    ("ifgsm10_x7", "ifgsm10", SEVEN),
    ("ifgsm20_x7", "ifgsm20", SEVEN),
    ("ifgsm10_x8", "ifgsm10", EIGHT),
    ("ifgsm20_x8", "ifgsm20", EIGHT),
    ("difgsm4_x8", "difgsm4", EIGHT),
    ("adaifgsm2_x8", "adaifgsm2", EIGHT),
    ("adaifgsm3_x8", "adaifgsm3", EIGHT),
    ("adaifgsm5_x8", "adaifgsm5", EIGHT),
]


def test_appendix_d_is_its_fourteen_attacks_at_epsilon_16():
    named = {name: Player(name) for name in EIGHT}
    received = [
        (attack.name, attack.method, tuple(model.name for model in attack.models))
        for attack in bind(APPENDIX_D, PAPER._replace(named=named))
    ]
    assert received == [(name, METHODS[method], models) for name, method, models in APPENDIX_D_ROWS]
    assert (APPENDIX_D.lowest, APPENDIX_D.highest) == (16, 16)


def test_a_network_that_plays_several_parts_is_attacked_once():
    named = {name: (INC_V3, RES)[number % 2] for number, name in enumerate(EIGHT)}
    models = {attack.name: attack.models for attack in bind(APPENDIX_D, PAPER._replace(named=named))}
    assert models["ifgsm5_x7"] == models["adaifgsm5_x8"] == (INC_V3, RES)
    assert models["fgsm_IncV3"] == (INC_V3,)


def test_a_part_that_nobody_plays_is_an_error_that_names_it():
    named = {name: INC_V3 for name in EIGHT if name not in ("advV3", "ensV3")}
    for check in (lambda: bind(APPENDIX_D, PAPER._replace(named=named)), lambda: check_players(APPENDIX_D, named)):
        with pytest.raises(TargetError, match="no network plays ensV3, advV3: expected ensV3=NAME in `networks`"):
            check()


def test_nobody_needs_to_play_what_a_recipe_does_not_name():
    check_players(TRAIN_SET, ())
    check_players(APPENDIX_D, EIGHT)


# --- the others ---


UNATTACKED_ROWS = [(name, METHODS[name], ()) for name in ("no_op", "sign_noise")]


def test_the_mix_adds_clean_and_noisy_images():
    assert [tuple(attack) for attack in bind(TRAIN_MIX, PAPER)] == [*UNATTACKED_ROWS, *TRAIN_ROWS]


def test_the_light_mix_is_the_mix_without_its_longest_attack():
    assert TRAIN_ROWS[-1][0] == "ifgsm8_ensemble"
    assert [tuple(attack) for attack in bind(LIGHT_MIX, PAPER)] == [*UNATTACKED_ROWS, *TRAIN_ROWS[:-1]]
    assert (LIGHT_MIX.lowest, LIGHT_MIX.highest) == (1, 16)


def test_the_members_mix_has_each_members_attacks_beside_the_ensembles_and_clean_images():
    alone = [
        (f"{name}_{player.name}", method, (player,))
        for name, method in (("fgsm", FGSM), ("ifgsm4", IFGSM4))
        for player in MEMBERS
    ]
    assert [tuple(attack) for attack in bind(MEMBERS_MIX, PAPER)] == [UNATTACKED_ROWS[0], *alone, WHITE_ROWS[1]]
    assert (MEMBERS_MIX.lowest, MEMBERS_MIX.highest) == (1, 16)


def test_the_mixes_that_transfer_are_the_members_mix_with_other_iterated_attacks():
    """As many attacks, of as many steps, on the same networks: runs compare at an equal budget."""
    names = {
        "diverse_mix": "diverse_ifgsm4",
        "invariant_mix": "invariant_ifgsm4",
        "momentum_mix": "momentum_ifgsm4",
        "transfer_mix": "diverse_invariant_momentum_ifgsm4",
    }
    assert [mix.name for mix in TRANSFER_MIXES] == list(names)
    plain = bind(MEMBERS_MIX, PAPER)
    for mix in TRANSFER_MIXES:
        method = names[mix.name]
        others = bind(mix, PAPER)
        assert len(others) == len(plain)
        for attack, other in zip(plain, others):
            assert other.models == attack.models
            assert other.name == attack.name.replace("ifgsm4", method)
            assert [schedule.steps for schedule in other.method] == [schedule.steps for schedule in attack.method]
            assert other.method == (METHODS[method] if "ifgsm4" in attack.name else attack.method)
        assert mix._replace(name="members_mix", attacks=MEMBERS_MIX.attacks) == MEMBERS_MIX


def test_the_strong_set_is_the_light_mixs_attacks_at_epsilon_16():
    assert [tuple(attack) for attack in bind(STRONG_SET, PAPER)] == TRAIN_ROWS[:-1]
    assert (STRONG_SET.lowest, STRONG_SET.highest) == (16, 16)


def test_training_takes_table_1s_attacks_or_variants_or_the_competitions():
    table_1 = {
        "train_set": TRAIN_SET,
        "train_mix": TRAIN_MIX,
        "light_mix": LIGHT_MIX,
        "members_mix": MEMBERS_MIX,
        **{mix.name: mix for mix in TRANSFER_MIXES},
        "strong_set": STRONG_SET,
    }
    competitions = {"appendix_d": APPENDIX_D, "appendix_d_every_epsilon": APPENDIX_D_EVERY_EPSILON}
    assert {**table_1, **competitions} == TRAINING_RECIPES
    assert {**dict.fromkeys(table_1, VALIDATION_SET), **competitions} == VALIDATION_RECIPES


def test_appendix_ds_attacks_come_with_table_1s_epsilons_too():
    assert APPENDIX_D_EVERY_EPSILON.attacks == APPENDIX_D.attacks
    assert (APPENDIX_D.lowest, APPENDIX_D.highest) == (16, 16)
    assert (APPENDIX_D_EVERY_EPSILON.lowest, APPENDIX_D_EVERY_EPSILON.highest) == (1, 16)


def test_table_4_trains_on_three_quarters_of_the_classes_and_tests_on_the_others():
    parts = {recipe.name: recipe.classes for recipe in CLASS_SPLIT}
    assert parts.pop("seen_classes_train_set") == (0.0, 0.75)
    assert set(parts.values()) == {(0.75, 1.0)}
    assert set(parts) == {
        "unseen_classes_validation_set",
        *(f"unseen_classes_{kind}_eps{epsilon}" for kind in ("white", "black") for epsilon in (4, 16)),
    }


def test_every_recipe_is_found_by_its_name():
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert len(RECIPES) == 22


# --- who plays the parts ---


def test_a_networks_name_may_say_its_side():
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    attacked, expected = load_attacked("mini_resnet@36"), load_target("mini_resnet", image_size=36)
    assert (attacked.name, attacked.image_size) == ("mini_resnet@36", 36)
    np.testing.assert_array_equal(attacked(images)["logits"], expected(images)["logits"])
    names = [attack.name for attack in bind(MEMBERS_MIX, PAPER._replace(members=(attacked,)))]
    assert names == ["no_op", "fgsm_mini_resnet@36", "ifgsm4_mini_resnet@36", "ifgsm4_ensemble"]
    assert load_attacked("mini_resnet").name == "mini_resnet"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mini_resnet@", r"expected mini_resnet@SIDE, a number of pixels, received 'mini_resnet@'"),
        ("mini_resnet@3x", r"expected mini_resnet@SIDE, .* received 'mini_resnet@3x'"),
        ("mini_resnet@-3", r"expected mini_resnet@SIDE, .* received 'mini_resnet@-3'"),
        ("mini_resnet@0", r"image_size must be at least 1, received 0"),
        ("mini_vgg99@32", r"unknown target 'mini_vgg99@32': expected one of mini_inception"),
    ],
)
def test_a_side_that_is_none_is_an_error(name, message):
    with pytest.raises(TargetError, match=message):
        load_attacked(name)


def flags_of(flagfile: str) -> dict[str, str]:
    lines = (ROOT / f"{flagfile}.flags").read_text(encoding="utf-8").splitlines()
    return dict(line[2:].partition("=")[::2] for line in lines if line.startswith("--"))


@pytest.mark.parametrize("flagfile", ["mini", "lite", "slim"])
def test_a_flagfile_names_a_player_of_every_part(flagfile):
    values = flags_of(flagfile)
    named = dict(pair.split("=") for pair in values["networks"].split(","))
    players = {values["target"], *values["members"].split(","), values["holdout"], *named.values()} - {"target"}
    assert players <= set(TARGETS)
    assert set(named) == set(EIGHT)
    assert values["holdout"] not in (values["target"], *values["members"].split(","))


@pytest.mark.parametrize("flagfile, players", [("nips", "slim"), ("nips_lite", "lite")])
def test_the_competitions_training_holds_a_network_out(flagfile, players):
    values, others = (flags_of(name) for name in (flagfile, players))
    named = dict(pair.split("=") for pair in values["networks"].split(","))
    assert named == dict(pair.split("=") for pair in others["networks"].split(","))
    targets, members = values["targets"].split(","), values["members"].split(",")
    assert {*targets, *members, values["holdout"]} - {"target"} <= set(TARGETS)
    assert values["holdout"] not in (*targets, *members, *named.values())
