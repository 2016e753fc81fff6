"""The commands export and package_submission: what they leave behind, and mistakes on one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import assert_one_line
from warm_commands import run_warm

from hgd_tf.defenses import Defense, save_defense
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

MISTAKES = {
    "nothing": ("export", [], r"--defense"),
    "no version": ("export", ["--defense=a", "--version=0"], r"version"),
    "a path as name": ("export", ["--defense=a", "--name=../up"], r"name.*expected letters"),
    "no such defense": ("export", ["--defense=absent"], r"absent holds no defense"),
    "no such ensemble": ("export", ["--defense=absent.json"], r"no such description of an ensemble: absent.json"),
    "a version that exists": ("export", ["--defense=there", "--output_dir=old"], r"old/there/1 exists already"),
    "nothing to pack": ("package_submission", [], r"defense.*validate_file"),
    "pack and check": ("package_submission", ["--defense=a", "--validate_file=b"], r"defense.*validate_file"),
    "no image": ("package_submission", ["--validate_file=b", "--count=0"], r"count"),
    "no ensemble": ("package_submission", ["--defense=absent.json"], r"absent.json"),
    "no submission": ("package_submission", ["--validate_file=absent.zip"], r"absent.zip is no valid.*: archive"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "old" / "there" / "1").mkdir(parents=True)
    save_defense(Defense(_denoiser(), load_target("mini_vgg")), folder / "saved")
    return folder


def _denoiser() -> keras.Model:
    images = keras.Input((None, None, 1))
    return keras.Model(images, keras.layers.Conv2D(1, 3, padding="same")(images))


def test_the_command_writes_one_version_and_nothing_else(folder):
    done = run_warm(folder, "hgd_tf.export", ["--defense=saved", "--name=fine", "--version=7"])
    assert (done.status, done.stderr) == (0, "")
    exports = folder / "runs" / "exports"
    assert [str(path.relative_to(exports)) for path in exports.glob("*/*")] == ["fine/7"]
    assert (exports / "fine" / "7" / "saved_model.pb").is_file()


def test_a_line_up_is_exported_under_its_files_name(folder):
    """By the flag's old name too, which is told."""
    described = {
        "denoisers": {"A": {"defense": "saved"}},
        "targets": {"X": {"name": "mini_vgg"}},
        "flows": ["A->X", "X"],
    }
    (folder / "two.flows.json").write_text(json.dumps(described))
    done = run_warm(folder, "hgd_tf.export", ["--models=two.flows.json", "--output_dir=out"])
    assert (done.status, done.stderr) == (0, "--models is --defense now\n")
    assert (folder / "out" / "two.flows" / "1" / "saved_model.pb").is_file()
    assert "signatures serving_default, serving_bytes\n" in done.stdout


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(folder, name):
    module, arguments, named = MISTAKES[name]
    assert_one_line(run_warm(folder, f"hgd_tf.{module}", arguments), named)
