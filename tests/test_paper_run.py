"""paper.flags runs: the paper's networks at their sizes, with random weights, on a few random images."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hgd_tf.evaluation.columns import COLUMNS
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.loading import build_target
from hgd_tf.targets.published import CONVERTED

ROOT = Path(__file__).parents[1]
NETWORKS = ("inception_v3", "inception_resnet_v2", "resnet_v2_50", "inception_v4", "ens3_adv_inception_v3")
CLASSES = ("n01440764", "n01443537")
# `python -m hgd_tf.train`, but for the adaptive attack, of one step instead of 20, which saves a quarter of the time.
COMMAND = """
import sys

from hgd_tf import cli
from hgd_tf.attacks import METHODS
from hgd_tf.train import main

sys.modules["hgd_tf.evaluation.evaluate"].ADAPTIVE = METHODS["fgsm"]
cli.run(main)
"""
PARAMETERS = 11_033_984  # of the paper's denoiser
SMALL = [
    "--batch_size=2",
    "--epochs=1",
    "--steps_per_epoch=2",
    "--train_images=2",
    "--validation_images=2",
    "--test_images=1",
    "--adaptive_images=1",
]


def write_weights(folder: Path) -> None:
    """A file a network, as `python -m hgd_tf.targets convert` writes it."""
    for seed, name in enumerate(NETWORKS):
        keras.utils.set_random_seed(seed)
        build_target(name).save(folder / f"{name}{CONVERTED}")
        keras.backend.clear_session()


def write_images(folder: Path) -> None:
    """Photographs of noise, in two formats and of several sizes."""
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        for class_name in CLASSES:
            (folder / part / class_name).mkdir(parents=True)
            for file, shape in (("a.png", (320, 300, 3)), ("b.jpg", (250, 400, 3))):
                Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(folder / part / class_name / file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run's folder. The weights, 0.7 GiB, are not kept."""
    folder = tmp_path_factory.mktemp("paper")
    write_images(folder / "images")
    command = [sys.executable, "-c", COMMAND, "--flagfile=paper.flags", *SMALL]
    folders = [f"--images={folder}/images", f"--run_dir={folder}/run", f"--sets_dir={folder}/sets"]
    with tempfile.TemporaryDirectory() as weights:
        write_weights(Path(weights))
        environment = {**os.environ, "HGD_CHECKPOINTS": weights}
        done = subprocess.run([*command, *folders], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "run"


@pytest.mark.slow
@pytest.mark.long
def test_is_the_papers_configuration(run):
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    experiment = config["experiment"]
    assert (experiment["target"], experiment["image_size"]) == ("inception_v3", None)
    assert experiment["members"] == ["target", "inception_resnet_v2", "resnet_v2_50"]
    assert (experiment["holdout"], experiment["ens_target"]) == ("inception_v4", "ens3_adv_inception_v3")
    assert (config["guidance"], config["recipe"], config["craft"]) == ("logits", "train_set", "stored")
    assert (config["denoiser"], config["width"]) == ("dunet", 1.0)
    assert (config["learning_rate"], config["schedule"], config["precision"]) == (1e-3, "plateau", "float32")


@pytest.mark.slow
@pytest.mark.long
def test_attacks_as_in_table_1(run):
    (plan_file,) = (run.parent / "sets").glob("train_set-*/plan.json")
    plan = json.loads(plan_file.read_text(encoding="utf-8"))
    ensemble = ["inception_v3", "inception_resnet_v2", "resnet_v2_50"]
    attacked = [attack["networks"] for attack in plan["attacks"]]
    assert attacked == [*([name] for name in ensemble), *([ensemble] * 4)]
    assert plan["epsilon"] == [1, 16]
    assert plan["image_shape"] == [299, 299, 3]


@pytest.mark.slow
@pytest.mark.long
def test_trains_the_papers_denoiser(run):
    denoiser = keras.models.load_model(run / "denoiser.keras", compile=False)
    assert sum(math.prod(variable.shape) for variable in denoiser.trainable_variables) == PARAMETERS
    means = [variable.numpy() for variable in denoiser.variables if "moving_mean" in variable.name]
    assert means and all(np.any(mean != 0) and np.all(np.isfinite(mean)) for mean in means)
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        (epoch,) = csv.DictReader(file)
    assert math.isfinite(float(epoch["loss"])) and float(epoch["loss"]) > 0
    assert math.isfinite(float(epoch["val_loss"]))


@pytest.mark.slow
@pytest.mark.long
def test_ends_with_the_whole_table(run):
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert (results["target"], results["test_images"], results["adaptive_images"]) == ("inception_v3", 1, 1)
    for table in (results["accuracy"], results["denoising_loss"]):
        assert list(table) == ["none", "median", "gaussian", "ens_target", "logits"]
        for row in table.values():
            assert list(row) == [column.key for column in COLUMNS]
            assert all(math.isfinite(figure) for figure in row.values())
