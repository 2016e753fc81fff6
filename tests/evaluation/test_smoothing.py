"""Smoothed classifiers: against what a linear one's certificates are by hand, and tables that go on."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from linear_target import SIZE, linear_target, random_weights
from scipy.stats import binom, norm

from hgd_tf.attacks.draws import numbered_seeds, with_gaussian_noise
from hgd_tf.data import LabeledImages
from hgd_tf.defenses import Defense
from hgd_tf.errors import RunError
from hgd_tf.evaluation.certificates import evaluate_certified, load_certified
from hgd_tf.evaluation.smoothing import ABSTAIN, Smoothed, lower_bound

SIGMA = 0.25
LINEAR = Defense(None, linear_target(random_weights(0)))
SETTINGS = {"sigma": SIGMA, "n0": 10, "n": 200, "alpha": 0.01}


def margins(images: np.ndarray) -> np.ndarray:
    """Distances from the linear classifier's border in [0, 1] units, through its resize; of class 1 negative."""
    points = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(points)
        logits = LINEAR(points)["logits"]
        difference = (logits[:, 0] - logits[:, 1]) / 2
    slope = tf.norm(tf.reshape(tape.gradient(difference, points), (len(images), -1)), axis=1)
    return (difference / slope).numpy() / 255


def images_at(distances: list[float], side: int = SIZE) -> np.ndarray:
    """Images so far from the border, uint8, nearly: the rounding's part is in what `margins` gives."""
    grey = np.full((1, side, side, 1), 125.0, np.float32)
    points = tf.constant(grey)
    with tf.GradientTape() as tape:
        tape.watch(points)
        logit = LINEAR(points)["logits"][0, 0]
    slope = tape.gradient(logit, points).numpy()
    return np.round(np.concatenate([grey + 255 * one * slope / np.linalg.norm(slope) for one in distances])).astype(
        np.uint8
    )


@pytest.mark.parametrize("side", [SIZE, 24])
def test_a_linear_classifiers_radius_is_its_distance_from_the_border(side):
    """Smoothing leaves it as it is, so that the exact radius is the distance (Cohen et al., section 3.2)."""
    images, n = images_at([0.06, 0.2, -0.3, 0.4], side), 4000
    exact = margins(images)
    assert np.abs(exact).min() > 0.05
    classes, radii = Smoothed(LINEAR, SIGMA, n=n).certify(images)
    assert classes.tolist() == [0, 0, 1, 0]
    probabilities = norm.cdf(np.abs(exact) / SIGMA)
    # The bound lies 3.1 standard deviations below the share of hits, which is within 3.5 of the probability.
    least = probabilities - 7 * np.sqrt(probabilities * (1 - probabilities) / n)
    assert np.all(radii < np.abs(exact)) and np.all(radii > SIGMA * norm.ppf(least))


def test_certificates_are_wrong_as_seldom_as_alpha_says():
    exact, images = 0.1, images_at([0.1])
    exact = margins(images)[0]
    smoothed = Smoothed(LINEAR, SIGMA, n=100, alpha=0.2)
    _, radii = smoothed.certify(np.repeat(images, 300, axis=0))
    # Of 300, at 4 standard deviations.
    assert 0.05 < np.mean(radii > exact) < 0.2 + 4 * np.sqrt(0.2 * 0.8 / 300)


@pytest.mark.parametrize("hits, n, alpha", [(1, 1, 0.001), (51, 100, 0.05), (990, 1000, 0.001), (10**4, 10**4, 0.001)])
def test_the_bound_is_the_probability_of_which_so_many_hits_are_alphas(hits, n, alpha):
    bound = lower_bound(hits, n, alpha)
    assert binom.sf(hits - 1, n, bound) == pytest.approx(alpha, rel=1e-6)
    assert lower_bound(0, n, alpha) == 0.0


def test_of_even_classes_none_is_answered():
    images = images_at([0.0, 0.5])
    smoothed = Smoothed(LINEAR, SIGMA, n=500)
    classes, radii = smoothed.certify(images)
    assert (classes.tolist(), radii[0]) == ([ABSTAIN, 0], 0.0)
    assert smoothed.predict(images).tolist() == [ABSTAIN, 0]
    assert radii[1] <= smoothed.largest_radius == pytest.approx(SIGMA * norm.ppf(0.001 ** (1 / 500)))
    assert [len(found) for found in smoothed.certify(images[:0])] == [0, 0]


def test_draws_depend_on_seed_and_number_alone():
    image = images_at([0.1])
    radii = {
        (batch_size, seed, number): Smoothed(LINEAR, SIGMA, n=300, seed=seed, batch_size=batch_size)
        .certify(image, [number])
        .radii[0]
        for batch_size, seed, number in ((None, 0, 5), (7, 0, 5), (300, 0, 5), (None, 1, 5), (None, 0, 6))
    }
    first, *same, seeded, numbered = radii.values()
    assert same == [first, first] and first not in (seeded, numbered)


def test_noise_is_of_sigma_in_units_of_255_pixels_and_not_clipped():
    black = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    noise = with_gaussian_noise(tf.constant(black), numbered_seeds(0, 3, tf.range(250)), SIGMA).numpy()
    assert noise.shape == (250, SIZE, SIZE, 1)
    # 64,000 draws: 4 standard deviations of their deviation are 1.1 %, of their mean 1.0.
    assert noise.std() == pytest.approx(63.75, rel=0.012) and abs(noise.mean()) < 1.1
    assert len(np.unique(noise[:, 0, 0, 0])) == 250

    def below_black(seen: tf.Tensor) -> dict[str, tf.Tensor]:
        share = tf.reduce_mean(tf.cast(seen < -20.0, tf.float32), axis=(1, 2, 3))
        return {"logits": tf.stack([tf.fill(tf.shape(share), 0.25), share], axis=1)}

    assert Smoothed(below_black, SIGMA, n=200).certify(black).classes.tolist() == [1]


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"n0": 0}, {"n": -1}, {"alpha": 1.0}, {"batch_size": 0}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected .* received"):
        Smoothed(LINEAR, **{"sigma": SIGMA, **wrong})


@pytest.fixture(scope="module")
def images() -> LabeledImages:
    return LabeledImages(images_at([0.05, 0.2, -0.2, 0.4, 0.0, -0.6, 0.3, 0.5]), np.array([0, 0, 1, 1, 0, 1, 0, 0]))


@pytest.fixture(scope="module")
def certified(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("certified")
    return folder, evaluate_certified({"runs/a b": LINEAR}, images, folder, **SETTINGS)


def read(folder) -> list[dict[str, str]]:
    with open(folder / "runs_a_b.tsv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def untimed(folder) -> list[dict[str, str]]:
    return [{**row, "time": ""} for row in read(folder)]


def test_a_table_is_in_the_authors_format_and_its_shares_are_of_right_and_far_ones(images, certified):
    folder, results = certified
    rows = read(folder)
    assert list(rows[0]) == ["idx", "label", "predict", "radius", "correct", "time"]
    assert [row["idx"] for row in rows] == list("01234567") and [row["label"] for row in rows] == list("00110100")
    classes, radii = Smoothed(LINEAR, **SETTINGS).certify(images.images)
    assert [int(row["predict"]) for row in rows] == classes.tolist()
    assert [float(row["radius"]) for row in rows] == radii.tolist()
    assert all(re.fullmatch(r"\d:\d\d:\d\d(\.\d+)?", row["time"]) for row in rows)
    right = (classes == images.labels).tolist()
    assert [row["correct"] == "1" for row in rows] == right and classes[3] == 0
    shares = [np.mean(right & (radii >= radius)) for radius in (0.0, 0.25, 0.5, 0.75)]
    written = json.loads((folder / "certified.json").read_text())
    figures = written["defenses"]["runs/a b"]
    assert [one["share"] for one in figures["certified_accuracy"].values()] == shares == sorted(shares, reverse=True)
    assert figures["abstentions"] == np.sum(classes == ABSTAIN) > 0 and figures["images"] == 8
    assert written["sigma"] == SIGMA and written["largest_radius"] > radii.max()
    assert f"{100 * shares[0]:.1f} % (" in results.table()


def test_an_interrupted_table_goes_on_after_its_last_whole_row(images, certified, tmp_path):
    folder, results = certified
    evaluate_certified({"runs/a b": LINEAR}, images, tmp_path, max_images=3, batch_size=11, **SETTINGS)
    path = tmp_path / "runs_a_b.tsv"
    begun = path.read_text()
    path.write_text(begun + "3\t1\t0\t0.2")
    again = evaluate_certified({"runs/a b": LINEAR}, images, tmp_path, **SETTINGS)
    assert untimed(tmp_path) == untimed(folder) and path.read_text().startswith(begun)
    assert again.to_json() == results.to_json()
    fewer = evaluate_certified({"runs/a b": LINEAR}, images, tmp_path, max_images=2, **SETTINGS)
    assert len(fewer.rows["runs/a b"]) == 2 and untimed(tmp_path) == untimed(folder)
    path.write_text(begun.replace("1\t0\t0\t", "4\t0\t0\t"))
    with pytest.raises(RunError, match=r"runs_a_b\.tsv is damaged; remove it"):
        evaluate_certified({"runs/a b": LINEAR}, images, tmp_path, **SETTINGS)


def test_every_so_many_th_image_keeps_its_number(images, certified, tmp_path):
    evaluate_certified({"runs/a b": LINEAR}, images, tmp_path, skip=3, max_images=2, **SETTINGS)
    assert untimed(tmp_path) == untimed(certified[0])[:4:3]


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"n": 100}, "n was 200, now 100"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"skip": 2}, "skip was 1, now 2"),
        ({"images": LabeledImages(images_at([0.1]), np.array([0]))}, "images was "),
        ({"defenses": {"runs/a b": Defense(None, linear_target(random_weights(1)))}}, "classifier was "),
    ],
)
def test_certificates_of_other_settings_are_refused(images, certified, changes, named):
    folder, _ = certified
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match=rf"certificates of other settings \({named}.*`output_dir`"):
        evaluate_certified(
            **{"defenses": {"runs/a b": LINEAR}, "images": images, "output_dir": folder, **SETTINGS, **changes}
        )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_names_are_of_defences_classifiers_and_none():
    loaded = load_certified(["none", "mini_inception_lgd", "mini_vgg"])
    denoisers = {name: [len(flow.denoisers) for flow in one.flows] for name, one in loaded.items()}
    assert denoisers == {"none": [0], "mini_inception_lgd": [1], "mini_vgg": [0]}
    assert loaded["none"].flows[0].targets == loaded["mini_inception_lgd"].flows[0].targets
    for names in ([], ["none"]):
        with pytest.raises(RunError, match="at least one defence or classifier, received none"):
            load_certified(names)
