"""Reading a set again: is it what its manifest says, and what do its images do?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.crafting.plan import Record
from hgd_tf.crafting.run import open_shards, read_manifest
from hgd_tf.data.labeled_files import UNKNOWN
from hgd_tf.errors import DataError


def verify_set(folder: Union[str, Path]) -> int:
    """Reads a whole set and compares it with its manifest: counts, checksums, names; and every attacked image with its
    clean one: shape, epsilon ball.

    Returns:
      How many images it holds.

    Raises:
      DataError: the first thing that is not as it should be.
    """
    manifest = read_manifest(folder)
    shards = open_shards(folder, manifest)
    seen: set[int] = set()
    for shard in tqdm(range(shards.shard_count), desc=f"verifying {Path(folder).name}", unit="shard", mininterval=1):
        if shards.checksum(shard) != manifest["sha256"][shard]:
            raise DataError(f"{shards.path(shard)} is not the file that was written: its checksum differs")
        records = list(shards.read(shard))
        if len(records) != manifest["shard_images"][shard]:
            raise DataError(
                f"{shards.path(shard)}: expected {manifest['shard_images'][shard]} images, received {len(records)}"
            )
        for record in records:
            _check(record, manifest, f"{shards.path(shard)}, image {record.name}")
            seen.add(record.number)
    expected = manifest["source_images"] - len(manifest["left_out"])
    if not len(seen) == manifest["images"] == expected:
        raise DataError(f"{folder}: expected {expected} different images, received {len(seen)}")
    return len(seen)


def _check(record: Record, manifest: dict, where: str) -> None:
    lowest, highest = manifest["epsilon"]
    if list(record.clean.shape) != manifest["image_shape"]:
        raise DataError(f"{where}: expected shape {manifest['image_shape']}, received {list(record.clean.shape)}")
    if np.any(record.epsilon < lowest) or np.any(record.epsilon > highest):
        raise DataError(f"{where}: expected epsilon in [{lowest}, {highest}], received {record.epsilon.tolist()}")
    distance = np.abs(record.attacked.astype(np.int16) - record.clean).max(axis=(1, 2, 3))
    for attack, moved, epsilon in zip(manifest["attacks"], distance, record.epsilon):
        if moved > epsilon:
            raise DataError(f"{where}: {attack['name']} moved a pixel by {moved}, epsilon is {epsilon}")


class Summary(NamedTuple):
    """What the attacks of a set do.

    Attributes:
      attacks: A names.
      judges: J names.
      accuracy: (J, 1 + A), clean and attacked; a fraction of the images whose class is known.
      success: (J, A), the part of the images that a judge got right clean and gets wrong attacked; where the class
        is unknown, the clean answer counts as right.
      mean_perturbation: (A,), mean |attacked - clean| in pixel units.
    """

    attacks: Sequence[str]
    judges: Sequence[str]
    accuracy: np.ndarray
    success: np.ndarray
    mean_perturbation: np.ndarray


def summarize(folder: Union[str, Path]) -> Summary:
    """The recorded answers of a complete set's judges.

    Raises:
      DataError: the set is damaged.
    """
    manifest = read_manifest(folder)
    shards = open_shards(folder, manifest)
    records = [record for shard in range(shards.shard_count) for record in shards.read(shard, images=False)]
    if not records:
        raise DataError(f"{folder}: none of its {manifest['source_images']} files is an image")
    labels = np.array([record.label for record in records])
    answers = np.stack([record.answers for record in records], axis=-1)  # (J, 1 + A, N)
    known = labels != UNKNOWN
    right_answers = np.where(known, labels, answers[:, :1])
    right = answers == right_answers
    with np.errstate(invalid="ignore"):
        accuracy = right[..., known].sum(axis=-1) / np.float64(known.sum())
        success = (right[:, :1] & ~right[:, 1:]).sum(axis=-1) / right[:, :1].sum(axis=-1)
    perturbation = np.mean([record.mean_perturbation for record in records], axis=0)
    return Summary(shards.attacks, manifest["judges"], accuracy, success, perturbation)


def _percent(fraction: float) -> str:
    return "–" if np.isnan(fraction) else f"{100 * fraction:.1f} %"


def format_summary(summary: Summary) -> str:
    """A table: an attack a line, and for each judge its accuracy in percent and, in brackets, the attack's success.

    Where no class is known there is no accuracy.
    """
    width = max(map(len, ("clean", *summary.attacks)))
    columns = [max(16, len(judge)) for judge in summary.judges]
    header = "".join(f"  {judge:>{column}}" for judge, column in zip(summary.judges, columns))
    lines = [f"{'attack':<{width}}  mean |x*-x|{header}"]
    for place, name in enumerate(("clean", *summary.attacks)):
        perturbation = summary.mean_perturbation[place - 1] if place else 0.0
        cells = [
            _percent(accuracy[place]) + (f" ({_percent(success[place - 1])})" if place else "")
            for accuracy, success in zip(summary.accuracy, summary.success)
        ]
        row = "".join(f"  {cell:>{column}}" for cell, column in zip(cells, columns))
        lines.append(f"{name:<{width}}  {perturbation:>11.3f}{row}")
    return "\n".join([*lines, "accuracy (success of the attack: of what was right clean, the part that is now wrong)"])
