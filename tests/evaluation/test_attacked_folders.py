"""Folders of images that others attacked, on the small networks and the embedded images."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import pytest
from PIL import Image
from small_run import assert_one_line
from warm_commands import run_warm

import hgd_tf
from hgd_tf.attacks import METHODS, SignGradientAttack
from hgd_tf.data import LabeledImages, load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.defenses import Defense, save_defense
from hgd_tf.denoisers import median
from hgd_tf.errors import DataError, RunError
from hgd_tf.evaluation import attacked_answers
from hgd_tf.evaluation.attacked_folders import evaluate_attacked, wilson
from hgd_tf.evaluation.attacked_labels import read_label_table
from hgd_tf.targets import load_target

COUNT, EPSILON, CLASSES = 40, 16, 10
TARGET = load_target("mini_vgg")
DEFENSES = {"median": Defense(median(1), TARGET)}
NAMES = [f"{number:03d}.png" for number in range(COUNT)]


class Workplace(NamedTuple):
    """Folders `clean` and `fgsm`, the images in them, and the targets, which lie one class on."""

    folder: Path
    clean: LabeledImages
    attacked: np.ndarray
    targets: np.ndarray


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    folder = tmp_path_factory.mktemp("attacked")
    clean = load_fashion_mnist().test.head(COUNT)
    attacked = SignGradientAttack([TARGET], label="true")(clean.images, EPSILON, METHODS["fgsm"], clean.labels, seed=0)
    attacked = np.clip(np.round(attacked), 0, 255).astype(np.uint8)
    for name, before, after in zip(NAMES, clean.images, attacked):
        write_image(folder / "clean" / name, before[np.newaxis])
        write_image(folder / "fgsm" / name, after[np.newaxis])
    targets = (clean.labels + 1) % CLASSES
    write_table(folder / "from0.csv", ("filename", "label", "targeted_label"), NAMES, clean.labels, targets)
    stems = [Path(name).stem for name in NAMES]
    write_table(folder / "from1.csv", ("ImageId", "TrueLabel", "TargetClass"), stems, clean.labels + 1, targets + 1)
    save_defense(DEFENSES["median"], folder / "saved")
    return Workplace(folder, clean, attacked, targets)


def write_table(path: Path, *columns) -> Path:
    header, *cells = columns
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *zip(*cells)])
    return path


def answers(defense, images: np.ndarray) -> np.ndarray:
    return defense(images)["classes"].numpy()


def test_the_rates_and_the_perturbation_are_those_of_the_arrays(workplace):
    folder, clean, attacked, targets = workplace
    results = evaluate_attacked(DEFENSES, [folder / "fgsm"], folder / "from0.csv", folder / "clean")
    assert list(results.rates) == ["clean", "fgsm"] and list(results.rates["fgsm"]) == ["none", "median"]
    for name, defense in {"none": Defense(None, TARGET), **DEFENSES}.items():
        classes, was_right = answers(defense, attacked), answers(defense, clean.images) == clean.labels
        rates = results.rates["fgsm"][name]
        assert rates.images == COUNT
        assert rates.accuracy == pytest.approx(np.mean(classes == clean.labels))
        assert rates.success == pytest.approx(np.mean(classes != clean.labels))
        assert rates.success_of_right == pytest.approx(np.mean((classes != clean.labels)[was_right]))
        assert rates.targeted_success == pytest.approx(np.mean(classes == targets))
        assert rates.low < rates.accuracy < rates.high
        assert results.rates["clean"][name].accuracy == pytest.approx(np.mean(was_right))
    assert results.rates["clean"]["none"].accuracy > 0.7 > results.rates["fgsm"]["none"].accuracy
    moved, difference = results.surveys["fgsm"].perturbation, attacked.astype(float) - clean.images
    assert moved.images == COUNT and 0 < moved.linf <= EPSILON
    assert moved.l2 == pytest.approx(np.mean(np.sqrt(np.sum(difference**2, axis=(1, 2, 3)))))
    assert f"L∞ {EPSILON} at most" in results.table() and "fgsm: median" in results.table()


def test_the_interval_is_wilson_s():
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_tables_from_0_and_from_1_give_equal_rates(workplace):
    folder = workplace.folder
    from_0, from_1 = (
        evaluate_attacked(Defense(None, TARGET), str(folder / "fgsm"), folder / table, folder / "clean")
        for table in ("from0.csv", "from1.csv")
    )
    assert from_0.rates == from_1.rates
    right = f"{round(COUNT * from_0.rates['clean']['none'].accuracy)} of {COUNT} clean images are right so"
    assert "classes from 0, since " in from_0.labels[0] and right in from_0.labels[0]
    assert "classes from 1, since " in from_1.labels[0] and right in from_1.labels[0]


@pytest.mark.parametrize(
    ("header", "labels", "first", "reason"),
    [
        ("filename,label", (3, 5), 0, "as tables with the columns filename, label do"),
        ("ImageId,TrueLabel", (3, 5), 1, "as tables with the columns ImageId, TrueLabel do"),
        ("filename,label", (3, 10), 1, r"line 3 has 10 of 10 classes"),
        ("ImageId,TrueLabel", (0, 5), 0, "line 2 has a 0"),
    ],
)
def test_what_a_table_counts_from(tmp_path, header, labels, first, reason):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *(f"{place},{label}" for place, label in enumerate(labels))]))
    table = read_label_table(path, CLASSES)
    assert table.first == first and reason in table.reason
    assert list(table.labels) == [label - first for label in labels] and set(table.targets) == {-1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("filename,label\na,0\nb,10", r"line 3: expected classes of 0\.\.9, since .*line 2 has a 0.*received 10"),
        ("filename,label\na,0\nb,11", r"line 3: expected a class of 0\.\.9, or of 1\.\.10.*received 11"),
        ("filename,label\na,-1", r"line 2: expected a class's number, received '-1'"),
        ("filename,label\na,1\na,1", r"line 3: expected every image once, received a again, as in .*line 2"),
        ("filename,label\n,1", r"line 2: expected an image's name, received none"),
        ("filename,label", r"expected a line for each image, received none"),
        ("name,class\na,1", r"expected columns filename, label .*ImageId, TrueLabel .*received name, class"),
    ],
)
def test_a_table_that_fits_neither_count_is_refused(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_label_table(tmp_path / "labels.csv", CLASSES)


def test_a_table_of_the_other_count_is_warned_of(workplace, tmp_path):
    folder, clean, _, _ = workplace
    kept = np.flatnonzero(clean.labels != CLASSES - 1)
    names = [NAMES[number] for number in kept]
    shifted = write_table(tmp_path / "shifted.csv", ("filename", "label"), names, clean.labels[kept] + 1)
    with pytest.warns(UserWarning, match=r"its classes seem to count from 1: undefended, \d+ of \d+ clean"):
        evaluate_attacked(DEFENSES, [folder / "fgsm"], shifted, folder / "clean")


def test_odd_files_are_named_and_images_of_any_size_are_classified(workplace, tmp_path):
    folder, clean, attacked, _ = workplace
    odd = tmp_path / "odd"
    shutil.copytree(folder / "fgsm", odd)
    (odd / NAMES[0]).unlink()
    shutil.copy(odd / NAMES[1], odd / "stranger.png")
    Image.open(odd / NAMES[2]).save(odd / "002.jpg")
    (odd / NAMES[2]).unlink()
    Image.open(odd / NAMES[3]).resize((32, 40)).save(odd / NAMES[3])
    (odd / NAMES[4]).write_bytes((odd / NAMES[4]).read_bytes()[:200])
    (odd / "labels.csv").write_text("not an image")
    results = evaluate_attacked(DEFENSES, [odd], folder / "from0.csv", folder / "clean")
    found = results.surveys["odd"]
    assert found.odd == {
        "missing": [NAMES[0]],
        "extra": ["stranger.png"],
        "jpeg": ["002.jpg"],
        "resized": [f"{NAMES[3]} (32x40, clean 28x28)"],
        "broken": [NAMES[4]],
    }
    assert found.perturbation.images == COUNT - 3
    assert results.rates["odd"]["none"].images == COUNT - 2
    for line in ("odd: 1 named by the table, not there: 000.png", "odd: 1 no image or truncated, left out: 004.png"):
        assert line in results.table()
    unharmed = answers(DEFENSES["median"], attacked[5:]) == clean.labels[5:]
    resized = np.asarray(Image.open(odd / NAMES[3]))[np.newaxis, ..., np.newaxis]
    jpeg = np.asarray(Image.open(odd / "002.jpg"))[np.newaxis, ..., np.newaxis]
    odd_ones = [answers(DEFENSES["median"], one)[0] for one in (attacked[1:2], jpeg, resized)] == clean.labels[1:4]
    right = np.sum(unharmed) + np.sum(odd_ones)
    assert results.rates["odd"]["median"].accuracy == pytest.approx(right / (COUNT - 2))


def test_what_is_not_there_is_refused(workplace, tmp_path):
    table = workplace.folder / "from0.csv"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected images such as 000\.png, received 40 named by the table"):
        evaluate_attacked(DEFENSES, [tmp_path / "empty"], table)
    with pytest.raises(DataError, match="no such folder of images: absent"):
        evaluate_attacked(DEFENSES, ["absent"], table)
    with pytest.raises(RunError, match="at least one defence, received none"):
        evaluate_attacked([], [workplace.folder / "fgsm"], table)


def test_a_rerun_classifies_only_what_is_new(workplace, tmp_path, monkeypatch):
    folder, clean, _, targets = workplace
    attacked, out = tmp_path / "fgsm", tmp_path / "out"
    shutil.copytree(folder / "fgsm", attacked)
    asked: list[int] = []
    classified = attacked_answers._classified

    def counted(defense, files, on_batch):
        asked.append(len(files))
        if len(asked) == stop_at:
            raise KeyboardInterrupt
        return classified(defense, files, on_batch)

    def evaluated(defenses=DEFENSES):
        asked.clear()
        return evaluate_attacked(defenses, [attacked], folder / "from0.csv", folder / "clean", out)

    monkeypatch.setattr(attacked_answers, "_classified", counted)
    stop_at: Optional[int] = 4
    with pytest.raises(KeyboardInterrupt):
        evaluated()
    assert not (out / "attacked.json").exists()
    stop_at = None
    first = evaluated()
    assert asked == [COUNT]
    again = evaluated()
    assert not asked and again.rates == first.rates
    os.utime(attacked / NAMES[0], ns=(0, 0))
    evaluated()
    assert asked == [COUNT, COUNT]
    with open(out / "fgsm.median.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["filename", "label", "target", "class"]
    expected = zip(NAMES, clean.labels, targets, answers(DEFENSES["median"], workplace.attacked))
    assert rows == [[name, *map(str, numbers)] for name, *numbers in expected]
    saved = json.loads((out / "attacked.json").read_text())
    assert saved["folders"]["fgsm"]["defenses"]["median"]["accuracy"] == first.rates["fgsm"]["median"].accuracy
    assert saved["labels"]["first"] == 0
    evaluated({"median": Defense(median(1, size=5), TARGET)})
    assert asked == [COUNT, COUNT]  # of the same name and weights, another window


def test_defences_of_several_targets_stand_beside_theirs(workplace):
    resnet = Defense(median(1), load_target("mini_resnet"))
    results = hgd_tf.evaluate_attacked(
        [DEFENSES["median"], resnet], workplace.folder / "fgsm", workplace.folder / "from0.csv"
    )
    expected = ["none (mini_vgg@28)", "none (mini_resnet@28)", "mini_vgg", "mini_resnet"]
    assert list(results.rates["fgsm"]) == expected
    assert results.rates["fgsm"]["mini_vgg"].success_of_right is None


def test_the_command(workplace):
    flags = ["saved", "--attacked_dirs=fgsm", "--labels=from1.csv", "--clean_dir=clean"]
    done = run_warm(workplace.folder, "hgd_tf.evaluate", flags)
    assert done.status == 0, done.stderr
    assert "from1.csv: classes from 1" in done.stdout and "fgsm: saved" in done.stdout
    assert (workplace.folder / "runs" / "attacked" / "fgsm.saved.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["saved", "--attacked_dirs=fgsm"], "--attacked_dirs needs --labels"),
        (["saved", "--clean_dir=clean"], "--clean_dir goes with --attacked_dirs"),
        (["saved", "--attacked_dirs=fgsm", "--labels=from0.csv", "--test_dir=clean"], "expected no --test_dir"),
        (["--attacked_dirs=fgsm", "--labels=from0.csv", "--table=t.json"], "expected no --table"),
        (["--attacked_dirs=fgsm", "--labels=from0.csv"], "at least one defence"),
        (["saved", "--attacked_dirs=fgsm", "--labels=absent.csv"], "no such table: absent.csv"),
    ],
)
def test_mistakes_of_the_command(workplace, arguments, named):
    done = run_warm(workplace.folder, "hgd_tf.evaluate", arguments)
    assert_one_line(done, named)
