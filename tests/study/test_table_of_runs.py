"""Tables over training runs and shipped defences: rows, what is refused, and at which sides they are tested."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.denoisers.layers import AddNoise
from hgd_tf.errors import RunError
from hgd_tf.evaluation import compare, evaluate
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, load_experiment, sides_to_test
from hgd_tf.files import write_json
from hgd_tf.foundation.stack import keras
from hgd_tf.study import evaluate_runs, table_of_runs
from hgd_tf.targets import Target, load_target
from hgd_tf.training import TrainConfig
from hgd_tf.training.run_directory import RESULTS_JSON, open_run

KEYS = ["clean", "white_eps4", "white_eps16", "black_eps4", "black_eps16", "adaptive_eps4", "adaptive_eps16"]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ExperimentConfig:
    """A tiny classifier in a file; it is ensemble and hold-out too, so that one compiled attack serves all sets."""
    path = tmp_path_factory.mktemp("target") / "tiny.keras"
    images = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu", kernel_initializer="random_normal")(images)
    keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(x))).save(path)
    return ExperimentConfig(
        target=str(path),
        input_range=(-1, 1),
        members=("target",),
        holdout="target",
        ens_target=None,
        test_images=12,
        adaptive_images=4,
    )


def _denoiser() -> keras.Model:
    images = keras.Input((None, None, 1))
    noise = keras.layers.Conv2D(1, 3, padding="same")(images)
    return keras.Model(images, AddNoise(scale=0.1)([images, noise]))


def _run(path: Path, experiment: ExperimentConfig, **config) -> Path:
    """The folder of a finished run, but for its figures."""
    open_run(path, TrainConfig(experiment, **config))
    save_defense(Defense(_denoiser(), load_target(experiment.target, input_range=experiment.input_range)), path)
    write_json(path / RESULTS_JSON, {})
    return path


@pytest.fixture(scope="module")
def experiment(small, tmp_path_factory) -> Experiment:
    return load_experiment(small, tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def compared(small, tmp_path_factory) -> tuple[str, Path]:
    """The table over a pixel guided run, and the folder of its results."""
    root = tmp_path_factory.mktemp("runs")
    run = _run(root / "pgd", small, guidance="pixel")
    return evaluate_runs([run], root / "comparison", root / "sets"), root / "comparison"


def test_runs_stand_beside_the_baselines(compared):
    text, directory = compared
    accuracy = json.loads((directory / "results.json").read_text(encoding="utf-8"))["accuracy"]
    assert list(accuracy) == ["none", "median", "gaussian", "pixel", "pixel_x2"]
    for row in accuracy.values():
        assert list(row) == KEYS
        assert [row["white_eps4"], row["white_eps16"]] == [row["black_eps4"], row["black_eps16"]]
        assert all(round(12 * 2 * value, 6).is_integer() for value in row.values())
    assert [line.split()[0] for line in text.splitlines()[2:7]] == list(accuracy)


def test_the_adversarially_trained_target_is_a_baseline_where_there_is_one(experiment):
    other = load_target("mini_resnet")
    assert list(compare.baselines(experiment)) == ["none", "median", "gaussian"]
    rows = compare.baselines(experiment._replace(ens_target=other))
    assert list(rows) == ["none", "median", "gaussian", "ens_target"]
    assert (rows["ens_target"].denoiser, rows["ens_target"].target) == (None, other)


def test_results_of_runs_say_what_they_are_of(compared):
    found = json.loads((compared[1] / "results.json").read_text(encoding="utf-8"))
    assert (found["seed"], found["dataset"], found["target"]) == (0, "fashion_mnist_subset", "tiny")
    assert (found["test_images"], found["adaptive_images"]) == (12, 4)
    assert {"python", "tensorflow", "cleverhans"} <= set(found["versions"])


def test_attacks_of_runs_are_named_after_the_networks(compared):
    found = json.loads((compared[1] / "results.json").read_text(encoding="utf-8"))
    white, black = ("fgsm_tiny", "ifgsm4_ensemble"), ("fgsm_tiny", "ifgsm4_tiny")
    assert list(found["accuracy_per_attack"]["none"]) == [
        *(f"white_eps{epsilon}/{name}" for epsilon in (4, 16) for name in white),
        *(f"black_eps{epsilon}/{name}" for epsilon in (4, 16) for name in black),
    ]


def test_a_run_is_tested_at_any_side_under_any_transport_and_goes_on(tmp_path, small, monkeypatch):
    changes = {"test_sizes": (14, 28), "test_transports": ("none", "jpeg:75")}
    run = _run(tmp_path / "pgd", small, guidance="label")
    measure, rounds = evaluate.evaluate_defenses, []

    def interrupted(defenses, test_sets, *args):
        rounds.append(test_sets.clean.images.shape[1:3])
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return measure(defenses, test_sets, *args)

    monkeypatch.setattr(compare, "evaluate_defenses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_runs([run], tmp_path / "out", tmp_path / "sets", changes)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished_results@14.json"]
    evaluate_runs([run], tmp_path / "out", tmp_path / "sets", changes)
    assert rounds == [(14, 14), (28, 28)] * 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv", "results.json"]
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert set(found["sides"].values()) == {14, 28} and len(found["sides"]) == 4 * len(KEYS)
    assert found["sides"]["clean@14+jpeg:75"] == 14 and found["sides"]["adaptive_eps4"] == 28


def test_imagenet_networks_are_tested_at_299_first(experiment):
    sides = functools.partial(sides_to_test, experiment=experiment)
    assert sides(ExperimentConfig()) == [None]
    assert sides(ExperimentConfig(target="efficientnet_lite0")) == [299, None]
    assert sides(ExperimentConfig(target="efficientnet_lite0", test_sizes=(28, 40))) == [None, 40]


def test_a_doubled_row_predicts_twice_the_noise(tmp_path, small, experiment):
    rows = table_of_runs.trained([_run(tmp_path / "pgd", small, guidance="pixel")], experiment)
    images = tf.cast(experiment.splits.test.images[:3], tf.float32)
    once, twice = (rows[name].denoise(images) - images for name in ("pixel", "pixel_x2"))
    assert np.abs(once).max() > 0.1
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"holdout": "mini_inception_resnet"}, {"test_images": 11}, {"members": ("target", "mini_resnet")}],
    ids=lambda change: next(iter(change)),
)
def test_runs_of_different_experiments_are_refused(tmp_path, small, change):
    one = _run(tmp_path / "one", small)
    _run(tmp_path / "other", dataclasses.replace(small, **change), guidance="label")
    with pytest.raises(RunError, match=f"other is of another experiment than {one}"):
        evaluate_runs([one, tmp_path / "other"], tmp_path / "out", tmp_path / "sets")
    assert not (tmp_path / "out").exists()


def test_two_runs_of_the_same_defence_are_refused(tmp_path, small):
    runs = [_run(tmp_path / "one", small), _run(tmp_path / "two", small, learning_rate=0.5)]
    with pytest.raises(RunError, match="two is a second 'logits' run"):
        evaluate_runs(runs, tmp_path / "out", tmp_path / "sets")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("order", [1, -1], ids=["the pixel run first", "the doubled run first"])
def test_a_doubled_run_beside_the_row_of_the_same_name_is_refused(tmp_path, small, experiment, order):
    runs = [
        _run(tmp_path / "pgd", small, guidance="pixel"),
        _run(tmp_path / "x2", small, guidance="pixel", output_scale=2.0),
    ]
    with pytest.raises(RunError, match="pixel_x2"):
        table_of_runs.trained(runs[::order], experiment)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"no such directory: .*absent"):
        evaluate_runs([tmp_path / "absent"], tmp_path / "out", tmp_path / "sets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="empty is no run directory"):
        evaluate_runs([tmp_path / "empty"], tmp_path / "out", tmp_path / "sets")


def test_a_run_without_its_denoiser_is_named(tmp_path, small):
    run = _run(tmp_path / "stopped", small)
    (run / "denoiser.keras").unlink()
    with pytest.raises(RunError, match=r"stopped holds no defense: denoiser\.keras is missing"):
        evaluate_runs([run], tmp_path / "out", tmp_path / "sets")


def test_an_interrupted_run_is_refused(tmp_path, small):
    run = _run(tmp_path / "stopped", small)
    (run / RESULTS_JSON).unlink()
    with pytest.raises(RunError, match="stopped holds an unfinished run"):
        evaluate_runs([run], tmp_path / "out", tmp_path / "sets")
    assert not (run / RESULTS_JSON).exists()


def test_a_shipped_defense_is_tested_on_images_that_are_given(tmp_path):
    with pytest.raises(RunError, match=r"efficientnet_lite0_lgd comes without .*expected `test_dir=DIR`"):
        evaluate_runs(["efficientnet_lite0_lgd"], tmp_path / "out", tmp_path / "sets")
    assert not (tmp_path / "out").exists()


def test_a_shipped_defense_of_embedded_images_needs_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(table_of_runs, "load_experiment", lambda config, sets_dir: config)
    monkeypatch.setattr(table_of_runs, "_rows", lambda run_dirs, experiment: {path.name: None for path in run_dirs})
    shown = evaluate_runs(["mini_inception_lgd"], tmp_path, tmp_path, measure=lambda rows, *rest: list(rows))
    assert shown == ["mini_inception_lgd"]


@pytest.mark.slow
def test_a_shipped_defense_of_embedded_images_is_tested_by_its_name_alone(tmp_path):
    changes = {"test_images": 20, "adaptive_images": 2}
    shown = evaluate_runs(["mini_inception_lgd"], tmp_path / "out", tmp_path / "sets", changes)
    assert "20 test images of fashion_mnist_subset (2 for Adaptive)" in shown
    accuracy = json.loads((tmp_path / "out" / RESULTS_JSON).read_text())["accuracy"]
    assert accuracy["logits"]["white_eps16"] > accuracy["none"]["white_eps16"]


def test_a_line_up_is_a_row_of_its_own_beside_a_run_of_its_images(tmp_path, small, monkeypatch):
    write_json(tmp_path / "none.json", {})
    with pytest.raises(RunError, match=r"none\.json does not say what is attacked: expected a run beside it"):
        evaluate_runs([tmp_path / "none.json"], tmp_path / "out", tmp_path / "sets")
    run = _run(tmp_path / "run", small)
    colour = Defense(None, _target_of_colour())
    monkeypatch.setattr(table_of_runs, "load_defense", lambda line_up: colour)
    with pytest.raises(RunError, match=r"none\.json: expected targets of 1 channels .*received 3 channels"):
        evaluate_runs([run, tmp_path / "none.json"], tmp_path / "out", tmp_path / "sets")


def _target_of_colour() -> Target:
    images = keras.Input((28, 28, 3))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(images))
    return Target(keras.Model(images, {"logits": logits}), name="colour")


def test_a_run_is_tested_on_images_of_ones_own(tmp_path, small, monkeypatch):
    """Its own need not be there; the figures of clean images are those by hand, of a folder a class.

    So are those of a line-up beside it.
    """
    monkeypatch.setattr(table_of_runs, "baselines", lambda loaded: {"none": Defense(None, loaded.roles.target)})
    run = _run(tmp_path / "run", small)
    (run / RESULTS_JSON).unlink()
    images = load_fashion_mnist().test.images[:9]
    target = load_target(small.target, input_range=small.input_range)
    labels = target(images)["logits"].numpy().argmax(axis=-1)
    labels[:3] = (labels[:3] + 1) % 10
    for number, (image, label) in enumerate(zip(images, labels)):
        write_image(tmp_path / "mine" / str(label) / f"{number}.png", image[np.newaxis])
    changes = {"test_dir": str(tmp_path / "mine"), "adaptive_images": 2}
    flows = ["A->X", {"flow": "X", "weight": 0.5}]
    described = {"denoisers": {"A": {"defense": "run"}}, "targets": {"X": {"name": "mini_vgg"}}, "flows": flows}
    write_json(tmp_path / "two.json", described)
    evaluate_runs([run, tmp_path / "two.json"], tmp_path / "out", tmp_path / "sets", changes)
    results = json.loads((tmp_path / "out" / RESULTS_JSON).read_text())
    assert (results["test_images"], results["adaptive_images"]) == (9, 2)
    assert list(results["accuracy"]) == ["none", "logits", str(tmp_path / "two.json")]
    averaged = load_defense(tmp_path / "two.json")(images)["classes"].numpy()
    assert results["accuracy"][str(tmp_path / "two.json")]["clean"] == pytest.approx(np.mean(averaged == labels))
    assert results["accuracy"]["none"]["clean"] == pytest.approx(6 / 9)
    denoised = load_defense(run)(images)["classes"].numpy()
    assert results["accuracy"]["logits"]["clean"] == pytest.approx(np.mean(denoised == labels))
