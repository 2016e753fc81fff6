"""Threat models as data, attacks on what is left, and checks that deceptive defences fail."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.attacks import GradientAttack
from hgd_tf.data import load_fashion_mnist
from hgd_tf.defenses import Defense, load_defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.errors import HgdError, RunError
from hgd_tf.evaluation import attack_table, attackers, evaluate_table
from hgd_tf.evaluation.attack_suite import AttackSuite
from hgd_tf.evaluation.attack_table import attack_and_save
from hgd_tf.evaluation.attackers import SOME_IMAGES
from hgd_tf.evaluation.sanity import Check, sanity_checks
from hgd_tf.evaluation.threat_models import CLEAN, PRESETS, ThreatModel, preset, read_threat_models
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

IMAGES = load_fashion_mnist().test.head(40)
TARGET = load_target("mini_inception")
HOLDOUT = load_target("mini_vgg")


def _plain(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"logits": TARGET(images, training=False)["logits"]}


def _holdout(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return HOLDOUT(images, training=False)


def _quantized(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return _plain(32.0 * tf.round(images / 32.0))


def _randomized(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return _plain(images + tf.random.normal(tf.shape(images), stddev=12.0))


def _saturated(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"logits": 1e4 * _plain(images)["logits"]}


def _probabilities(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"logits": tf.nn.softmax(_plain(images)["logits"])}


def _shattered(images: tf.Tensor) -> dict[str, tf.Tensor]:
    return _plain(images + 4.0 * tf.sin(40.0 * images))


def _detecting(images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Lets no gradient through where a background is not black."""
    logits = _plain(images)["logits"]
    dark = tf.reduce_sum(tf.cast((images > 0.0) & (images < 12.0), tf.float32), axis=(1, 2, 3))
    return {"logits": tf.where(dark[:, tf.newaxis] > 30.0, tf.stop_gradient(logits), logits)}


TRAPS = {
    _quantized: "gradients are numbers, and not zero",
    _randomized: "answers twice alike, or is attacked with expectation",
    _saturated: "gradients are numbers, and not zero",
    _probabilities: "outputs are logits",
    _shattered: "the loss changes as its gradient says",
    _detecting: "the mean loss rises along the attack",
}


def counted(monkeypatch) -> list[int]:
    """Of each attack with gradients from here on, how many images it was made on."""
    attacked: list[int] = []

    class Counted(attackers.GradientAttack):
        def __call__(self, images, *args, **kwargs):
            attacked.append(len(images))
            return super().__call__(images, *args, **kwargs)

    monkeypatch.setattr(attackers, "GradientAttack", Counted)
    return attacked


@pytest.mark.slow
def test_an_honest_defence_passes_every_check():
    checks = sanity_checks(load_defense("mini_inception_adaptive"), IMAGES, 16.0, _holdout)
    assert len(checks) == 9
    assert [str(check) for check in checks if not check.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_a_deceptive_defence_fails_its_check(trap):
    failed = [check.name for check in sanity_checks(trap, IMAGES.head(SOME_IMAGES), 16.0) if not check.passed]
    assert TRAPS[trap] in failed


@pytest.fixture(scope="module")
def worst():
    """What is held by each trap's name; of one suite, which attacks the held-out network once for all."""
    models = [attacker for attacker in preset("worst", 16.0) if attacker.knowledge != "oblivious"]
    return AttackSuite({trap.__name__: trap for trap in TRAPS}, [CLEAN, *models], IMAGES, holdout=_holdout).run()


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_the_worst_of_attacks_breaks_a_deceptive_defence(trap, worst):
    held = worst[trap.__name__]
    assert held["clean"].accuracy > 0.6
    # Of what is quantized, answers alone show little; an attack that knows how takes the step for the identity.
    assert held["worst_eps16"].accuracy <= (0.3 if trap is _quantized else 0.05)


@pytest.mark.slow
def test_quantization_taken_for_the_identity_backwards_breaks():
    """Backward pass differentiable approximation (Athalye et al. 2018, arXiv 1802.00420, section 4.1)."""

    def straight_through(images):
        return _plain(images + tf.stop_gradient(32.0 * tf.round(images / 32.0) - images))

    left = {}
    for name, known in (("identity", straight_through), ("own gradients", _quantized)):
        attacked = GradientAttack(known, steps=40)(IMAGES.images, IMAGES.labels, 16.0).images
        answers = np.argmax(_quantized(tf.constant(attacked))["logits"], axis=1)
        left[name] = np.mean(answers == IMAGES.labels)
    # Auto-PGD with restarts leaves a fifth, too: so many hold.
    assert left["identity"] <= 0.3 and left["own gradients"] >= 0.8


def test_each_attack_is_run_on_what_those_before_it_left_and_an_interrupted_suite_goes_on(tmp_path, monkeypatch):
    defense = Ensemble([Flow([], [TARGET], "none")])
    known = [
        ThreatModel(key="known", knowledge="oblivious", epsilon=8.0, steps=4, step=0.25),
        ThreatModel(key="known", epsilon=8.0, steps=4, step=0.25),
        ThreatModel(key="known", method="square", epsilon=8.0, steps=20),
    ]
    attacked = counted(monkeypatch)

    def run():
        return AttackSuite({"LGD": defense}, [CLEAN, *known], IMAGES, keep_in=tmp_path / "kept.json").run()["LGD"]

    monkeypatch.setattr(attackers, "SquareAttack", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    assert len(attacked) == 2
    monkeypatch.undo()
    monkeypatch.setattr(attackers, "GradientAttack", lambda *args, **kwargs: pytest.fail("attacked twice"))
    held = run()
    assert attacked == [held["clean"].answers.sum(), held["known"].by_attacker[0]]
    left = [int(held["clean"].answers.sum()), *held["known"].by_attacker]
    assert left == sorted(left, reverse=True) and left[-1] == held["known"].answers.sum()
    if held["known"].answers.any():
        assert held["known"].gradients >= 10 and held["known"].queries >= 20
    monkeypatch.undo()
    (tmp_path / "kept.json").unlink()
    fresh = run()
    np.testing.assert_array_equal(fresh["known"].answers, held["known"].answers)


@pytest.mark.slow
def test_a_table_of_threat_models_says_what_is_in_doubt(tmp_path, monkeypatch):
    fields = {"target": "mini_vgg", "members": ["target"], "holdout": "mini_resnet", "adaptive_images": 12}
    described = {"experiment": fields, "denoisers": {"median": {"filter": "median", "channels": 1}}}
    described |= {"targets": {"vgg": {"name": "mini_vgg"}}, "rows": {"none": ["vgg"], "median": ["median->vgg"]}}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(described))
    models = (ThreatModel(key="known", title="Known", steps=3), ThreatModel(key="blind", knowledge="oblivious"))
    measure = functools.partial(attack_and_save, threat_models=models)
    checks = attack_table.sanity_checks
    broken = [Check("gradients are numbers, and not zero", False, "of 0% of the images")]
    monkeypatch.setattr(
        attack_table, "sanity_checks", lambda one, *rest: broken if one.flows[0].denoisers else checks(one, *rest)
    )
    lines = evaluate_table(path, tmp_path / "out", tmp_path / "sets", measure=measure).splitlines()
    titles, kinds, none, median = (line.split() for line in lines[-7:-3])
    assert titles == ["mini_vgg", "behind", "Clean", "Known", "blind"]
    assert kinds == ["(none)", "(end_to_end)", "(oblivious)"]
    assert none[0] == "none" and not any("*" in cell for cell in none)
    assert median[4] == "%*" and median[2] == "%" and median[6] == "%"
    assert any(line.startswith("  FAIL  gradients") for line in lines) and lines[-1].startswith("* ")
    results = json.loads((tmp_path / "out" / "threat_models.json").read_text())
    assert results["rows"]["median"]["known"]["in_doubt"] and not results["rows"]["none"]["known"]["in_doubt"]
    assert results["rows"]["none"]["clean"]["images"] == 12
    card = results["rows"]["median"]["known"]["robustbench"]
    assert card["eps"] == "4/255" and card["autoattack_acc"] is None
    assert f"{float(card['clean_acc']):.1f}" == median[1] and f"{float(card['reported']):.1f}" == median[3]
    assert results["rows"]["median"]["blind"]["robustbench"] is None
    assert float(none[1]) == round(100 * results["rows"]["none"]["clean"]["accuracy"], 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["threat_models.csv", "threat_models.json"]


def test_an_attack_of_several_columns_is_made_once_on_each_image(monkeypatch):
    attacked = counted(monkeypatch)
    short = ThreatModel(key="short", epsilon=2.0, steps=2)
    other = ThreatModel(key="other", epsilon=2.0, steps=2, loss="margin")
    together = [dataclasses.replace(each, key="together") for each in (other, short)]
    held = AttackSuite({"": _plain}, [CLEAN, short, *together], IMAGES).run()[""]
    right, after_short, after_other = (int(held[key].answers.sum()) for key in ("clean", "short", "together"))
    assert attacked == [right, right]
    assert 0 < after_other <= after_short < right
    assert held["together"].gradients == 6 and held["short"].gradients == 3

    attacked.clear()
    blind = ThreatModel(key="blind", knowledge="transfer", epsilon=8.0, steps=2)
    held = AttackSuite({"plain": _plain, "quantized": _quantized}, [blind], IMAGES, holdout=_holdout).run()
    right = [
        np.argmax(one(tf.constant(IMAGES.images, tf.float32))["logits"], 1) == IMAGES.labels
        for one in (_plain, _quantized)
    ]
    assert attacked[0] == right[0].sum() and sum(attacked) == (right[0] | right[1]).sum()
    assert held["plain"]["blind"].accuracy < right[0].mean()


def test_side_rounding_and_transport_are_fields_of_a_threat_model():
    seen = {}

    def recorded(images):
        seen[images.shape[1]] = images.numpy()
        return _plain(tf.image.resize(images, (28, 28)))

    def holdout(images):
        return _holdout(tf.image.resize(images, (28, 28)))

    def attacked(**fields):
        model = ThreatModel(knowledge="transfer", epsilon=2.5, steps=2, **fields)
        AttackSuite({"": recorded}, [model], IMAGES, holdout=holdout, at_side=lambda side: at_56).run()
        return seen.popitem()

    at_56 = IMAGES._replace(images=np.repeat(np.repeat(IMAGES.images, 2, axis=1), 2, axis=2))
    side, images = attacked(side=56)
    assert side == 56
    moved = np.abs(images - at_56.images[: len(images)])
    side, images = attacked(side=56, transport="resize:0.5:bilinear")
    assert side == 28
    _, images = attacked(rounding=True)
    np.testing.assert_array_equal(images, np.round(images))
    assert np.any(moved != np.round(moved))


@pytest.mark.slow
def test_gradients_pass_a_denoiser_as_the_identity_and_surrogates_may_be_defences():
    """BPDA through a filter that quantizes; and a transfer from the defence itself, which is its end to end attack."""
    pixels = keras.Input((28, 28, 1))
    quantizing = keras.Model(pixels, keras.layers.Lambda(lambda images: 32.0 * tf.round(images / 32.0))(pixels))
    defenses = {"quantized": Defense(quantizing, TARGET), "LGD": load_defense("mini_inception_lgd")}
    models = [
        ThreatModel(key="exact", epsilon=16.0),
        ThreatModel(key="identity", epsilon=16.0, backward="identity"),
        ThreatModel(key="of_lgd", knowledge="transfer", networks=("mini_inception_lgd",), epsilon=16.0),
    ]
    held = AttackSuite(defenses, models, IMAGES).run()
    assert held["quantized"]["exact"].accuracy > 0.8 and held["quantized"]["identity"].accuracy <= 0.3
    np.testing.assert_array_equal(held["LGD"]["of_lgd"].answers, held["LGD"]["exact"].answers)


def test_presets_are_columns_of_their_radius():
    for name in PRESETS:
        models = preset(name, 0.5)
        assert {attacker.key for attacker in models} == {f"{name}_eps0.5"}
        assert {attacker.epsilon for attacker in models} == {0.5}
    assert [attacker.key for attacker in read_threat_models(["pgd", "square"], [1, 2.5])] == [
        "pgd_eps1",
        "pgd_eps2.5",
        "square_eps1",
        "square_eps2.5",
    ]


def test_a_file_describes_threat_models(tmp_path):
    path = tmp_path / "models.json"
    path.write_text(json.dumps([{"method": "apgd", "epsilon": 1.5, "norm": "l2", "networks": []}]))
    assert read_threat_models(path) == (ThreatModel(method="apgd", epsilon=1.5, norm="l2"),)


@pytest.mark.parametrize(
    "content, expected",
    [
        ([{"method": "apdg"}], "method: expected one of pgd, apgd, square, received 'apdg'"),
        ([{"epsilon": -1}], "epsilon: expected more than 0, received -1"),
        ([{"knowledge": "oblivious", "networks": ["mini_vgg"]}], "`networks` go with `knowledge` transfer"),
        ([{"method": "square", "targets": 9}], "`targets` go with gradients"),
        ([{"epsilom": 1}], "received 'epsilom'"),
        ({}, "expected an array"),
        ([], "expected an array"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, expected):
    path = tmp_path / "models.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=expected.replace("[", r"\[")) as error:
        read_threat_models(path)
    assert str(path) in str(error.value)


def test_an_unknown_name_is_refused():
    with pytest.raises(HgdError, match=r"expected one of oblivious, .*, or a JSON file, received 'wurst'"):
        read_threat_models(["wurst"])
