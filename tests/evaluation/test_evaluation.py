"""Evaluation: figures by hand, threat models, tables and files."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from linear_target import SIZE, affine_denoiser, linear_target, random_weights
from PIL import Image

from hgd_tf import evaluation
from hgd_tf.attacks import SignGradientAttack
from hgd_tf.crafting import AttackedSet
from hgd_tf.data import LabeledImages, load_fashion_mnist
from hgd_tf.defenses import Defense
from hgd_tf.evaluation import evaluate
from hgd_tf.evaluation.columns import Setting
from hgd_tf.targets import load_target

KEYS = ["clean", "white_eps4", "white_eps16", "black_eps4", "black_eps16", "adaptive_eps4", "adaptive_eps16"]
STORED = KEYS[1:5]
ATTACKS = ("fgsm", "ifgsm4")
COUNT, ADAPTIVE = 270, 20  # more than the batch of 250
RNG = np.random.default_rng(0)
WEIGHTS = random_weights(0)
# Far from the border of the pixel range, so that an attack of epsilon 16 is nowhere clipped.
CLEAN = LabeledImages(RNG.integers(100, 150, (COUNT, SIZE, SIZE, 1)).astype(np.uint8), RNG.integers(0, 2, COUNT))


def _classes(images: np.ndarray, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
    denoised = factor * images.astype(np.float64) + offset
    return np.where((denoised - 125).reshape(len(images), -1) @ WEIGHTS > 0, 0, 1)


def _loss(attacked: np.ndarray, clean: np.ndarray, factor: float, offset: float) -> float:
    return float(np.mean(np.abs(factor * attacked.astype(np.float64) + offset - clean)) / 255)


def _test_sets() -> evaluation.TestSets:
    rng = np.random.default_rng(1)
    attacked = {}
    for key in STORED:
        images = rng.integers(0, 256, (len(ATTACKS), *CLEAN.images.shape)).astype(np.uint8)
        attacked[key] = AttackedSet(CLEAN, ATTACKS, images, np.zeros((len(ATTACKS), COUNT), np.int64))
    return evaluation.TestSets(CLEAN, attacked, ADAPTIVE, seed=3)


class _Recorded:
    """A defence's figures, the progress it reported and the images of its adaptive attacks by epsilon."""

    def __init__(self, defense: Defense):
        self.adaptive: dict[int, np.ndarray] = {}
        self.reported: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "SignGradientAttack", self._attack)
            self.result = evaluation.evaluate_defense(defense, _test_sets(), self.reported.append)

    def _attack(self, models, **arguments):
        attack = SignGradientAttack(models, **arguments)

        def recording(images, epsilon, *args, **kwargs):
            self.adaptive[int(epsilon)] = attack(images, epsilon, *args, **kwargs)
            return self.adaptive[int(epsilon)]

        return recording


AFFINES = {"none": (1.0, 0.0), "halving": (0.5, 60.0), "negating": (-1.0, 250.0)}


@pytest.fixture(scope="module")
def recorded() -> dict[str, _Recorded]:
    target = linear_target(WEIGHTS)
    return {
        name: _Recorded(Defense(None if name == "none" else affine_denoiser(*affine), target))
        for name, affine in AFFINES.items()
    }


@pytest.fixture(scope="module")
def results(recorded) -> evaluation.Results:
    rows = {name: one.result for name, one in recorded.items()}
    return evaluation.Results(3, "random_images", "linear", COUNT, ADAPTIVE, rows, SIZE)


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    evaluation.save_results(results, directory, {"python": "3"})
    return directory


each_defense = pytest.mark.parametrize("name", AFFINES)


@each_defense
def test_clean_accuracy_is_that_by_hand(recorded, name):
    expected = np.mean(_classes(CLEAN.images, *AFFINES[name]) == CLEAN.labels)
    assert 0.2 < expected < 0.8
    assert recorded[name].result.accuracy["clean"] == pytest.approx(expected, abs=1e-9)


@each_defense
@pytest.mark.parametrize("key", STORED)
def test_stored_accuracy_is_the_mean_over_the_attacks_by_hand(recorded, name, key):
    result = recorded[name].result
    sets = _test_sets().attacked[key].attacked
    figures = [np.mean(_classes(attacked, *AFFINES[name]) == CLEAN.labels) for attacked in sets]
    assert figures[0] != figures[1]
    assert [result.per_attack[f"{key}/{attack}"] for attack in ATTACKS] == pytest.approx(figures, abs=1e-9)
    assert result.accuracy[key] == pytest.approx(sum(figures) / 2, abs=1e-9)


@each_defense
def test_denoising_loss_is_the_mean_difference_by_hand(recorded, name):
    losses, affine = recorded[name].result.denoising_loss, AFFINES[name]
    assert losses["clean"] == pytest.approx(_loss(CLEAN.images, CLEAN.images, *affine), rel=1e-4)
    for key, attacked_set in _test_sets().attacked.items():
        expected = np.mean([_loss(attacked, CLEAN.images, *affine) for attacked in attacked_set.attacked])
        assert losses[key] == pytest.approx(expected, rel=1e-4)


def test_denoising_loss_of_clean_images_without_denoiser_is_nothing(recorded):
    assert recorded["none"].result.denoising_loss["clean"] == 0


@each_defense
def test_every_column_and_every_attack_has_its_figure(recorded, name):
    result = recorded[name].result
    assert list(result.accuracy) == list(result.denoising_loss) == KEYS == [column.key for column in evaluation.COLUMNS]
    assert list(result.per_attack) == [f"{key}/{attack}" for key in STORED for attack in ATTACKS]
    assert all(0 <= value <= 1 for value in [*result.accuracy.values(), *result.per_attack.values()])


@each_defense
def test_the_reported_images_add_up_to_the_count(recorded, name):
    assert evaluate.image_count(_test_sets()) == (1 + 4 * 2) * COUNT + 2 * ADAPTIVE
    assert sum(recorded[name].reported) == evaluate.image_count(_test_sets())
    assert min(recorded[name].reported) > 0


@each_defense
@pytest.mark.parametrize("epsilon", [4, 16])
def test_the_adaptive_attack_follows_the_gradient_through_the_denoiser(recorded, name, epsilon):
    """20 steps of epsilon/8 cross the ball from any start, so that every pixel ends at its worst corner."""
    clean, labels = CLEAN.images[:ADAPTIVE].astype(int), CLEAN.labels[:ADAPTIVE]
    slope = np.sign(AFFINES[name][0]) * np.sign(WEIGHTS).reshape(SIZE, SIZE, 1)
    away = np.where(labels == 0, -1, 1).reshape(-1, 1, 1, 1) * slope
    attacked = recorded[name].adaptive[epsilon]
    assert attacked.dtype == np.uint8
    np.testing.assert_array_equal(attacked, clean + epsilon * away)


@pytest.mark.parametrize("epsilon", [4, 16])
def test_the_adaptive_images_of_a_negating_denoiser_are_opposite_to_the_targets_own(recorded, epsilon):
    clean = CLEAN.images[:ADAPTIVE].astype(int)
    alone, through = (recorded[name].adaptive[epsilon] - clean for name in ("none", "negating"))
    np.testing.assert_array_equal(through, -alone)
    assert np.abs(through).max() == epsilon


@each_defense
@pytest.mark.parametrize("epsilon", [4, 16])
def test_adaptive_figures_are_those_of_the_adaptive_images(recorded, name, epsilon):
    one, affine = recorded[name], AFFINES[name]
    attacked, clean = one.adaptive[epsilon], CLEAN.head(ADAPTIVE)
    expected = np.mean(_classes(attacked, *affine) == clean.labels)
    assert one.result.accuracy[f"adaptive_eps{epsilon}"] == pytest.approx(expected, abs=1e-9)
    loss = _loss(attacked, clean.images, *affine)
    assert one.result.denoising_loss[f"adaptive_eps{epsilon}"] == pytest.approx(loss, rel=1e-4)


def test_the_adaptive_attack_beats_every_linear_defence(recorded):
    for one in recorded.values():
        assert one.result.accuracy["adaptive_eps16"] == 0 < one.result.accuracy["clean"]


def test_where_the_denoiser_hides_the_gradient_the_random_start_stays():
    one = _Recorded(Defense(affine_denoiser(0.0, 125.0), linear_target(WEIGHTS)))
    moved = one.adaptive[16] - CLEAN.images[:ADAPTIVE].astype(int)
    assert np.abs(moved).max() == 16
    counts = Counter(np.abs(moved).ravel().tolist())
    assert counts[16] < 0.1 * moved.size  # a followed gradient moves all pixels to the border of the ball
    assert np.abs(moved.mean()) < 1


def test_the_adaptive_attack_repeats_itself(recorded):
    again = _Recorded(Defense(affine_denoiser(*AFFINES["halving"]), linear_target(WEIGHTS)))
    assert again.result == recorded["halving"].result
    for epsilon, attacked in again.adaptive.items():
        np.testing.assert_array_equal(attacked, recorded["halving"].adaptive[epsilon])


def test_a_trained_target_without_defence_falls_to_the_adaptive_attack():
    clean = load_fashion_mnist().test.head(24)
    sets = evaluation.TestSets(clean, {}, adaptive_images=24, seed=0)
    accuracy = evaluation.evaluate_defense(Defense(None, load_target("mini_vgg")), sets).accuracy
    assert list(accuracy) == ["clean", "adaptive_eps4", "adaptive_eps16"]
    assert accuracy["clean"] >= 0.75 > accuracy["adaptive_eps4"] >= accuracy["adaptive_eps16"]
    assert accuracy["adaptive_eps16"] <= 0.1


def test_results_json_has_its_shape(folder, results):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {key: found[key] for key in ("seed", "dataset", "target")} == {
        "seed": 3,
        "dataset": "random_images",
        "target": "linear",
    }
    assert list(found["accuracy"]) == list(AFFINES)
    for name, row in found["accuracy"].items():
        assert list(row) == KEYS
        assert all(isinstance(value, float) and 0 <= value <= 1 for value in row.values())
        assert row == results.rows[name].accuracy
    assert (found["test_images"], found["adaptive_images"]) == (COUNT, ADAPTIVE)
    assert found["versions"] == {"python": "3"}


def test_results_json_says_the_threat_model_of_every_column(folder):
    threats = json.loads((folder / "results.json").read_text(encoding="utf-8"))["threat_models"]
    assert threats == {
        "clean": "no attack",
        **{key: "oblivious" for key in KEYS if key.startswith("white")},
        **{key: "transfer" for key in KEYS if key.startswith("black")},
        **{key: "end to end" for key in KEYS if key.startswith("adaptive")},
    }


def test_results_csv_agrees_with_results_json(folder):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["defense"] for row in rows] == list(AFFINES)
    for row in rows:
        name = row.pop("defense")
        losses = {f"denoising_loss_{key}": value for key, value in found["denoising_loss"][name].items()}
        gflop = {"gflop": found["gflop"][name]}
        expected = {**found["accuracy"][name], **found["accuracy_per_attack"][name], **losses, **gflop}
        assert {key: float(value) for key, value in row.items()} == expected


def test_saving_leaves_the_two_files_alone(folder):
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.csv"}


def test_the_table_has_a_row_each_with_its_figures_in_percent(results):
    lines = evaluation.table(results).splitlines()
    for name, row in results.rows.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        percents = re.findall(r"(-?\d+\.\d) %", line)
        assert percents == [f"{100 * row.accuracy[key]:.1f}" for key in KEYS]
        loss = np.mean([row.denoising_loss[key] for key in STORED])
        assert line.split()[-2:] == [f"{loss:.4f}", f"{row.gflop:.3f}"]


def test_the_table_heads_every_column_with_its_threat_model(results):
    titles, threats = evaluation.table(results).splitlines()[:2]
    assert titles.startswith("linear behind") and titles.endswith(" GFLOP")
    assert re.findall(r"Clean|(?:White|Black|Adaptive) ε=\d+", titles) == [
        column.title for column in evaluation.COLUMNS
    ]
    expected = ["no attack", "oblivious", "oblivious", "transfer", "transfer", "end to end", "end to end"]
    assert re.findall(r"\((.*?)\)", threats) == expected


def test_results_json_says_what_every_row_costs(folder, results):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["gflop"]
    assert found == {name: row.gflop for name, row in results.rows.items()}
    pixels = SIZE * SIZE
    rescaling, head = 2 * pixels, 2 * pixels * 2  # a product and a sum a pixel; for each of two classes
    costs = {"none": rescaling + head, "halving": 2 * rescaling + head, "negating": 2 * rescaling + head}
    assert found == pytest.approx({name: cost / 1e9 for name, cost in costs.items()}, abs=3e-8)  # two logits


def test_the_columns_of_both_tables_line_up_also_under_a_long_name(results):
    renamed = {f"{name} of the other classes": row for name, row in results.rows.items()}
    by_defense, by_attack, *_ = evaluation.table(results._replace(rows=renamed)).split("\n\n")
    for lines in (by_defense.splitlines(), by_attack.splitlines()):
        assert len(lines) > len(results.rows)
        assert len({len(line) for line in lines}) == 1


def test_the_table_says_what_it_was_measured_on(results):
    text = evaluation.table(results)
    assert f"{COUNT} test images of random_images ({ADAPTIVE} for Adaptive)" in text
    assert "±6.0 points" in text  # 1.96 * sqrt(0.25 / 270) = 0.0596
    for word in ("White (oblivious)", "Black (transfer)", "Adaptive (end to end)"):
        assert word in text


# Other sides, and what happens to images on their way.


def test_a_transport_comes_between_the_attack_and_the_defence():
    sets = _test_sets()._replace(transports=("none", "resize:0.5:area", "shift"))
    target, reported = linear_target(WEIGHTS), []
    result = evaluation.evaluate_defense(Defense(None, target), sets, reported.append)
    assert sum(reported) == evaluate.image_count(sets)
    keys = [f"{key}{way}" for way in ("", "+resize:0.5:area", "+shift") for key in KEYS]
    assert sorted(result.accuracy) == sorted(keys) == sorted(result.denoising_loss)

    def accuracy(images: np.ndarray) -> float:
        return float(np.mean(_classes(images) == CLEAN.labels))

    def halved(images: np.ndarray) -> np.ndarray:
        small = [
            Image.fromarray(image[..., 0]).resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX) for image in images
        ]
        pixels = np.stack([np.asarray(image) for image in small])[..., np.newaxis]
        return tf.image.resize(pixels, (SIZE, SIZE), antialias=True).numpy()

    attacks = [accuracy(images) for images in sets.attacked["white_eps4"].attacked]
    assert result.accuracy["white_eps4"] == pytest.approx(np.mean(attacks))
    attacks = [accuracy(halved(images)) for images in sets.attacked["white_eps4"].attacked]
    assert result.accuracy["white_eps4+resize:0.5:area"] == pytest.approx(np.mean(attacks), abs=2 / COUNT)
    assert result.per_attack["white_eps4+resize:0.5:area/fgsm"] == pytest.approx(attacks[0], abs=2 / COUNT)
    assert result.accuracy["clean"] == accuracy(CLEAN.images) != result.accuracy["clean+shift"]


def test_settings_stand_below_each_other_and_say_their_side_and_transport(results, tmp_path):
    settings = [Setting(299), Setting(None, "jpeg:75")]
    rows = {
        name: evaluation.DefenseResult(
            *({setting.key(key): value for setting in settings for key, value in part.items()} for part in row[:3]),
            row.gflop,
        )
        for name, row in results.rows.items()
    }
    both = results._replace(rows=rows, settings=settings)
    text = evaluation.table(both)
    titles = [line for line in text.splitlines() if line.startswith("attacked at")]
    assert titles == ["attacked at 299 pixels", f"attacked at {SIZE} pixels, then jpeg:75"]
    assert text.count("White ε=4") == 2 and "known to no attack" in text
    evaluation.save_results(both, tmp_path, {})
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(found["sides"]) == [*(f"{key}@299" for key in KEYS), *(f"{key}+jpeg:75" for key in KEYS)]
    assert list(found["sides"].values()) == [299] * len(KEYS) + [SIZE] * len(KEYS)
    assert set(found["transports"].values()) == {"none", "jpeg:75"}
    threats = found["threat_models"]
    assert threats["black_eps4+jpeg:75"] == "transfer"
    assert threats["adaptive_eps4@299"] == "end to end"
    assert threats["adaptive_eps4+jpeg:75"] == "end to end but for the transport"
    with open(tmp_path / "results.csv", newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert float(row["white_eps4@299/fgsm"]) == found["accuracy_per_attack"]["none"]["white_eps4@299/fgsm"]


# Runs on disk.
