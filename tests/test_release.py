"""What is released works alone: the source distribution builds the wheel, and the wheel runs in an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from warm_commands import run_warm

import hgd_tf
from hgd_tf.foundation.bundled import PATTERNS, bundled_names

ROOT = Path(__file__).parents[1]
NOT_RELEASED = ("__pycache__", "*.egg-info", ".git", ".venv*", ".*_cache", "build", "dist", "runs", "shared")
LICENSES = ("LICENSE", "LICENSES.md", "LICENSE.fashion-mnist")
LOADING = """
import hgd_tf
from hgd_tf.defenses.line_up import read_line_up

print(hgd_tf.__file__)
print(hgd_tf.load_defense("mini_inception_lgd").target.name)
print(len(hgd_tf.load_samples()[0]), len(read_line_up("submission/models.json").flows))
"""
SMALL_RUN = [
    *("--target=mini_vgg", "--members=target", "--holdout=target", "--ens_target=", "--strategy=one_device"),
    *("--train_images=4", "--validation_images=2", "--batch_size=4", "--width=0.015625", "--epochs=1"),
    *("--steps_per_epoch=1", "--craft=online"),
]


def project_files() -> set[str]:
    """All files of the working tree that git does not ignore, as paths below the root."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True) if shutil.which("git") else None
    if listed is None or listed.returncode:
        pytest.skip("what belongs to the project is known in a clone only")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """What this interpreter prints, with environment variables beside this process's."""
    command, variables = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*NOT_RELEASED))
    python("setup.py", "--quiet", "sdist", f"--dist-dir={folder}", cwd=folder / "copy")
    shutil.rmtree(folder / "copy")
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(source_archive):
    folder = source_archive.parent
    quiet = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    python("-m", "pip", "wheel", *quiet, f"--wheel-dir={folder}", str(source_archive), cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder into which the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    quiet = ("--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check")
    python("-m", "pip", "install", *quiet, f"--target={folder}", str(wheel), cwd=wheel.parent)
    return folder


def test_one_version_is_told_everywhere():
    citation, changes = ((ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md"))
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [hgd_tf.__version__]
    assert re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)[0] == hgd_tf.__version__


@pytest.mark.slow
def test_a_source_distribution_holds_the_whole_project(source_archive):
    with tarfile.open(source_archive) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert project_files() <= names


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_what_it_brings_of_the_root(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
    package = {name for name in project_files() if name.startswith("hgd_tf/")}
    brought = {f"hgd_tf/bundled_files/{name}" for pattern in PATTERNS for name in bundled_names(pattern)}
    assert {name for name in names if name.startswith("hgd_tf/")} == package | brought
    assert {"hgd_tf/py.typed", "hgd_tf/bundled_files/lgd.flags", "hgd_tf/data/sample_images/zebra.png"} < set(names)
    assert {Path(name).name for name in names if "dist-info/" in name} >= set(LICENSES)
    assert f"\nVersion: {hgd_tf.__version__}\n" in metadata


@pytest.mark.slow
def test_an_installed_package_needs_nothing_of_the_project(installed, tmp_path):
    def run(module: str, *arguments: str) -> str:
        outcome = run_warm(tmp_path, f"hgd_tf.{module}", arguments, installed=installed)
        assert outcome.status == 0, outcome.stderr
        return outcome.stdout

    loaded = python("-c", LOADING, cwd=tmp_path, PYTHONPATH=str(installed))
    assert loaded.split() == [str(installed / "hgd_tf/__init__.py"), "mini_inception", "12", "2"]
    shutil.copytree(installed / "hgd_tf/data/sample_images", tmp_path / "images")
    run("train", "--flagfile=fgd.flags", "--images=images", *SMALL_RUN)
    config = (tmp_path / "runs/fgd/config.json").read_text()
    assert '"guidance": "feature"' in config and '"stop_patience": 3' in config  # of fgd.flags, of lgd.flags
    assert "runs/exports/defense/1" in run("export", "--defense=runs/fgd", "--name=defense")
    assert "after:" in run("defend", "--images=sample:zebra", "--defense=mini_inception_lgd", "--output=zebra.png")
    assert len(run("craft", "--write_attack_dirs").splitlines()) == len(list((ROOT / "attacks").iterdir()))
