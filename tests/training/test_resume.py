"""The same training twice ends exactly alike, even where one run was killed: weights, optimizer, rates, losses.

Each run crafts its own images, in processes of its own.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.defenses import load_defense

pytestmark = pytest.mark.slow

# A learning rate so large that the validation loss soon rises, and drops it.
FLAGS = [
    "--members=target",
    "--holdout=target",
    "--ens_target=",
    "--train_images=20",
    "--validation_images=20",
    "--batch_size=20",
    "--width=0.015625",
    "--epochs=6",
    "--steps_per_epoch=2",
    "--patience=0",
    "--stop_patience=9",
    "--learning_rate=0.02",
    "--test_images=10",
    "--adaptive_images=2",
    "--strategy=one_device",
]
EPOCHS = 6
TIMES = ("images_per_second", "waiting", "crafting", "hours")
LIMIT = 300  # seconds that a process may take on a busy machine


def start(folder: Path, run_dir: str, log: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "hgd_tf.train", f"--run_dir={run_dir}", f"--sets_dir={run_dir}_sets", *FLAGS]
    with open(folder / log, "wb") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)


def rows(run: Path) -> list[dict[str, str]]:
    if not (run / "log.csv").exists():
        return []
    with open(run / "log.csv", newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def without_times(row: dict) -> dict:
    """A row of the log but for what depends on the machine's load."""
    return {name: value for name, value in row.items() if name not in TIMES}


def rates(run: Path) -> list[float]:
    return [float(row["lr"]) for row in rows(run)]


def wait_until(condition, process: subprocess.Popen, log: Path) -> None:
    """Returns as soon as `condition()` holds; fails where the process ends before."""
    end = time.monotonic() + LIMIT
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"ended with {process.wait()} or took too long: {log.read_text()}")
        time.sleep(0.02)


def trained(folder: Path, run_dir: str, log: str, process: subprocess.Popen) -> None:
    """Waits for the end of the training, and spares itself the evaluation."""
    wait_until(lambda: len(rows(folder / run_dir)) == EPOCHS, process, folder / log)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of the unbroken run and of the killed one, and the number of epochs that the latter had when killed."""
    folder = tmp_path_factory.mktemp("resume")
    unbroken, killed = start(folder, "unbroken", "unbroken.log"), start(folder, "killed", "killed.log")
    try:
        wait_until(lambda: len(set(rates(folder / "killed"))) > 1, killed, folder / "killed.log")
        killed.kill()  # SIGKILL
        assert killed.wait() == -9
        epochs = len(rows(folder / "killed"))
        killed = start(folder, "killed", "resumed.log")
        trained(folder, "unbroken", "unbroken.log", unbroken)
        trained(folder, "killed", "resumed.log", killed)
    finally:
        for process in (unbroken, killed):
            process.kill()
            process.wait()
    return folder / "unbroken", folder / "killed", epochs


def checkpoint(run: Path) -> dict[str, np.ndarray]:
    """Every variable in the state of a run."""
    name = json.loads((run / "state" / "state.json").read_text())["checkpoint"]
    reader = tf.train.load_checkpoint(str(run / "state" / name))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in key}


def test_the_run_was_killed_between_a_drop_of_the_rate_and_its_end(runs):
    unbroken, _, epochs = runs
    drop = next(number for number, rate in enumerate(rates(unbroken)) if rate < 0.01)
    assert 1 <= drop < epochs < EPOCHS


def test_the_log_of_the_resumed_run_is_that_of_the_unbroken_one(runs):
    """Every loss, accuracy and learning rate, in all their digits."""
    unbroken, killed, _ = runs
    assert [without_times(row) for row in rows(killed)] == [without_times(row) for row in rows(unbroken)]
    assert set(TIMES) < set(rows(killed)[0])
    assert [int(row["epoch"]) for row in rows(killed)] == list(range(EPOCHS))


def test_the_learning_rates_are_those_of_the_unbroken_run(runs):
    unbroken, killed, _ = runs
    assert rates(killed) == rates(unbroken)
    assert rates(killed)[0] == pytest.approx(0.02)
    assert min(rates(killed)) < 0.0021


def test_the_denoisers_are_bit_equal(runs):
    unbroken, killed, _ = runs
    expected = load_defense(unbroken).denoiser.get_weights()
    assert len(expected) > 50
    for one, other in zip(expected, load_defense(killed).denoiser.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_all_variables_in_the_state_are_bit_equal(runs):
    """Denoiser, moving statistics, Adam's moments, iterations and learning rate."""
    unbroken, killed, _ = runs
    one, other = checkpoint(unbroken), checkpoint(killed)
    assert one.keys() == other.keys()
    assert any("optimizer/_iterations" in key for key in one)
    assert any("optimizer/_learning_rate" in key for key in one)
    assert len(one) > 150
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_the_callbacks_remember_the_same(runs):
    states = [json.loads((run / "state" / "state.json").read_text()) for run in runs[:2]]
    for state in states:
        state["history"] = [without_times(row) for row in state["history"]]
    assert states[0] == states[1]


def test_the_killed_run_left_no_more_files_than_the_unbroken_one(runs):
    states = [sorted(file.name for file in (run / "state").iterdir()) for run in runs[:2]]
    assert states[0] == states[1] == ["epoch-6.data-00000-of-00001", "epoch-6.index", "state.json"]
