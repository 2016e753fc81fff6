"""The README's tables say what the committed results do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# In the tables' order: what an attack that knows of the denoiser leaves comes first.
KEYS = ("adaptive_eps4", "adaptive_eps16", "clean", "white_eps4", "white_eps16", "black_eps4", "black_eps16")
PLACES = ("docs/comparisons", "hgd_tf/defenses/shipped")
PUBLISHED = sorted(path for place in PLACES for path in (ROOT / place).glob("*/results.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_every_row_is_in_the_readme(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    for name, accuracy in results["accuracy"].items():
        figures = " | ".join(f"{100 * accuracy[key]:.1f}" for key in KEYS)
        assert f"| {figures} |" in README, f"row {name!r}: | {figures} |"
