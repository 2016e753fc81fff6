"""The recipes against Table 1 of the paper, bound to stand-ins of its networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hgd_tf.attacks import TEST_SETS, TRAIN_SET, VALIDATION_SET, Roles, bind

INC_V3, INC_RES_V2, RES, INC_V4 = (SimpleNamespace(name=name) for name in ("IncV3", "IncResV2", "Res", "IncV4"))
MEMBERS = (INC_V3, INC_RES_V2, RES)
PAPER = Roles(INC_V3, MEMBERS, INC_V4)
FGSM, IFGSM2, IFGSM4, IFGSM8 = ((((1 / count,) * count, "image", 0.0),) for count in (1, 2, 4, 8))

# Table 1: (name, (steps in units of epsilon, start, momentum), attacked networks) of every attack.
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
