"""Evaluation of ensembles: figures and adaptive attacks by hand, of linear targets."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from linear_target import SIZE, affine_denoiser, linear_target, random_weights

from hgd_tf.crafting import AttackedSet
from hgd_tf.data import LabeledImages
from hgd_tf.defenses import Defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.evaluation import evaluate, evaluate_defense
from hgd_tf.evaluation.evaluate import evaluate_defenses
from hgd_tf.evaluation.flops import gflop_per_image
from hgd_tf.targets import resize_to

COUNT = 60
RNG = np.random.default_rng(5)
# Of enough contrast that an attack of epsilon 4 does not turn all, and nowhere clipped at 16.
CLEAN = LabeledImages(RNG.integers(20, 230, (COUNT, SIZE, SIZE, 1)).astype(np.uint8), RNG.integers(0, 2, COUNT))
STORED = RNG.integers(0, 256, (1, COUNT, SIZE, SIZE, 1)).astype(np.uint8)
WEIGHTS = [random_weights(seed) for seed in (0, 1)]
AFFINES = [(1.0, 2.0), (-0.9, 238.0)]
SLOPES = [factor * weights for (factor, _), weights in zip(AFFINES, WEIGHTS)]


def logits(images, member: int) -> np.ndarray:
    """Of class 0, which those of class 1 are opposite to."""
    factor, offset = AFFINES[member]
    denoised = factor * images.reshape(len(images), -1).astype(np.float64) + offset
    return (0.01 * denoised - 1.25) @ WEIGHTS[member]


def accuracy(values: np.ndarray) -> float:
    return float(np.mean(np.where(values > 0, 0, 1) == CLEAN.labels))


def loss(images, member: int) -> float:
    factor, offset = AFFINES[member]
    return float(np.mean(np.abs(factor * images.astype(np.float64) + offset - CLEAN.images)) / 255)


def attacked_along(slope: np.ndarray, epsilon: int) -> np.ndarray:
    """Every pixel at the border of the ball where the label's logit, of that slope for class 0, is least."""
    away = np.where(CLEAN.labels == 0, -1, 1).reshape(-1, 1, 1, 1) * np.sign(slope).reshape(SIZE, SIZE, 1)
    return CLEAN.images + epsilon * away


@pytest.fixture(scope="module")
def flows() -> list[Flow]:
    return [
        Flow([affine_denoiser(*affine)], [linear_target(weights, f"linear{number}")], f"{number}")
        for number, (affine, weights) in enumerate(zip(AFFINES, WEIGHTS))
    ]


@pytest.fixture(scope="module")
def sets() -> evaluate.TestSets:
    stored = AttackedSet(CLEAN, ("fgsm",), STORED, np.zeros((1, COUNT), np.int64))
    return evaluate.TestSets(CLEAN, {"white_eps4": stored}, COUNT, seed=3)


@pytest.fixture(scope="module")
def result(flows, sets):
    return evaluate_defense(Ensemble(flows), sets)


def test_accuracy_is_that_of_the_mean_logits_by_hand(result):
    clean, stored = (accuracy(logits(some, 0) + logits(some, 1)) for some in (CLEAN.images, STORED[0]))
    assert (result.accuracy["clean"], result.per_attack["white_eps4/fgsm"]) == pytest.approx((clean, stored))
    assert stored not in [accuracy(logits(STORED[0], member)) for member in (0, 1)]


def test_denoising_loss_is_the_mean_over_the_flows_by_hand(result):
    for key, some in (("clean", CLEAN.images), ("white_eps4", STORED[0])):
        assert result.denoising_loss[key] == pytest.approx((loss(some, 0) + loss(some, 1)) / 2, rel=1e-4)


@pytest.mark.parametrize("epsilon", [4, 16])
def test_the_adaptive_attack_goes_through_all_parts(result, epsilon):
    """Along the slope of the mean logits, each member's through its denoiser."""
    attacked = attacked_along(sum(SLOPES), epsilon)
    key = f"adaptive_eps{epsilon}"
    assert result.accuracy[key] == pytest.approx(accuracy(logits(attacked, 0) + logits(attacked, 1)))
    assert result.denoising_loss[key] == pytest.approx((loss(attacked, 0) + loss(attacked, 1)) / 2, rel=1e-4)


def test_an_ensembles_adaptive_accuracy_is_not_its_members(result, flows, sets):
    """Nor that of images which fool a member the most: they fool the ensemble less."""
    ours = result.accuracy["adaptive_eps4"]
    assert 0 < ours < result.accuracy["clean"]
    for number, (flow, slope) in enumerate(zip(flows, SLOPES)):
        attacked = attacked_along(slope, 4)
        alone = evaluate_defense(Ensemble([flow]), sets).accuracy["adaptive_eps4"]
        assert alone == pytest.approx(accuracy(logits(attacked, number)))
        assert alone != pytest.approx(ours)
        assert accuracy(logits(attacked, 0) + logits(attacked, 1)) > ours


def test_an_ensemble_of_one_flow_is_that_defense(flows, sets):
    defense = Defense(*flows[1].denoisers, *flows[1].targets)
    assert evaluate_defense(Ensemble(flows[1:]), sets) == evaluate_defense(defense, sets)


def test_what_rows_have_in_common_answers_once_and_each_row_as_if_alone(flows, sets, monkeypatch):
    """But for the images of its adaptive attack, which are a row's own."""
    rows = {"first": Ensemble(flows[:1]), "both": Ensemble(flows), "mixed": Ensemble([_mixed(flows)])}
    alone = {name: evaluate_defense(ensemble, sets) for name, ensemble in rows.items()}
    called: list[int] = []

    def counting(model):
        return lambda images: (called.append(id(model)), model(images, training=False))[1]

    monkeypatch.setattr(evaluate, "_compiled", counting)
    found = evaluate_defenses(rows, sets._replace(adaptive_images=1))
    for name, result in found.items():
        assert result.per_attack == alone[name].per_attack
        assert result.denoising_loss["white_eps4"] == pytest.approx(alone[name].denoising_loss["white_eps4"], rel=1e-5)
    # Clean and one stored set, a batch each, and two adaptive attacks for each row with that denoiser.
    assert called.count(id(flows[0].denoisers[0])) == 2 + 2 * 3
    assert called.count(id(flows[1].denoisers[0])) == 2 + 2 * 2
    # The mixed row's average is of images that no other row has.
    assert called.count(id(flows[0].targets[0])) == 2 + 2 * 2 + 2 + 2


def _mixed(flows: list[Flow]) -> Flow:
    return Flow([flow.denoisers[0] for flow in flows], flows[0].targets, "0&1->0")


def test_flows_may_be_of_several_sizes(flows, sets):
    """Each flow's loss is at its first target's size."""
    small = linear_target(random_weights(2)[: 12 * 12], "small", 12)
    ensemble = Ensemble([*flows[:1], Flow([], [small, flows[0].targets[0]], "small&linear0")])
    found = evaluate_defense(ensemble, sets)
    difference = resize_to(tf.constant(STORED[0]), 12) - resize_to(tf.constant(CLEAN.images), 12)
    second = float(tf.reduce_mean(tf.abs(difference))) / 255
    assert found.denoising_loss["white_eps4"] == pytest.approx((loss(STORED[0], 0) + second) / 2, rel=1e-4)
    assert found.denoising_loss["clean"] == pytest.approx(loss(CLEAN.images, 0) / 2, rel=1e-4)
    classes = ensemble(tf.constant(CLEAN.images))["classes"].numpy()
    assert found.accuracy["clean"] == pytest.approx(np.mean(classes == CLEAN.labels))
    assert found.accuracy["adaptive_eps16"] < found.accuracy["clean"]
    assert found.gflop == gflop_per_image(ensemble)


def test_images_are_attacked_as_many_at_a_time_as_the_targets_leave_room_for(flows):
    large = linear_target(np.zeros(256 * 256, np.float32), "large", 256)
    batches = [
        evaluate.attacked_at_a_time(Ensemble(some))
        for some in (flows[:1], flows, [Flow([], [large], "large")], [*flows, Flow([], [large], "large")])
    ]
    assert batches == [250, 125, 16, 5]
