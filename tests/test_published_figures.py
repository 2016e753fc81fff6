"""The pages' tables, and the shipped defences' cards, say what the committed results do."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hgd_tf.defenses.saving import SHIPPED, shipped_defenses
from hgd_tf.training.run_directory import read_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
# In the tables' order: what an attack that knows of the denoiser leaves comes first.
KEYS = ("adaptive_eps4", "adaptive_eps16", "clean", "white_eps4", "white_eps16", "black_eps4", "black_eps16")
COMPARISONS = ROOT / "experiments"
PUBLISHED = sorted(path for place in (COMPARISONS, SHIPPED) for path in place.glob("*/results.json"))
KNOWN = sorted(path for place in (COMPARISONS, SHIPPED) for path in place.glob("*/threat_models.json"))
CARDS = {  # results, the row of no defence, the defence's own
    "efficientnet_lite0_lgd": (SHIPPED / "efficientnet_lite0_lgd", "none", "logits_distillation"),
    "efficientnet_lite0_fgd": (COMPARISONS / "competition", "Lite0", "FGD0->Lite0"),
    "efficientnet_lite1_lgd": (COMPARISONS / "members_lite1", "none", "LGD1->Lite1"),
    "efficientnet_lite1_fgd": (COMPARISONS / "members_lite1", "none", "FGD1->Lite1"),
    "mini_inception_adaptive": (SHIPPED / "mini_inception_adaptive", "none", "label_adaptive"),
    "mini_inception_lgd": (SHIPPED / "mini_inception_lgd", "none", "logits"),
}


def read(path: Path) -> dict[str, dict[str, float]]:
    return json.loads(path.read_text(encoding="utf-8"))["accuracy"]


def cells(accuracy: dict[str, float], setting: str = "") -> str:
    """A row's figures under a setting, such as `@299`."""
    return f"| {' | '.join(f'{100 * accuracy[key + setting]:.1f}' for key in KEYS)} |"


def settings(accuracy: dict[str, float]) -> list[str]:
    """Every setting, by the ending that keys have under it."""
    return [key[len("clean") :] for key in accuracy if key.startswith("clean")]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_every_row_is_on_a_page(path):
    """Or on the card, of a defence of embedded images: the README's row is of whoever trains it."""
    is_on_card = path.parent.name.startswith("mini_")
    page = path.with_name("README.md").read_text(encoding="utf-8") if is_on_card else PAGES
    for name, accuracy in read(path).items():
        for setting in settings(accuracy):
            assert cells(accuracy, setting) in page, f"row {name!r}{setting}: {cells(accuracy, setting)}"


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.parent.name)
def test_every_row_under_threat_models_is_on_a_page(path):
    card = path.with_name("README.md")
    page = card.read_text(encoding="utf-8") if card.exists() else PAGES
    for name, row in json.loads(path.read_text(encoding="utf-8"))["rows"].items():
        shown = [f"{100 * held['accuracy']:.1f}{'*' if held['in_doubt'] else ''}" for held in row.values()]
        assert f"| {' | '.join(shown)} |" in page, f"row {name!r}: {shown}"


def test_the_tournaments_table_is_the_organizers_file():
    with (COMPARISONS / "tournament" / "accuracy_on_attacks.csv").open(newline="", encoding="utf-8") as file:
        _, *attacks = csv.reader(file)
    right = [[int(count) for count in reversed(counts)] for _, *counts in attacks]  # no defence first
    for row in [*right, [sum(column) for column in zip(*right)]]:
        assert f"| {' | '.join(map(str, row))} |" in PAGES, row


def test_the_slopes_of_the_picture_are_in_its_words():
    slopes = json.loads((ROOT / "docs" / "slopes.json").read_text(encoding="utf-8"))
    words = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert f"takes {slopes['pixel']:.2f} of the perturbation away" in words
    assert f"the logits guided one {slopes['mini_inception_lgd']:.2f}" in words


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_a_shipped_defences_own_results_hold_the_baselines(path):
    config = read_config(path.parent)
    adversarially_trained = {"ens_target"} if config.experiment.ens_target else set()
    assert read(path).keys() == {"none", "median", "gaussian", config.defense_name} | adversarially_trained


@pytest.mark.parametrize("name", shipped_defenses())
def test_a_card_says_what_its_defence_wins_back(name):
    folder, undefended, defended = CARDS[name]
    rows = read(folder / "results.json")
    card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    for setting in settings(rows[defended]):
        for row in (undefended, defended):
            assert cells(rows[row], setting) in card, f"row {row!r}{setting}: {cells(rows[row], setting)}"
        assert rows[defended][f"white_eps4{setting}"] > rows[undefended][f"white_eps4{setting}"]
