"""Classifies a folder of images within a time limit, as the NIPS 2017 competition runs a defence.

    python runner.py INPUT_DIR OUTPUT_FILE [--models DIR] [--time_limit S] [--batch_size N]

Needs TensorFlow and NumPy only, so that this file beside exported models is a whole submission. In DIR
lies members.json: [{"name": "A->X", "path": "AX/1", "weight": 1, "seconds": 0.2}, …]; `path` is a SavedModel, `weight`
that of its logits in the mean, `seconds` (optional) what it takes an image: cheap ones answer first.

OUTPUT_FILE gets a line NAME,LABEL for every image of INPUT_DIR, labels in 1..1000. The lines of a batch are on disk as
soon as it is classified: a killed run leaves those that it had. Where time would not suffice, costly models are left
out for the remaining images.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import itertools
import json
import math
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Optional, Union

import numpy as np

FIRST_LABEL = 1
ENDINGS = (".png", ".jpg", ".jpeg")
MEMBERS_FILE = "members.json"
TIME_LIMIT, BATCH_SIZE = 500.0, 10
MARGIN = 0.03  # of the time limit: for what a prediction misses and for the process's end
MAX_BYTES, PER_IMAGES = 10_000, 100  # the competition's limit of the output's size

_salvaging = threading.Lock()


class RunnerError(Exception):
    """There is nothing to classify, nowhere to write, or a model cannot be loaded."""


class Member(NamedTuple):
    """A model of an ensemble.

    Attributes:
      name: for messages.
      logits: from images, uint8 (N, H, W, C) in [0, 255] of any size, to logits, float32 (N, classes): the mean over
        its targets.
      weight: of its logits in the ensemble's mean.
    """

    name: str
    logits: Callable[[np.ndarray], np.ndarray]
    weight: float


class Outcome(NamedTuple):
    """What came of a folder.

    Attributes:
      rows: number of images, each with its row.
      unreadable: names of those that are none; their rows are guesses.
      guessed: number of rows with the class predicted most often, the unreadable ones' included.
      seconds: since the program's start.
    """

    rows: int
    unreadable: list[str]
    guessed: int
    seconds: float


def classify_folder(
    members: Sequence[Member],
    input_dir: Union[str, Path],
    output_file: Union[str, Path],
    *,
    time_limit: float,
    started: float,
    batch_size: int,
    channels: int = 3,
    on_batch: Optional[Callable[[int], Any]] = None,
) -> Outcome:
    """Writes a row for every image file of a folder, batch by batch.

    An image's class is that of the highest mean logit, each member's with its weight. One that cannot be read, or
    for which no time is left, gets the class predicted most often so far. What is remarkable is said on stderr.

    Args:
      members: one or more, of the same classes.
      input_dir: the folder; its files that end in .png, .jpg or .jpeg are the images.
      output_file: what stands there is replaced with the first rows.
      time_limit: seconds from `started` by which all rows are to be there.
      started: of the program, in `time.monotonic()`.
      batch_size: most images computed at a time; those of one size go together.
      channels: 1 (grey) or 3 (RGB), to which images are converted.
      on_batch: called with the number of images that got their rows.

    Raises:
      RunnerError: the folder is absent or holds no image file, or the output's folder is absent.
    """
    names = image_names(input_dir)
    if not Path(output_file).absolute().parent.is_dir():
        raise RunnerError(f"no such folder: {Path(output_file).parent}, where {output_file} is to be written")
    _warn_of_equal_names(names)
    panel = _Panel(members, started + (1 - MARGIN) * time_limit)
    unreadable = []
    with _Rows(output_file, on_batch or (lambda count: None)) as rows:
        for images in _decoded(names, functools.partial(_read, Path(input_dir), channels), batch_size):
            if panel.is_exhausted():
                break
            for batch in _of_one_size(images):
                pixels = [image.pixels for image in batch if image.pixels is not None]
                classes = panel.classify(np.stack(pixels), len(names) - rows.count) if pixels else None
                rows.write([image.name for image in batch], classes)
            unreadable += _damaged(images)
        if rows.count < len(names):
            _log(f"no time or no model is left: the last {len(names) - rows.count} images get the most frequent class")
            rows.write(names[rows.count :], None)
    _warn_of_size(rows)
    return Outcome(rows.count, unreadable, rows.guessed, time.monotonic() - started)


def image_names(input_dir: Union[str, Path]) -> list[str]:
    """The names of a folder's image files, sorted.

    Raises:
      RunnerError: the folder is absent or holds none.
    """
    if not os.path.isdir(input_dir):
        raise RunnerError(f"no such folder of images: {input_dir}")
    with os.scandir(input_dir) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(ENDINGS) and entry.is_file())
    if not names:
        raise RunnerError(f"no image files ({', '.join(ENDINGS)}) in {input_dir}")
    return names


# --- images ---


class _Image(NamedTuple):
    """A file: its name, its pixels, uint8 (H, W, C), or None where there are none, and whether it is damaged."""

    name: str
    pixels: Optional[np.ndarray]
    is_damaged: bool


def _decoded(names: Sequence[str], read: Callable[[str], _Image], batch_size: int) -> Iterator[list[_Image]]:
    """The images in their order, in parts; the next part is read while its predecessor is computed with.

    The first two parts are of one image: at a model's first call it warms up, at its second it is timed, and only then
    is it known whether there is time for a batch.
    """
    starts = [0, 1, *range(2, len(names), batch_size), len(names)]
    parts = [names[start:end] for start, end in zip(starts, starts[1:]) if start < end]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        following = pool.map(read, parts[0])
        for part in [*parts[1:], []]:
            current, following = following, pool.map(read, part)
            yield list(current)


def _of_one_size(images: Sequence[_Image]) -> list[list[_Image]]:
    """The images by their size, those without pixels last."""
    batches: dict[tuple[int, ...], list[_Image]] = {}
    for image in sorted(images, key=lambda image: image.pixels is None):
        batches.setdefault(() if image.pixels is None else image.pixels.shape, []).append(image)
    return list(batches.values())


def _read(folder: Path, channels: int, name: str) -> _Image:
    """Reads one file; whatever is wrong with it, the others are not to suffer."""
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return _Image(name, None, True)
    try:
        return _Image(name, _decode(content, channels), False)
    except Exception:
        return _Image(name, _salvage(content, channels), True)


def _decode(content: bytes, channels: int) -> np.ndarray:
    import tensorflow as tf

    if content.startswith(b"\xff\xd8"):
        return tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE").numpy()
    return tf.io.decode_image(content, channels, expand_animations=False).numpy()


def _salvage(content: bytes, channels: int) -> Optional[np.ndarray]:
    """What Pillow, where it is installed, makes of a damaged file; None: nothing."""
    try:
        from PIL import Image, ImageFile
    except ImportError:
        return None
    with _salvaging:
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            with Image.open(io.BytesIO(content)) as file:
                pixels = np.array(file.convert("L" if channels == 1 else "RGB"))
        except Exception:
            return None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    return pixels.reshape(*pixels.shape[:2], channels)


def _damaged(images: Sequence[_Image]) -> list[str]:
    """Says which of the images are not as they should be; returns the names of those without pixels."""
    for image in images:
        if image.is_damaged:
            found = "no image" if image.pixels is None else "read by Pillow only, perhaps in part"
            _log(f"{image.name} is {found}")
    return [image.name for image in images if image.pixels is None]


# --- models ---


class _Timed:
    """A member and its seconds an image; 0 until they are known. Its first call, the warm-up, does not count."""

    def __init__(self, member: Member):
        self.member = member
        self.pace = 0.0
        self._is_warm = False
        self._seconds = self._images = 0.0

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The member's logits.

        Raises:
          ValueError: they are not finite.
        """
        start = time.monotonic()
        logits = np.asarray(self.member.logits(images))
        if not np.all(np.isfinite(logits)):
            raise ValueError("its logits are not finite")
        if self._is_warm:
            # Earlier batches count half each time: the machine may have become slower.
            self._seconds = self._seconds / 2 + time.monotonic() - start
            self._images = self._images / 2 + len(images)
            self.pace = self._seconds / self._images
        self._is_warm = True
        return logits


class _Panel:
    """The members that still answer, and the time in `time.monotonic()` by which they must have done."""

    def __init__(self, members: Sequence[Member], deadline: float):
        self._timed = [_Timed(member) for member in members]
        self._deadline = deadline
        self._asked = set(self._timed)

    def is_exhausted(self) -> bool:
        """Whether nobody, or no time, is left."""
        return not self._timed or time.monotonic() >= self._deadline

    def classify(self, images: np.ndarray, remaining: int) -> Optional[np.ndarray]:
        """0-based classes (N,) of images (N, H, W, C); None: nobody had time to answer.

        Args:
          images: a batch.
          remaining: number of images without a row, the batch's included.
        """
        answers: list[tuple[float, np.ndarray]] = []
        while not answers and (chosen := self._chosen(len(images), remaining)):
            for timed in chosen:
                if answers and time.monotonic() >= self._deadline:
                    break
                answers += self._ask(timed, images)
        if not answers:
            return None
        return np.argmax(sum(weight * logits for weight, logits in answers), axis=-1)

    def _ask(self, timed: _Timed, images: np.ndarray) -> list[tuple[float, np.ndarray]]:
        try:
            return [(timed.member.weight, timed.logits(images))]
        except Exception as error:  # of whatever kind, the other members go on
            self._timed.remove(timed)
            self._asked.discard(timed)
            _log(f"{timed.member.name} failed and is left out from now on: {type(error).__name__}: {error}")
            return []

    def _chosen(self, count: int, remaining: int) -> list[_Timed]:
        """The cheapest members that can do all that remains; the cheapest one also where it can do the batch only.

        One that was left out comes back where half of the time suffices: its pace was measured long ago.
        """
        left = self._deadline - time.monotonic()
        cheapest_first = sorted(self._timed, key=lambda timed: timed.pace)
        needed = itertools.accumulate(timed.pace * remaining for timed in cheapest_first)
        chosen = [
            timed
            for timed, seconds in zip(cheapest_first, needed)
            if seconds <= (left if timed in self._asked else left / 2)
        ]
        chosen = chosen or [timed for timed in cheapest_first[:1] if timed.pace * count <= left]
        if set(chosen) != self._asked:
            who = ", ".join(timed.member.name for timed in chosen) or "nobody: they get the most frequent class"
            _log(f"{remaining} images and {max(left, 0):.0f} s are left; from now on they are classified by {who}")
            self._asked = set(chosen)
        return chosen


def load_members(models_dir: Union[str, Path]) -> list[Member]:
    """Loads the exported models that a folder's `members.json` lists, all at a time; the cheapest is the first.

    Each is a SavedModel whose signature `serving_default` takes `images`, uint8 (N, H, W, C), and gives `logits`.

    Raises:
      RunnerError: the list or a model is missing or damaged; the message names every one.
    """
    path = Path(models_dir) / MEMBERS_FILE
    try:
        entries = sorted(json.loads(path.read_bytes()), key=lambda entry: entry.get("seconds", 0.0))
        sources = [(entry["name"], Path(models_dir) / entry["path"], entry["weight"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerError(f"{path} is missing or no list of models: {error!r}") from error
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        members = list(pool.map(lambda source: _load_member(*source), sources))
    failures = [f"{name}: {member}" for (name, *_), member in zip(sources, members) if not isinstance(member, Member)]
    if failures or not members:
        raise RunnerError(f"{len(failures)} of {len(members)} models cannot be loaded. {'; '.join(failures)}")
    return [member for member in members if isinstance(member, Member)]


def _load_member(name: str, path: Path, weight: float) -> Union[Member, Exception]:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        loaded.signatures["serving_default"]
    except Exception as error:
        return error
    # The signature alone would not keep the model's variables.
    return Member(name, functools.partial(_exported_logits, loaded), weight)


def _exported_logits(loaded: Any, images: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    return loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()


# --- output ---


class _Rows:
    """The output: rows are on disk as soon as they are written."""

    def __init__(self, path: Union[str, Path], on_batch: Callable[[int], Any]):
        self.count = self.guessed = self.size = 0
        self._path = path
        self._on_batch = on_batch
        self._file: Any = None
        self._predicted: Counter[int] = Counter()

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, names: Sequence[str], classes: Optional[np.ndarray]) -> None:
        """Writes a row for each name, with its 0-based class; None: with the class predicted most often so far."""
        if classes is None:
            self.guessed += len(names)
            labels = [max(self._predicted, key=self._predicted.__getitem__, default=FIRST_LABEL)] * len(names)
        else:
            labels = [int(index) + FIRST_LABEL for index in classes]
            self._predicted.update(labels)
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(zip(names, labels))
        self._append(lines.getvalue().encode("utf-8", "surrogateescape"))
        self.count += len(names)
        self._on_batch(len(names))

    def _append(self, content: bytes) -> None:
        if self._file is None:
            # Unbuffered, hence one system call for all rows of a batch: a killed process leaves whole ones.
            self._file = io.FileIO(self._path, "w")
        self._file.write(content)
        os.fsync(self._file.fileno())
        self.size += len(content)


def _warn_of_equal_names(names: Sequence[str]) -> None:
    """A scorer drops the ending."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(re.sub(r"\.(png|jpe?g)$", "", name, flags=re.IGNORECASE), name)
        if other != name:
            _log(f"{other} and {name} differ in their endings only: a scorer takes them for one image")


def admitted_bytes(images: int) -> int:
    """How large the competition admits an output for so many images to be."""
    return MAX_BYTES * math.ceil(images / PER_IMAGES)


def _warn_of_size(rows: _Rows) -> None:
    allowed = admitted_bytes(rows.count)
    if rows.size > allowed:
        _log(f"the output has {rows.size} bytes; the competition admits {allowed} for {rows.count} images")


def _log(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


# --- command ---


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message}\n")


def _import_tensorflow_silently() -> None:
    """Of TensorFlow 2.18 and later the import writes to file descriptor 2 whatever the log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns its exit status, 0 or 1."""
    started = time.monotonic()
    sys.dont_write_bytecode = True
    parser = _Parser(description="Classifies a folder of images within a time limit.")
    parser.add_argument("input_dir", help="folder of images")
    parser.add_argument("output_file", help="receives a line NAME,LABEL an image, labels in 1..1000")
    parser.add_argument("--models", default=Path(__file__).parent, help=f"folder of {MEMBERS_FILE}; default: this one")
    parser.add_argument("--time_limit", type=float, default=TIME_LIMIT, help="seconds, start-up included")
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, help="most images computed at a time")
    arguments = vars(parser.parse_args(argv))
    if arguments["batch_size"] < 1:
        parser.error(f"expected --batch_size of at least 1, received {arguments['batch_size']}")
    _import_tensorflow_silently()
    try:
        members = load_members(arguments.pop("models"))
        outcome = classify_folder(members, **arguments, started=started)
    except (RunnerError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    print(f"{outcome.rows} images, {outcome.guessed} of them guessed, in {outcome.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
