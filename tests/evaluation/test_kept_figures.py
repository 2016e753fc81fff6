"""An interrupted evaluation goes on where it was."""

from __future__ import annotations

import functools
import json
from typing import Optional

import numpy as np
import pytest
from linear_target import SIZE, affine_denoiser, linear_target, random_weights

from hgd_tf.attacks import SignGradientAttack
from hgd_tf.crafting import AttackedSet
from hgd_tf.data import LabeledImages
from hgd_tf.defenses import Defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.evaluation import evaluate

COUNT, ADAPTIVE = 12, 4
KEYS = ("white_eps4", "white_eps16", "black_eps4", "black_eps16")
TARGET = linear_target(random_weights(0))
DEFENSES = {
    "none": Defense(None, TARGET),
    "halving": Defense(affine_denoiser(0.5, 60.0), TARGET),
}
# Clean, two attacks in each stored set, and two strengths of the adaptive attack on each defence.
STEPS = 1 + 2 * len(KEYS) + 2 * len(DEFENSES)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Evaluations of the same ensembles share what is compiled for them."""
    attack = functools.cache(lambda ensemble, label: SignGradientAttack([ensemble], label))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "SignGradientAttack", lambda models, label: attack(*models, label))
        patch.setattr(evaluate, "_compiled", functools.cache(evaluate._compiled))
        yield


@pytest.fixture(scope="module")
def unbroken(compiled_once):
    """What an evaluation finds that nothing interrupts."""
    return evaluate.evaluate_defenses(DEFENSES, _sets())


def _sets(seed: int = 0) -> evaluate.TestSets:
    rng = np.random.default_rng(seed)
    clean = LabeledImages(rng.integers(0, 256, (COUNT, SIZE, SIZE, 1)).astype(np.uint8), rng.integers(0, 2, COUNT))
    attacked = {
        key: AttackedSet(
            clean,
            ("fgsm", "ifgsm4"),
            rng.integers(0, 256, (2, *clean.images.shape)).astype(np.uint8),
            np.zeros((2, COUNT), np.int64),
        )
        for key in KEYS
    }
    return evaluate.TestSets(clean, attacked, ADAPTIVE, seed=seed)


@pytest.fixture
def measured(monkeypatch):
    """How many images were measured, by call; in place of the call after `measured.limit` others it raises."""
    counted = _Measured()
    monkeypatch.setattr(evaluate, "_measure", counted)
    return counted


class _Measured:
    def __init__(self):
        self.counts: list[int] = []
        self.limit: Optional[int] = None
        self._measure = evaluate._measure

    def __call__(self, ensembles, compiled, attacked, *arguments):
        if len(self.counts) == self.limit:
            raise KeyboardInterrupt
        self.counts.append(len(attacked))
        return self._measure(ensembles, compiled, attacked, *arguments)


def _interrupted(measured, path, after: int, sets: evaluate.TestSets) -> None:
    measured.limit = after
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate_defenses(DEFENSES, sets, keep_in=path)
    measured.limit = None
    measured.counts.clear()


@pytest.mark.parametrize("after", [1, 4, STEPS - 1])
def test_an_interrupted_evaluation_measures_the_rest_alone_and_finds_the_same(unbroken, measured, tmp_path, after):
    sets = _sets()
    _interrupted(measured, tmp_path / "kept.json", after, sets)
    reported = []
    found = evaluate.evaluate_defenses(DEFENSES, sets, reported.append, tmp_path / "kept.json")
    assert found == unbroken
    assert len(measured.counts) == STEPS - after
    assert sum(reported) == len(DEFENSES) * evaluate.image_count(sets)


def test_a_finished_evaluation_leaves_its_figures_to_the_caller(measured, tmp_path):
    evaluate.evaluate_defenses(DEFENSES, _sets(), keep_in=tmp_path / "kept.json")
    assert len(json.loads((tmp_path / "kept.json").read_text())["steps"]) == STEPS
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def _other_images():
    return DEFENSES, _sets(1)._replace(seed=0)


def _other_labels():
    sets = _sets()
    return DEFENSES, sets._replace(clean=sets.clean._replace(labels=1 - sets.clean.labels))


def _other_attacked():
    sets = _sets()
    one = sets.attacked["white_eps4"]
    return DEFENSES, sets._replace(attacked={**sets.attacked, "white_eps4": one._replace(attacked=one.attacked[::-1])})


def _other_weights():
    return {**DEFENSES, "halving": Defense(affine_denoiser(0.5, 61.0), TARGET)}, _sets()


def _other_target():
    target = linear_target(random_weights(1))
    denoisers = {name: ensemble.flows[0].denoisers for name, ensemble in DEFENSES.items()}
    return {name: Ensemble([Flow(list(some), [target], name)]) for name, some in denoisers.items()}, _sets()


def _other_weight_of_a_flow():
    (flow,) = DEFENSES["none"].flows
    return {**DEFENSES, "none": Ensemble([Flow(flow.denoisers, flow.targets, flow.title, 0.5)])}, _sets()


@pytest.mark.parametrize(
    "change",
    [
        _other_images,
        _other_labels,
        _other_attacked,
        _other_weights,
        _other_target,
        _other_weight_of_a_flow,
        lambda: (dict(zip(DEFENSES, reversed(DEFENSES.values()))), _sets()),
        lambda: ({**DEFENSES, "third": DEFENSES["none"]}, _sets()),
        lambda: (DEFENSES, _sets()._replace(adaptive_images=3)),
        lambda: (DEFENSES, _sets()._replace(seed=1)),
    ],
)
def test_another_evaluation_begins_anew(measured, tmp_path, change):
    _interrupted(measured, tmp_path / "kept.json", 4, _sets())
    defenses, sets = change()
    measured.limit, reported = 0, []
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate_defenses(defenses, sets, reported.append, tmp_path / "kept.json")
    assert reported == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"identity": "another", "steps": {"clean": {}}}'])
def test_a_damaged_file_counts_as_absent(unbroken, measured, tmp_path, content):
    (tmp_path / "kept.json").write_text(content)
    assert evaluate.evaluate_defenses(DEFENSES, _sets(), keep_in=tmp_path / "kept.json") == unbroken
    assert len(measured.counts) == STEPS
