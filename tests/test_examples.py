"""The programs in `examples/`, as a user runs them: what they print, and that oblivious is never called adaptive."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
LIMIT = 400  # seconds that a process may take on a busy machine
pytestmark = pytest.mark.slow


def _output(example: str, folder: Path) -> str:
    command = [sys.executable, EXAMPLES / example]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _printed(example: str, folder: Path) -> dict[str, float]:
    """Accuracies by the beginning of what is said of them, up to the threat model."""
    lines = re.findall(r"^ *([\d.]+) %  ([^(\n]+(?:\(\w+)?)", _output(example, folder), re.MULTILINE)
    return {title.strip(): float(accuracy) for accuracy, title in lines}


def test_a_guarded_classifier_holds_against_the_oblivious_attack_alone(tmp_path):
    accuracy = _printed("guard_your_classifier.py", tmp_path)
    assert len(accuracy) == 5
    assert accuracy["clean, no defence"] > 75
    assert accuracy["clean, guarded"] > accuracy["clean, no defence"] - 10
    assert accuracy["FGSM, guarded (oblivious"] > accuracy["FGSM, no defence"] + 5
    assert accuracy["PGD, guarded (adaptive"] < accuracy["FGSM, guarded (oblivious"] - 10
    assert not any(tmp_path.iterdir())


def test_the_end_to_end_attack_is_the_stronger_one(tmp_path):
    accuracy = _printed("attack_a_defence.py", tmp_path)
    assert len(accuracy) == 5
    assert accuracy["clean, defended"] > 85
    assert accuracy["attacked, defended (oblivious"] > accuracy["attacked, no defence"] + 10
    assert accuracy["attacked, defended (adaptive"] < accuracy["attacked, defended (oblivious"] - 10
    assert not any(tmp_path.iterdir())


def test_a_trained_denoiser_restores_what_the_users_classifier_sees(tmp_path):
    accuracy = _printed("train_a_denoiser.py", tmp_path)
    assert len(accuracy) == 4
    assert accuracy["clean, defended (oblivious"] > accuracy["clean, no defence"] - 5
    assert accuracy["FGSM, defended (oblivious"] > accuracy["FGSM, no defence"] + 8
    assert not any(tmp_path.iterdir())


def test_an_evaluation_has_a_row_for_each_defence_under_every_threat_model(tmp_path):
    accuracy = _printed("evaluate_and_export.py", tmp_path)
    assert len(accuracy) == 3 * 7
    for threat in ("clean (no", "white_eps16 (oblivious", "adaptive_eps16 (end"):
        assert accuracy[f"ensemble, {threat}"] != accuracy[f"no defence, {threat}"]
    assert accuracy["defended, white_eps16 (oblivious"] > accuracy["no defence, white_eps16 (oblivious"] + 20
    assert not any(tmp_path.iterdir())


def test_the_picture_shows_what_breaks_the_defence_and_what_does_not(tmp_path):
    lines = re.findall(r"^(.+): class (\d+) alone, (\d+) defended$", _output("break_the_defence.py", tmp_path), re.M)
    answers = {title: (int(alone), int(defended)) for title, alone, defended in lines}
    label = answers["clean"][0]
    assert answers["clean"][1] == answers["oblivious"][1] == label
    assert label not in (answers["oblivious"][0], answers["end to end"][1])
    with Image.open(tmp_path / "broken.png") as picture:
        clean, oblivious, end_to_end = np.split(np.asarray(picture, int)[:280], 3, axis=1)
    assert 0 < np.abs(oblivious - clean).max() <= 4
    assert 0 < np.abs(end_to_end - clean).max() <= 4


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_use_what_is_public(example):
    source = example.read_text(encoding="utf-8")
    assert source.count("\n") < 50
    imported = re.findall(r"^(?:import|from) (\S+)", source, re.MULTILINE)
    assert set(imported) <= {"PIL", "hgd_tf", "numpy", "sys", "tempfile", "tensorflow"}
