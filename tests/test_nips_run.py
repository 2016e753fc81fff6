"""nips.flags runs: the competition's four targets and denoisers of full width, with random weights, on small images."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS
from hgd_tf.defenses.line_up import read_line_up
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.loading import build_target
from hgd_tf.targets.published import CONVERTED

ROOT = Path(__file__).parents[1]
TARGETS = ("ens3_adv_inception_v3", "ens_adv_inception_resnet_v2", "resnet152", "resnext101_32x4d")
PLAYER = "efficientnet_lite0"  # of everything that appendix D attacks: the quickest there is
# `python -m hgd_tf.train`, which says of every target whether training left its weights as they were.
COMMAND = """
import hashlib
import sys

from hgd_tf import cli
from hgd_tf.train import main
from hgd_tf.study import several

training = sys.modules["hgd_tf.training.train"]
load, train = training.load_experiment, several.train_denoiser
digests = {}

def digest(target):
    return hashlib.sha256(b"".join(weight.tobytes() for weight in target.network.get_weights())).hexdigest()

def load_experiment(config, sets_dir):
    experiment = load(config, sets_dir)
    digests[config.target] = digest(experiment.roles.target)
    return experiment

def train_denoiser(config, *arguments):
    experiment = train(config, *arguments)
    target = experiment.roles.target
    print("unchanged" if digest(target) == digests[target.name] else "changed", target.name)
    return experiment

training.load_experiment, several.train_denoiser = load_experiment, train_denoiser
cli.run(main)
"""
PARAMETERS = 11_033_984  # of the paper's denoiser
SIDE = 96
SMALL = [
    f"--image_size={SIDE}",
    f"--holdout={PLAYER}",
    "--networks=" + ",".join(f"{name}={PLAYER}" for name in APPENDIX_D_NETWORKS),
    "--batch_size=2",
    "--epochs=1",
    "--steps_per_epoch=2",
    "--train_images=2",
    "--validation_images=1",
    "--strategy=mirrored",
]


class Run(NamedTuple):
    """What the command printed, and its folder."""

    printed: str
    folder: Path

    @property
    def runs(self) -> dict[str, Path]:
        """The folder of every target's run."""
        return {name: self.folder / "run" / name for name in TARGETS}


def write_weights(folder: Path) -> None:
    """A file a network, as `python -m hgd_tf.targets convert` writes it."""
    for seed, name in enumerate((*TARGETS, PLAYER)):
        keras.utils.set_random_seed(seed)
        build_target(name).save(folder / f"{name}{CONVERTED}")
        keras.backend.clear_session()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On photographs of noise. The weights, 0.8 GiB, are there for all tests, since the defences name their targets."""
    folder = tmp_path_factory.mktemp("nips")
    rng = np.random.default_rng(0)
    (folder / "photographs").mkdir()
    for number in range(8):
        pixels = rng.integers(256, size=(120, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photographs" / f"{number}.png")
    command = [sys.executable, "-c", COMMAND, "--flagfile=fgd.flags", "--flagfile=nips.flags", *SMALL]
    folders = [f"--images={folder}/photographs", f"--run_dir={folder}/run", f"--sets_dir={folder}/sets"]
    with tempfile.TemporaryDirectory() as weights, pytest.MonkeyPatch.context() as patch:
        write_weights(Path(weights))
        patch.setenv("HGD_CHECKPOINTS", weights)
        done = subprocess.run([*command, *folders], cwd=ROOT, env=os.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        yield Run(done.stdout, folder)


@pytest.mark.slow
@pytest.mark.long
def test_is_the_papers_configuration(run):
    for name, folder in run.runs.items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        experiment = config["experiment"]
        assert (experiment["target"], experiment["members"]) == (name, ["target"])
        assert experiment["networks"] == dict.fromkeys(APPENDIX_D_NETWORKS, PLAYER)
        assert (config["guidance"], config["recipe"], config["craft"]) == ("feature", "appendix_d", "stored")
        assert (config["denoiser"], config["width"]) == ("dunet", 1.0)
        assert (config["learning_rate"], config["schedule"], config["precision"]) == (1e-3, "plateau", "float32")


@pytest.mark.slow
@pytest.mark.long
def test_the_targets_share_appendix_ds_sets(run):
    plans = [json.loads(path.read_text()) for path in (run.folder / "sets").glob("*/plan.json")]
    assert sorted((plan["recipe"], plan["source_images"]) for plan in plans) == [("appendix_d", 1), ("appendix_d", 2)]
    for plan in plans:
        assert (len(plan["attacks"]), plan["epsilon"]) == (14, [16, 16])
        assert plan["image_shape"] == [SIDE, SIDE, 3]


@pytest.mark.slow
@pytest.mark.long
def test_every_target_has_a_trained_denoiser_and_its_old_weights(run):
    for name, folder in run.runs.items():
        denoiser = keras.models.load_model(folder / "denoiser.keras", compile=False)
        assert sum(math.prod(variable.shape) for variable in denoiser.trainable_variables) == PARAMETERS
        means = [variable.numpy() for variable in denoiser.variables if "moving_mean" in variable.name]
        assert means and all(np.any(mean != 0) and np.all(np.isfinite(mean)) for mean in means)
        with open(folder / "log.csv", newline="", encoding="utf-8") as file:
            (epoch,) = csv.DictReader(file)
        assert math.isfinite(float(epoch["loss"])) and float(epoch["loss"]) > 0
        assert math.isfinite(float(epoch["val_loss"]))
        assert f"\nunchanged {name}\n" in run.printed
    assert "changed" not in run.printed.replace("unchanged", "")


@pytest.mark.slow
@pytest.mark.long
def test_the_runs_are_an_ensemble_that_classifies(run):
    line_up = read_line_up(run.folder / "run" / "models.json")
    assert line_up.flows == tuple(((f"feature_{name}",), (name,), None) for name in TARGETS)
    ensemble = line_up.load()
    assert ensemble.sizes == (SIDE,)
    answers = ensemble(np.random.default_rng(1).integers(256, size=(1, 120, 100, 3), dtype=np.uint8))
    assert answers["logits"].shape == (1, 1000) and np.all(np.isfinite(answers["logits"]))
