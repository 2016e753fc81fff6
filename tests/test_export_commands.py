"""The commands export and package_submission: what they leave behind, and mistakes on one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hgd_tf.defenses import Defense, save_defense
from hgd_tf.denoisers import dunet
from hgd_tf.targets import load_target

MISTAKES = {
    "nothing": ("export", [], r"defense.*models"),
    "both": ("export", ["--defense=a", "--models=b"], r"defense.*models"),
    "no version": ("export", ["--defense=a", "--version=0"], r"version"),
    "a path as name": ("export", ["--defense=a", "--name=../up"], r"name.*expected letters"),
    "no such defense": ("export", ["--defense=absent"], r"absent holds no defense"),
    "no such ensemble": ("export", ["--models=absent.json"], r"no such description of an ensemble: absent.json"),
    "a version that exists": ("export", ["--defense=there", "--output_dir=old"], r"old/there/1 exists already"),
    "nothing to pack": ("package_submission", [], r"models.*validate_file"),
    "pack and check": ("package_submission", ["--models=a", "--validate_file=b"], r"models.*validate_file"),
    "no image": ("package_submission", ["--validate_file=b", "--images=0"], r"images"),
    "no ensemble": ("package_submission", ["--models=absent.json"], r"absent.json"),
    "no submission": ("package_submission", ["--validate_file=absent.zip"], r"absent.zip is no valid.*: archive"),
}

# Importing TensorFlow takes longer than making a mistake: it is imported once, and each command runs in a fork.
FORKS = """
import json, os, runpy, sys
import hgd_tf.competition.packaging, hgd_tf.defenses.line_up

for name, module, arguments in json.load(sys.stdin):
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        open(f"{name}.status", "w").write(str(status))
        continue
    os.dup2(os.open(f"{name}.stderr", os.O_CREAT | os.O_WRONLY), 2)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(70)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Path:
    """The folder in which a fine export and every mistake were made."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "old" / "there" / "1").mkdir(parents=True)
    save_defense(Defense(dunet(1 / 64, 1), load_target("mini_inception")), folder / "saved")
    jobs = [(name, f"hgd_tf.{module}", arguments) for name, (module, arguments, _) in MISTAKES.items()]
    jobs.append(("fine", "hgd_tf.export", ["--defense=saved", "--name=fine", "--version=7"]))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", FORKS]
    subprocess.run(command, input=json.dumps(jobs), cwd=folder, env=environment, text=True, check=True, timeout=300)
    return folder


def test_the_command_writes_one_version_and_nothing_else(commands):
    assert ((commands / "fine.status").read_text(), (commands / "fine.stderr").read_text()) == ("0", "")
    assert [str(path.relative_to(commands)) for path in (commands / "runs" / "exports").glob("*/*")] == [
        "runs/exports/fine/7"
    ]
    assert (commands / "runs" / "exports" / "fine" / "7" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(commands, name):
    message = (commands / f"{name}.stderr").read_text()
    assert (commands / f"{name}.status").read_text() == "1", message
    (line,) = message.splitlines()
    assert line.startswith("error: ") and re.search(MISTAKES[name][-1], line), line
