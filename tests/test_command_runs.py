"""The commands as a user meets them: what they print, leave behind and exit with. Mistakes: `test_commands.py`."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from heed_sigint import HEED_SIGINT
from PIL import Image
from small_run import SMALL, assert_one_line, terminal_lines, write_dress
from warm_commands import Outcome, run_warm

LIMIT = 400  # seconds that a process may take on a busy machine
# `python -m hgd_tf.train`, but for one convolution a block instead of two or three: compiled in a third of the time.
TRAIN = """
import functools

from hgd_tf.foundation.quiet import mute_tensorflow

mute_tensorflow()  # as `python -m` does it
from hgd_tf import cli
from hgd_tf.denoisers import DENOISERS, dunet
from hgd_tf.denoisers.networks import FEEDBACK, FEEDFORWARD
from hgd_tf.train import main

one_each = [[(1, channels) for _, channels in blocks] for blocks in (FEEDFORWARD, FEEDBACK)]
DENOISERS["dunet"] = functools.partial(dunet, feedforward=one_each[0], feedback=one_each[1])
cli.run(main)
"""


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"hgd_tf.{module}", *arguments]


def run(folder: Path, command: list[str]) -> Outcome:
    """In a process of its own."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_nothing_but_the_error_is_printed_by_a_process_of_its_own(tmp_path):
    outcome = run(tmp_path, command("train", *SMALL, "--target=resnet999"))
    assert_one_line(outcome, "resnet999")
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1


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
    return Story(folder, interrupted, epochs, run(folder, [sys.executable, "-c", TRAIN, *SMALL]))


def interrupt_training(folder: Path) -> Outcome:
    """Starts a run and sends it SIGINT as soon as it has an epoch behind it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEED_SIGINT, sys.executable, "-c", TRAIN, *SMALL],
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
    assert terminal_lines(story.interrupted.stderr) == ["interrupted; the same command goes on where this one stopped"]
    assert 1 <= story.epochs_before < 4


def test_the_same_command_finishes_after_ctrl_c(story):
    assert story.finished.status == 0
    assert terminal_lines(story.finished.stderr) == []
    assert [row["epoch"] for row in log_rows(story.folder)] == ["0", "1", "2", "3"]
    assert f"epoch   {story.epochs_before}/4" not in story.finished.stdout
    assert "epoch   4/4" in story.finished.stdout


def test_a_run_prints_its_table(story):
    printed = story.finished.stdout.splitlines()
    (header,) = [line for line in printed if line.startswith("mini_vgg behind")]
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
    outcome = run_warm(story.folder, "hgd_tf.evaluate", ["run", "--sets_dir=sets", "--output_dir=table"])
    assert (outcome.status, terminal_lines(outcome.stderr)) == (0, [])
    own, again = (json.loads((story.folder / where / "results.json").read_text()) for where in ("run", "table"))
    assert again == own
    assert outcome.stdout.splitlines()[-1] == "Results are in table"
    assert "crafting" not in outcome.stderr


def test_defend_says_before_and_after_and_writes_the_image(story):
    outcome = run_warm(
        story.folder, "hgd_tf.defend", ["--defense=run", "--images=dress.png", "--output=out/denoised.png"]
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    before, after, written = outcome.stdout.splitlines()
    assert re.fullmatch(r"mini_vgg before: class 3 \(Dress\), \d+\.\d %", before)
    assert re.fullmatch(r"mini_vgg after:  class \d \([\w/\- ]+\), \d+\.\d %", after)
    assert written == "denoised image: out/denoised.png"
    with Image.open(story.folder / "out" / "denoised.png") as image:
        assert (image.size, image.mode) == ((28, 28), "L")


def test_certify_prints_its_table_and_goes_on_in_its_files(story):
    def certify(count: int) -> Outcome:
        arguments = ["run", "none", "--sigma=0.1", "--n0=10", "--n=40", f"--max_images={count}", "--skip=2"]
        return run_warm(story.folder, "hgd_tf.certify", arguments)

    assert certify(2).status == 0
    folder = story.folder / "runs" / "certified" / "sigma_0.1"
    begun = (folder / "run.tsv").read_text()
    outcome = certify(3)
    assert outcome.status == 0, outcome.stderr
    assert (folder / "run.tsv").read_text().startswith(begun)
    rows = [line.split("\t") for line in (folder / "none.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["idx", "0", "2", "4"]
    written = json.loads((folder / "certified.json").read_text())["defenses"]
    header, *lines = outcome.stdout.splitlines()[:3]
    assert header.split()[-5:] == ["0", "0.25", "0.5", "0.75", "abstentions"]
    for name, line in zip(("run", "none"), lines):
        share = written[name]["certified_accuracy"]["0"]["share"]
        assert re.match(rf"{name} +{100 * share:.1f} % \(", line) and written[name]["images"] == 3
    assert "n=40 draws cannot certify more than 0.100" in outcome.stdout  # 0.1 Φ⁻¹(0.001^(1/40))
    assert outcome.stdout.splitlines()[-1] == "Results are in runs/certified/sigma_0.1"


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
    assert_disk_full(run_warm(tmp_path, "hgd_tf.train", [*SMALL, f"--sets_dir={disk}/sets"]), disk)
    assert not list(disk.rglob("*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "40k", "450k"], ids=["at the target's name", "at the denoiser", "at the state"])
def test_a_full_disk_under_the_run_is_one_line(tiny_disk, tmp_path, story, size):
    disk = tiny_disk(size)
    folders = [f"--sets_dir={story.folder}/sets", f"--run_dir={disk}/run"]
    assert_disk_full(run_warm(tmp_path, "hgd_tf.train", [*SMALL, *folders]), disk)


# --- craft and attack ---

SMALL_CRAFT = ["--recipe=white_eps4", "--members=target", "--holdout=target", "--count=40", "--shard_size=2"]


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
    again = run_warm(tmp_path, "hgd_tf.craft", [*SMALL_CRAFT, "--output_dir=stopped"])
    assert again.status == 0, again.stderr
    assert f"/{2 * (40 - 2 * done)} [" in again.stderr  # the rest only
    assert re.search(r"ifgsm4_ensemble +\d\.\d+ +\d+\.\d % \(\d+\.\d %\)", again.stdout)
    assert "stopped/white_eps4: 40 images, 80 attacked" in again.stdout
    whole = run_warm(tmp_path, "hgd_tf.craft", [*SMALL_CRAFT, "--output_dir=whole"])
    assert whole.status == 0, whole.stderr
    files = {path.name: path.read_bytes() for path in stopped.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "whole" / "white_eps4").iterdir()}
    verified = run_warm(tmp_path, "hgd_tf.craft", ["--verify", "--output_dir=stopped/white_eps4"])
    assert "40 images, all as they were written" in verified.stdout


def test_a_folder_of_broken_files_is_an_error_that_names_them(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "words.png").write_text("these are words")
    crafted = run_warm(tmp_path, "hgd_tf.craft", [*SMALL_CRAFT, "--images=words", "--output_dir=sets"])
    assert crafted.status == 1 and "left out, no image: words" in crafted.stdout
    assert "none of its 1 files is an image" in crafted.stderr and "Traceback" not in crafted.stderr
    arguments = ["--method=no_op", "--images=words", "--output_dir=out", "--max_epsilon=4"]
    attacked = run_warm(tmp_path, "hgd_tf.attack", arguments)
    assert attacked.status == 1 and "Traceback" not in attacked.stderr
    assert "skipped: words/words.png is truncated or no image" in attacked.stderr
    assert "none of the 1 PNG files in words is an image to attack" in attacked.stderr
