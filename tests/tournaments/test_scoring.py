"""Scores against numbers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hgd_tf.tournaments.scoring import (
    AttackScore,
    Classifications,
    DefenseScore,
    attack_scores,
    defense_scores,
    seconds_for,
)

WRITTEN = np.array([[True, True, True], [True, True, False], [True, True, True]])


def classifications(written: np.ndarray = WRITTEN) -> Classifications:
    """Three images; `half` did not write the last one, about which `first` says something all the same."""
    return Classifications(
        attacks=["plain", "half", "aimed"],
        targeted=np.array([False, False, True]),
        defenses=["first", "second"],
        image_ids=["a", "b", "c"],
        true_labels=np.array([1, 2, 3]),
        target_classes=np.array([11, 12, 13]),
        written=written,
        predicted=np.array(
            [
                [[1, 2, 9], [1, 0, 0]],
                [[1, 12, 3], [9, 9, 0]],
                [[1, 12, 13], [11, 2, 3]],
            ]
        ),
    )


def test_what_is_correct_and_what_hits_the_target_class():
    found = classifications()
    np.testing.assert_array_equal(found.correct.sum(axis=2), [[2, 1], [1, 0], [1, 2]])
    np.testing.assert_array_equal(found.hits.sum(axis=2), [[0, 0], [0, 0], [2, 1]])
    np.testing.assert_array_equal(found.complete, [True, False, True])


def test_defenses_have_both_scores_and_their_worst_cases():
    assert defense_scores(classifications()) == [
        DefenseScore("first", 4, 0.5, pytest.approx(1 / 3), "aimed", pytest.approx(1 / 3)),
        DefenseScore("second", 3, 0.5, pytest.approx(1 / 3), "plain", 0.0),
    ]


def test_attacks_are_scored_by_what_is_not_correct_and_targeted_ones_by_their_hits():
    assert attack_scores(classifications()) == [
        AttackScore("half", False, 5, None, 2),
        AttackScore("plain", False, 3, 0.5, 3),
        AttackScore("aimed", True, 3, 0.5, 3),
    ]


def test_without_a_complete_attack_only_the_development_score_is_left():
    written = WRITTEN.copy()
    written[:, 2] = False
    first, second = defense_scores(classifications(written))
    assert (first.name, first.score, first.normalized, first.worst_accuracy) == ("first", 4, None, None)
    assert (second.score, second.worst_attack, second.worst_image_accuracy) == (2, None, None)
    assert [score.normalized for score in attack_scores(classifications(written))] == [None] * 3


def test_equal_scores_are_ranked_by_name():
    found = classifications()
    equal = found._replace(defenses=["z", "y"], predicted=np.repeat(found.predicted[:, :1], 2, axis=1))
    assert [(score.name, score.score) for score in defense_scores(equal)] == [("y", 4), ("z", 4)]


def test_times_are_medians_of_what_a_hundred_images_take():
    assert seconds_for(100, [(10.0, 100), (6.0, 50), (1.0, 1)]) == 12.0
    assert seconds_for(100, []) is None
