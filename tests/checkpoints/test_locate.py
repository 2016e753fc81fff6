"""Where weights are looked for: named, set, in the environment, in the user's cache; and by processes started here."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from hgd_tf.checkpoints.locate import (
    DEFAULT_DIRECTORY,
    DIRECTORY_VARIABLE,
    checkpoint_directory,
    chosen_directory,
    set_checkpoint_directory,
)
from hgd_tf.competition.isolation import run_isolated

TELL = "import os; print(os.environ.get('HGD_CHECKPOINTS'))"


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    yield
    set_checkpoint_directory(None)


def test_what_is_named_comes_before_what_was_set_and_that_before_the_environment(monkeypatch):
    assert checkpoint_directory() == Path(DEFAULT_DIRECTORY).expanduser()
    monkeypatch.setenv(DIRECTORY_VARIABLE, "of_environment")
    assert checkpoint_directory() == Path("of_environment") and chosen_directory() is None
    set_checkpoint_directory("chosen")
    assert (checkpoint_directory(), checkpoint_directory("named")) == (Path("chosen"), Path("named"))
    set_checkpoint_directory(None)
    assert checkpoint_directory() == Path("of_environment")


@pytest.mark.parametrize("chosen", [None, "weights"])
def test_a_program_that_is_started_looks_there_too_from_wherever_it_runs(chosen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_checkpoint_directory(chosen)
    (tmp_path / "elsewhere").mkdir()
    run_isolated([sys.executable, "-c", TELL], tmp_path / "elsewhere", tmp_path / "log", 60, threading.Event())
    assert (tmp_path / "log").read_text().strip() == str(chosen and tmp_path / chosen)
