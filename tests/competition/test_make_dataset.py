"""Datasets in the competition's format of one's own images."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hgd_tf.competition.dataset_writer import make_dataset
from hgd_tf.errors import DataError
from hgd_tf.tournaments.tournament import load_dataset


@pytest.fixture
def photographs(tmp_path):
    """Nine flat images, of classes 0, 7 and 999, in a folder a class."""
    for number, label in enumerate((0, 7, 999) * 3):
        (tmp_path / "photographs" / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (20 + number, 10), (20 * number, 30, 40))
        image.save(tmp_path / "photographs" / str(label) / f"{number}.png")
    return tmp_path / "photographs"


def make(photographs, folder, count: int = 9, size: int = 12, seed: int = 0):
    make_dataset(str(photographs), None, str(folder), count, size, seed)
    return load_dataset(folder / "images", folder / "dataset.csv")


def test_a_tournament_reads_it(photographs, tmp_path):
    dataset = make(photographs, tmp_path / "out")
    assert not dataset.unlabeled
    assert {image.image_id: image.true_label for image in dataset.images} == {
        str(number): 1 + (0, 7, 999)[number % 3] for number in range(9)
    }
    for image in dataset.images:
        assert image.target_class != image.true_label and 1 <= image.target_class <= 1000
        pixels = np.asarray(Image.open(image.path))
        assert pixels.shape == (12, 12, 3)
        assert np.all(pixels == (20 * int(image.image_id), 30, 40))


def test_the_seed_says_which_images_and_targets(photographs, tmp_path):
    first, again, other = (make(photographs, tmp_path / name, 4, seed=seed) for name, seed in zip("abc", (1, 1, 2)))
    answers = [[(image.image_id, image.target_class) for image in one.images] for one in (first, again, other)]
    assert answers[0] == answers[1] != answers[2]
    assert len(answers[0]) == 4


def test_too_few_images_and_equal_names_are_refused(photographs, tmp_path):
    with pytest.raises(DataError, match="expected 10 images, received 9"):
        make(photographs, tmp_path / "out", 10)
    (photographs / "7" / "1.png").rename(photographs / "7" / "0.png")
    with pytest.raises(DataError, match="expected images of different names"):
        make(photographs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_where_it_is_and_what_its_flags_are_called_now(photographs, tmp_path):
    command = [sys.executable, "-m", "hgd_tf.make_dataset", f"--data_dir={photographs}", "--images=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (
        0, "2 images are in runs/dataset/images, their table is dataset.csv beside it\n",
    )  # fmt: skip
    assert done.stderr.startswith("--data_dir is --images now\n--images=2 is --count now\n")
    former = [sys.executable, "-m", "hgd_tf.competition.make_dataset", "--images=absent"]
    failed = subprocess.run(former, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert re.fullmatch(".* is now called .*\nerror: no such folder of images: absent\n", failed.stderr)
