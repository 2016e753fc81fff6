"""The defence as one archive that needs TensorFlow and NumPy only: exported flows and the program that runs them."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np
import tensorflow as tf

from hgd_tf.competition import runner
from hgd_tf.competition.entries import DEFENSE, METADATA_FILE, metadata_json
from hgd_tf.competition.files import LABELS
from hgd_tf.defenses.ensemble import Classifier, Flow
from hgd_tf.defenses.exporting import PIXELS, export_defense, folder_size
from hgd_tf.errors import RunError
from hgd_tf.files import replacing, write_json
from hgd_tf.submissions.validation import BATCH_IMAGES, CHANNELS, IMAGE_SIZE, MOST_UNPACKED_BYTES, MOST_ZIPPED_BYTES

ENTRY_POINT, RUNNER_FILE, MODELS_FOLDER = "run_defense.sh", "runner.py", "models"
TIMED_IMAGES = 2
SCRIPT = f"""#!/usr/bin/env bash
# Usage: {ENTRY_POINT} INPUT_DIR OUTPUT_FILE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "${{PYTHON:-python3}}" "$here/{RUNNER_FILE}" "$1" "$2" --models "$here/{MODELS_FOLDER}"
"""


class Package(NamedTuple):
    """A packed submission.

    Attributes:
      size, unpacked_size: in bytes.
      members: of each flow, by its folder's name: its export's bytes, and the seconds that an image took it here.
    """

    path: Path
    size: int
    unpacked_size: int
    members: dict[str, tuple[int, float]]

    @property
    def batch_seconds(self) -> float:
        """What a batch of the competition would take here, without start-up."""
        return BATCH_IMAGES * sum(seconds for _, seconds in self.members.values())


def package(classifier: Classifier, output_file: Union[str, Path], source: str) -> Package:
    """Writes a submission as a zip file, complete or not at all; one model a flow, so that time can drop flows.

    Args:
      output_file: ends in .zip.
      source: where the classifier comes from, for the descriptions beside the models.

    Raises:
      RunError: the file's name is another, or the submission is larger than the competition admits, or of other
        channels or classes.
      OSError: it cannot be written.
    """
    output_file = Path(output_file)
    if output_file.suffix != ".zip":
        raise RunError(f"expected the name of a .zip file, received {output_file}")
    if (classifier.channels, classifier.classes) != (CHANNELS, len(LABELS)):
        raise RunError(
            f"the competition's images have {CHANNELS} channels and {len(LABELS)} classes; the defence takes "
            f"{classifier.channels} and knows {classifier.classes}"
        )
    output_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_file.parent, prefix=".package-") as folder:
        submission = Path(folder)
        members = _write_models(classifier, submission / MODELS_FOLDER, source)
        _write_program(submission)
        unpacked = folder_size(submission)
        _check_size(unpacked, MOST_UNPACKED_BYTES, "unpacked")
        with replacing(output_file) as temporary:
            _zip(submission, temporary)
            size = Path(temporary).stat().st_size
            _check_size(size, MOST_ZIPPED_BYTES, "zipped")
    return Package(output_file, size, unpacked, members)


def _write_models(classifier: Classifier, folder: Path, source: str) -> dict[str, tuple[int, float]]:
    entries: list[dict[str, Any]] = []
    members = {}
    for flow, name in zip(classifier.flows, _file_names(classifier.flows)):
        exported = export_defense(flow, folder / name / "1", source)
        seconds = _seconds_an_image(exported.path, flow.channels)
        members[name] = exported.size, seconds
        entries.append({"name": flow.title, "path": f"{name}/1", "weight": flow.weight, "seconds": round(seconds, 4)})
    write_json(folder / runner.MEMBERS_FILE, entries)
    return members


def _file_names(flows: tuple[Flow, ...]) -> Iterator[str]:
    """A folder's name for each flow's title: `A_B-X` for `A&B->X`; with a number where that is taken."""
    taken: set[str] = set()
    for number, flow in enumerate(flows):
        name = re.sub(r"[^\w.]+", "_", flow.title)
        name = f"{name}_{number}" if name in taken else name
        taken.add(name)
        yield name


def _seconds_an_image(path: Path, channels: int) -> float:
    loaded = tf.saved_model.load(str(path))
    images = tf.constant(np.full((TIMED_IMAGES, IMAGE_SIZE, IMAGE_SIZE, channels), 128, np.uint8))
    for _ in range(2):  # the first call is slower
        start = time.monotonic()
        loaded.signatures[PIXELS](images=images)["logits"].numpy()
    return (time.monotonic() - start) / TIMED_IMAGES


def _write_program(submission: Path) -> None:
    shutil.copyfile(runner.__file__, submission / RUNNER_FILE)
    (submission / ENTRY_POINT).write_text(SCRIPT, encoding="utf-8")
    (submission / ENTRY_POINT).chmod(0o755)
    (submission / METADATA_FILE).write_text(metadata_json(DEFENSE, ENTRY_POINT), encoding="utf-8")


def _check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise RunError(f"the submission has {size / 2**30:.1f} GiB {what}; the competition admits {limit / 2**30:.0f}")


def _zip(folder: Path, path: str) -> None:
    """Packs a folder's content, with the files' modes."""
    # Weights hardly shrink: the quickest compression leaves as much of them as the slowest.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
