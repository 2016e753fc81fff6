"""What entries leave behind, taken as the organizers take it: nothing in it is trusted."""

from __future__ import annotations

import contextlib
import csv
import io
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hgd_tf.competition.files import LABELS
from hgd_tf.competition.runner import admitted_bytes
from hgd_tf.data.images import as_picture, decode_image, write_image
from hgd_tf.errors import DataError

ENDINGS = (".png", ".jpg")


class Labels(NamedTuple):
    """A defence's output: by image name without ending a label, and what is wrong with the output."""

    by_image: dict[str, int]
    problems: list[str]


def clip_to_ball(attacked: np.ndarray, original: np.ndarray, epsilon: int) -> np.ndarray:
    """The attacked image, no pixel of it further than `epsilon` from the original: all uint8 (H, W, C)."""
    center = original.astype(np.int16)
    return np.clip(attacked, np.maximum(center - epsilon, 0), np.minimum(center + epsilon, 255)).astype(np.uint8)


def collect_images(originals: Mapping[str, bytes], output_dir: Path, epsilon: int, kept_dir: Path) -> list[str]:
    """Clips what an attack wrote, and keeps it in another folder.

    Args:
      originals: the attacked images' files by their names; only these names are looked at.
      epsilon: to which it is clipped around the originals.
      kept_dir: of the clipped images, under the same names.

    Returns:
      What is wrong with the output.
    """
    kept_dir.mkdir()
    missing, damaged, resized = [], [], []
    for name, content in originals.items():
        if not _is_ordinary_file(output_dir / name):
            missing.append(name)
            continue
        original = decode_image(content)
        try:
            attacked = decode_image(output_dir / name, original.shape[-1])
        except DataError:
            damaged.append(name)
            continue
        if attacked.shape != original.shape:
            resized.append(f"{name} ({_size(attacked)} instead of {_size(original)})")
            attacked = _resize(attacked, original.shape)
        write_image(kept_dir / name, clip_to_ball(attacked, original, epsilon)[np.newaxis])
    found = {"were not written": missing, "are no images": damaged, "were resized": resized}
    return [f"{len(names)} of {len(originals)} images {what}: {_some(names)}" for what, names in found.items() if names]


def _resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """To height and width of a shape, as the organizers do it."""
    picture = as_picture(image).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(shape)


def collect_labels(images: Collection[str], output: Path) -> Labels:
    """Reads what a defence says of images (names with endings): a line NAME,LABEL each, the last of an image counts."""
    if not _is_ordinary_file(output):
        return Labels({}, ["there is no output file"])
    size, admitted = output.stat().st_size, admitted_bytes(len(images))
    if size > admitted:
        return Labels({}, [f"output refused: {size} bytes, admitted are {admitted} for {len(images)} images"])
    rows, broken = _rows(output.read_bytes())
    expected = {without_ending(name) for name in images}
    found = {without_ending(name): label for name, label in rows}
    known = {name: label for name, label in found.items() if name in expected}
    outside = [f"{name} ({str(label)[:20]})" for name, label in known.items() if label not in LABELS]
    complaints = {"are without a label": sorted(expected - known.keys()), "have a label outside 1..1000": outside}
    problems = [
        f"{len(names)} of {len(images)} images {what}: {_some(names)}" for what, names in complaints.items() if names
    ]
    if known.keys() != found.keys():
        unknown = sorted(found.keys() - known.keys())
        problems.append(f"{len(unknown)} labels are of no image here: {_some(unknown)}")
    return Labels({name: label for name, label in known.items() if label in LABELS}, problems + broken)


def without_ending(name: str) -> str:
    """An image's name as scorers know it."""
    return name[: name.rfind(".")] if name.endswith(ENDINGS) else name


def _rows(content: bytes) -> tuple[list[tuple[str, int]], list[str]]:
    """Names and labels of the rows that have both, and why reading stopped, where it did."""
    rows = []
    # A NUL byte ends the csv module of Python 3.10 and before.
    text = content.decode("utf-8", "replace").replace("\0", "\ufffd")
    try:
        for row in csv.reader(io.StringIO(text, newline="")):
            with contextlib.suppress(ValueError, IndexError):
                rows.append((row[0], int(row[1])))
    except csv.Error as error:
        return rows, [f"the output cannot be read further than {len(rows)} rows: {error}"]
    return rows, []


def _is_ordinary_file(path: Path) -> bool:
    """No folder, no link to somebody else's file, no pipe that would never end."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"


def _some(names: Collection[str]) -> str:
    """The first few. Nobody knows what is in names that a program made up."""
    shown = ", ".join(name if name.isprintable() and len(name) < 60 else repr(name[:60]) for name in list(names)[:3])
    return shown + (", …" if len(names) > 3 else "")
