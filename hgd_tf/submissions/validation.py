"""The organizers' checks of a submission, without Docker: they are made before the competition runs it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

import numpy as np

from hgd_tf.competition.entries import DEFENSE, METADATA_FILE, TARGETED_ATTACK, TYPES, Entry, load_entries
from hgd_tf.competition.files import LABELS, TARGET_CLASSES_FILE
from hgd_tf.competition.isolation import run_isolated
from hgd_tf.competition.outputs import collect_images, collect_labels
from hgd_tf.competition.runner import TIME_LIMIT
from hgd_tf.data.images import decode_image, write_image
from hgd_tf.errors import DataError
from hgd_tf.submissions.unpacking import kind_of, submission_root, unpack

MOST_ZIPPED_BYTES, MOST_UNPACKED_BYTES = 8 * 2**30, 16 * 2**30
BATCH_IMAGES, IMAGE_SIZE, CHANNELS = 100, 299, 3
EPSILON = 16  # the largest of the competition
SHOWN_CHARACTERS = 600  # of what a failed program said


class Check(NamedTuple):
    """One check: what was looked at, whether it is as it should be, and what was found."""

    name: str
    passed: bool
    found: str


class _Invalid(Exception):
    """A check failed that the next ones build on."""


class _Report:
    """Collects checks and passes each on at once."""

    def __init__(self, on_check: Callable[[Check], Any]):
        self.checks: list[Check] = []
        self._on_check = on_check

    def add(self, name: str, passed: bool, found: str) -> None:
        check = Check(name, passed, found)
        self.checks.append(check)
        self._on_check(check)

    def require(self, name: str, passed: bool, found: str) -> None:
        if not passed:
            raise self.failure(name, found)
        self.add(name, True, found)

    def failure(self, name: str, found: str) -> _Invalid:
        self.add(name, False, found)
        return _Invalid()


def validate(
    path: Union[str, Path],
    *,
    images: int = BATCH_IMAGES,
    time_limit: float = TIME_LIMIT,
    on_check: Callable[[Check], Any] = lambda check: None,
) -> list[Check]:
    """Checks an attack, targeted attack or defence, and runs it on images of noise.

    It runs in a temporary directory, as this user, with $PYTHON being this interpreter: what the container would lack
    or forbid, such as a package or the network, is not noticed.

    Args:
      images: how many are attacked or classified; 100 in the competition.
      on_check: called with each check when it is made.

    Returns:
      The checks. The submission is valid if all passed; those that a failed one makes impossible are left out.
    """
    report = _Report(on_check)
    with tempfile.TemporaryDirectory(prefix="validation-") as folder:
        try:
            root = _check_archive(report, Path(path), Path(folder) / "submission")
            entry = _check_entry(report, root)
            _check_run(report, entry, Path(folder), images, time_limit)
        except _Invalid:
            pass
    return report.checks


def _check_archive(report: _Report, path: Path, folder: Path) -> Path:
    """Unpacks the submission into the folder; returns the directory that holds it."""
    folder.mkdir()
    try:
        kind = kind_of(path)
        report.add("kind", True, kind)
        if kind != "directory":
            size = path.stat().st_size
            report.require("size", size <= MOST_ZIPPED_BYTES, _of(size, MOST_ZIPPED_BYTES))
        unpacked = unpack(path, folder, MOST_UNPACKED_BYTES)
    except (DataError, OSError) as error:
        raise report.failure("archive", str(error)) from error
    report.add("unpacked size", True, _of(unpacked, MOST_UNPACKED_BYTES))
    return submission_root(folder)


def _of(size: int, limit: int) -> str:
    return f"{size / 1e6:.1f} MB of {limit / 2**30:.0f} GiB"


def _check_entry(report: _Report, root: Path) -> Entry:
    present = (root / METADATA_FILE).is_file()
    report.require(METADATA_FILE, present, "present" if present else "missing at the top of the submission")
    try:
        (entry,) = load_entries([root.parent], TYPES, [root.name])
    except (DataError, OSError) as error:
        raise report.failure("entry", str(error).replace(f"{root.resolve()}/", "")) from error
    report.add("type", True, entry.type)
    report.add("entry point", True, f"{entry.entry_point.relative_to(entry.directory)}, its run bit set")
    return entry


def _check_run(report: _Report, entry: Entry, folder: Path, images: int, time_limit: float) -> None:
    inputs, outputs, log = folder / "input", folder / "output", folder / "log"
    outputs.mkdir()
    originals = _write_noise(inputs, images)
    if entry.type == TARGETED_ATTACK:
        _write_target_classes(inputs, originals)
    before = _content(inputs)
    output = outputs / "result.csv" if entry.type == DEFENSE else outputs
    extra = [] if entry.type == DEFENSE else [str(EPSILON)]

    ended = run_isolated(
        [entry.entry_point, inputs, output, *extra], entry.directory, log, time_limit, threading.Event()
    )
    in_time = ended.status is not None
    report.require("time", in_time, f"{ended.seconds:.1f} s of {time_limit:.0f} s")
    said = log.read_text(encoding="utf-8", errors="replace").strip()[-SHOWN_CHARACTERS:]
    report.require("exit status", ended.status == 0, "0" if ended.status == 0 else f"{ended.status}; it said: {said}")

    unchanged = _content(inputs) == before
    report.add("input", unchanged, "unchanged" if unchanged else "was changed")
    if entry.type == DEFENSE:
        problems = collect_labels(originals, output).problems
        report.add("labels", not problems, "; ".join(problems) or f"{len(originals)} images have one")
    else:
        problems = collect_images(originals, outputs, EPSILON, folder / "clipped")
        report.add("images", not problems, "; ".join(problems) or f"{len(originals)} are written, of the same size")
        report.add("perturbation", True, _perturbation(originals, outputs))


def _write_noise(folder: Path, count: int) -> dict[str, bytes]:
    """Writes images of noise; returns their files' content by name."""
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (1, IMAGE_SIZE, IMAGE_SIZE, CHANNELS), dtype=np.uint8)
        write_image(folder / f"noise_{number:03d}.png", pixels)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _write_target_classes(folder: Path, originals: Mapping[str, bytes]) -> None:
    labels = np.random.default_rng(0).integers(LABELS.start, LABELS.stop, len(originals))
    rows = "".join(f"{name},{label}\n" for name, label in zip(originals, labels))
    (folder / TARGET_CLASSES_FILE).write_text(rows, encoding="utf-8")


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _perturbation(originals: Mapping[str, bytes], outputs: Path) -> str:
    """How far the pixels were moved where an image of the same size was written; the organizers clip them."""
    farthest = 0
    for name, content in originals.items():
        try:
            attacked, original = decode_image(outputs / name, CHANNELS), decode_image(content, CHANNELS)
        except DataError:
            continue
        if attacked.shape == original.shape:
            farthest = max(farthest, int(np.abs(attacked.astype(int) - original).max()))
    return f"at most {farthest} of {EPSILON}" + (": it is clipped to that" if farthest > EPSILON else "")
