"""A run for each of several targets: which of them go on, what they share, and the ensemble that they are."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS
from hgd_tf.crafting import SetPlan
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.defenses import load_defense
from hgd_tf.defenses.line_up import read_line_up
from hgd_tf.errors import CheckpointError, HgdError, RunError, TargetError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.files import write_json
from hgd_tf.study import several
from hgd_tf.study.several import train_each
from hgd_tf.training import TrainConfig
from hgd_tf.training.callbacks import TrainingState

pytestmark = pytest.mark.usefixtures("few_convolutions")
TARGETS = ("mini_inception", "mini_vgg")
EPOCHS = 2
slow = pytest.mark.slow  # two runs, of which one is stopped and goes on


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photographs of unknown classes, three of which validate, and test images of known ones."""
    folder = tmp_path_factory.mktemp("several")
    images, labels = load_fashion_mnist().test
    for number in range(20):
        write_image(folder / "photographs" / f"{number:02}.png", images[number : number + 1])
        write_image(folder / "tests" / str(labels[number]) / f"{number:02}.png", images[number : number + 1])
    return folder


@pytest.fixture(scope="module")
def config(folder) -> TrainConfig:
    """One network plays all that appendix D names."""
    return TrainConfig(
        ExperimentConfig(
            members=("target",),
            holdout="mini_resnet",
            networks=dict.fromkeys(APPENDIX_D_NETWORKS, "mini_resnet"),
            ens_target=None,
            images=str(folder / "photographs"),
            test_dir=str(folder / "tests"),
        ),
        guidance="feature",
        width=1 / 64,
        recipe="appendix_d",
        train_images=2,
        batch_size=2,
        epochs=EPOCHS,
        steps_per_epoch=1,
        strategy="one_device",
    )


class Interrupting:
    """Stands for Ctrl-C after an epoch's state of the second run is kept."""

    def __init__(self):
        self.keep = TrainingState.on_epoch_end

    def __get__(self, state, kind=None):
        def on_epoch_end(epoch, logs=None):
            self.keep(state, epoch, logs)
            if TARGETS[1] in str(state.directory):
                raise KeyboardInterrupt

        return on_epoch_end


class Story(NamedTuple):
    """What happened when runs were interrupted in the second one and started again, and once more.

    Attributes:
      run_dir: their folder.
      epochs: of the second run when it was interrupted.
      trained, tested: names of the runs of each time.
      crafted: the recipes and sizes of the sets that were crafted, of all times.
      models: what was returned the last time.
    """

    run_dir: Path
    epochs: int
    trained: list[list[str]]
    tested: list[list[str]]
    crafted: list[tuple[str, int]]
    models: Path


@pytest.fixture(scope="module")
def story(config, folder) -> Story:
    run_dir, train, records = folder / "runs", several.train_denoiser, SetPlan.records
    trained, tested, crafted = [[], [], []], [[], [], []], []
    time = 0

    def train_denoiser(its_config, its_dir, *rest):
        trained[time].append(its_dir.name)
        return train(its_config, its_dir, *rest)

    def evaluate_run(its_dir, experiment, its_config):
        """Instead of a table, which takes long."""
        assert experiment.roles.target.name == its_config.target == its_dir.name
        tested[time].append(its_dir.name)
        write_json(its_dir / "results.json", {})
        return f"table of {its_dir.name}"

    def counted(plan, shard, *rest):
        crafted.append((plan.recipe.name, len(plan.source.labels)))
        return records(plan, shard, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(several, "train_denoiser", train_denoiser)
        patch.setattr(several, "evaluate_run", evaluate_run)
        patch.setattr(SetPlan, "records", counted)
        with patch.context() as interrupting:
            interrupting.setattr(TrainingState, "on_epoch_end", Interrupting())
            with contextlib.suppress(KeyboardInterrupt):
                train_each(config, TARGETS, run_dir, folder / "sets")
        epochs = len(rows(run_dir / TARGETS[1]))
        assert not (run_dir / "models.json").exists()
        time = 1
        train_each(config, TARGETS, run_dir, folder / "sets")
        time = 2
        models = train_each(config, TARGETS, run_dir, folder / "sets")
    return Story(run_dir, epochs, trained, tested, crafted, models)


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@slow
def test_the_first_unfinished_run_goes_on_and_finished_ones_are_left_alone(story):
    assert story.trained == [list(TARGETS), [TARGETS[1]], []]
    assert story.tested == [[TARGETS[0]], [TARGETS[1]], []]
    assert story.epochs == 1
    for name in TARGETS:
        assert [row["epoch"] for row in rows(story.run_dir / name)] == ["0", "1"]


@slow
def test_each_run_is_its_targets(story, config):
    for name in TARGETS:
        saved = json.loads((story.run_dir / name / "config.json").read_text())
        assert saved["experiment"]["target"] == name
        assert saved["experiment"]["networks"] == config.experiment.networks


@slow
def test_the_sets_are_crafted_once_for_all_targets(story):
    """Also to validate on, where each target has answers of its own for the unknown classes."""
    assert story.crafted == [("appendix_d", 2), ("appendix_d", 3)]


@slow
def test_the_ensemble_that_is_described_is_that_of_the_runs(story):
    """Each of which is its target behind a denoiser of its own."""
    assert story.models == story.run_dir / "models.json"
    line_up = read_line_up(story.models)
    assert line_up.flows == tuple(((f"feature_{name}",), (name,), None) for name in TARGETS)
    images = load_fashion_mnist().test.images[:3]
    defenses = [load_defense(story.run_dir / name) for name in TARGETS]
    assert [defense.target.name for defense in defenses] == list(TARGETS)
    assert not np.array_equal(*(defense.denoiser.get_weights()[0] for defense in defenses))
    logits = [defense(images)["logits"] for defense in defenses]
    np.testing.assert_allclose(line_up.load()(images)["logits"], np.mean(logits, axis=0), rtol=1e-4, atol=1e-4)


def test_the_described_targets_have_the_size_of_the_runs(config):
    sized = dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, image_size=32))
    assert several._line_up(sized, ["mini_vgg"])["targets"] == {"mini_vgg": {"name": "mini_vgg", "image_size": 32}}


# --- mistakes are known before the first run begins ---


def test_a_part_that_nobody_plays_is_named_first(config, tmp_path):
    lacking = {part: name for part, name in config.experiment.networks.items() if part != "ens4V3"}
    changed = dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, networks=lacking))
    with pytest.raises(TargetError, match="no network plays ens4V3: expected ens4V3=NAME in `networks`"):
        train_each(changed, TARGETS, tmp_path / "runs", tmp_path / "sets")
    assert not list(tmp_path.iterdir())


def test_the_weights_of_the_last_target_are_looked_for_first(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HGD_CHECKPOINTS", str(tmp_path / "absent"))
    with pytest.raises(CheckpointError, match=r"resnet152: no weights\. Expected resnet152-b121ed2d\.pth"):
        train_each(config, ("mini_vgg", "resnet152"), tmp_path / "runs", tmp_path / "sets")
    assert not list(tmp_path.iterdir())


def test_what_is_of_one_target_is_refused(config, tmp_path):
    experiment = dataclasses.replace(config.experiment, checkpoint="weights.h5")
    with pytest.raises(HgdError, match=r"^`checkpoint` is of one target, received weights\.h5 for several$"):
        train_each(dataclasses.replace(config, experiment=experiment), ["mini_vgg"], tmp_path, tmp_path / "sets")


def test_a_run_of_another_configuration_is_noticed_first(config, tmp_path):
    experiment = dataclasses.replace(config.experiment, target=TARGETS[1])
    other = dataclasses.replace(config, experiment=experiment, epochs=9).to_json()
    write_json(tmp_path / "runs" / TARGETS[1] / "config.json", {**other, "versions": {}})
    with pytest.raises(RunError, match=r"mini_vgg holds a run of another configuration \(epochs was 9, now 2\)"):
        train_each(config, TARGETS, tmp_path / "runs", tmp_path / "sets")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [TARGETS[1]]
