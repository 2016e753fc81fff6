"""Killed at any moment, spread over processes: the set is the one that an unbroken run writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_set import content_of

from hgd_tf.crafting import open_shards, read_manifest
from hgd_tf.crafting.verify import verify_set

pytestmark = pytest.mark.slow

KILLS = 10
COMMAND = [
    sys.executable, "-m", "hgd_tf.craft", "--recipe=train_mix", "--members=target,mini_resnet", "--count=96",
    "--shard_size=4", "--batch_size=4", "--output_dir",
]  # fmt: skip
LIMIT = 300  # seconds that a process may take on a busy machine


def craft(folder: Path, *arguments: str) -> Path:
    done = subprocess.run([*COMMAND, str(folder), *arguments], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return folder / "train_mix"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    return craft(tmp_path_factory.mktemp("unbroken"))


def shard_count(folder: Path) -> int:
    return len(list(folder.glob("*/images-*.tfrecord")))


def kill_once(folder: Path, moment: random.Random) -> bool:
    """Starts the command and kills it after it wrote none to two shards and some more time; whether it was running."""
    process = subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted, deadline = shard_count(folder) + moment.randrange(3), time.time() + LIMIT
    while process.poll() is None and time.time() < deadline:
        if (folder / "train_mix" / "plan.json").exists() and shard_count(folder) >= wanted:
            break
        time.sleep(0.005)
    time.sleep(moment.uniform(0.0, 0.3) if wanted else moment.uniform(0.0, 8.0))
    os.kill(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.long
def test_killed_ten_times_it_ends_with_the_bytes_of_an_unbroken_run(unbroken, tmp_path):
    moment = random.Random(0)
    assert sum(kill_once(tmp_path, moment) for _ in range(KILLS)) == KILLS
    assert 0 < shard_count(tmp_path) < 24
    assert content_of(craft(tmp_path)) == content_of(unbroken)
    assert verify_set(unbroken) == 96


def test_beam_on_two_processes_crafts_the_same_set(unbroken, tmp_path):
    pytest.importorskip("apache_beam", reason="extra beam is not installed")
    options = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    folder = craft(tmp_path, "--runner=beam", *(f"--beam_option={option}" for option in options))
    local, spread = (open_shards(path, read_manifest(path)) for path in (unbroken, folder))
    assert verify_set(folder) == 96
    equal = []
    for shard in range(24):
        for one, other in zip(local.read(shard), spread.read(shard)):
            assert (one.number, one.name, one.label) == (other.number, other.name, other.label)
            np.testing.assert_array_equal(one.epsilon, other.epsilon)
            np.testing.assert_array_equal(one.clean, other.clean)
            equal.append(np.mean(one.attacked == other.attacked))
    assert len(equal) == 96 and np.mean(equal) >= 0.999
