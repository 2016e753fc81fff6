"""Flags of a short run of `python -m hgd_tf.train`, and what tests of commands ask of their output."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from warm_commands import Outcome

from hgd_tf.data.fashion_mnist import load_fashion_mnist

SMALL = [
    "--run_dir=run",
    "--target=mini_vgg",
    "--sets_dir=sets",
    "--members=target",
    "--holdout=target",
    "--ens_target=",
    "--train_images=20",
    "--validation_images=20",
    "--batch_size=20",
    "--width=0.015625",
    "--epochs=4",
    "--steps_per_epoch=1",
    "--guidance=pixel",
    "--test_images=20",
    "--adaptive_images=4",
    "--strategy=one_device",
]


def write_dress(path: Path) -> None:
    """An image of class 3 in a file."""
    images, labels = load_fashion_mnist().test
    Image.fromarray(images[labels == 3][0, :, :, 0]).save(path)


def terminal_lines(stderr: str) -> list[str]:
    """What a terminal shows in the end, without progress bars."""
    shown = (
        [line.rsplit("\r", 1)[-1] for line in stderr.splitlines()]
        if "\r" not in stderr
        else re.split(r"[\r\n]", stderr)
    )
    return [line for line in shown if line.strip() and not re.match(r"\w[\w ]*: +\d+%\|.*\[.*\] *$", line)]


def assert_one_line(outcome: Outcome, named: str) -> None:
    assert outcome.status == 1
    assert "Traceback" not in outcome.stderr + outcome.stdout
    (line,) = terminal_lines(outcome.stderr)
    assert line.startswith("error: ")
    assert re.search(named, line), line
