"""The README's first command, from an untrained denoiser to its table, and the claims that are made for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.long
def test_logits_guidance_defends_the_embedded_target(tmp_path):
    command = [sys.executable, "-m", "hgd_tf.train", "--flagfile=lgd.flags"]
    subprocess.run([*command, f"--run_dir={tmp_path}/lgd", f"--sets_dir={tmp_path}/sets"], cwd=ROOT, check=True)
    accuracy = json.loads((tmp_path / "lgd/results.json").read_text(encoding="utf-8"))["accuracy"]
    none, logits = accuracy["none"], accuracy["logits"]
    assert logits["white_eps16"] >= none["white_eps16"] + 0.45
    for column in ("black_eps16", "white_eps4"):
        taken = none["clean"] - none[column]
        assert logits[column] - none[column] >= taken / 2, column
    assert logits["clean"] >= none["clean"] - 0.02
    assert none["adaptive_eps16"] <= 0.02
