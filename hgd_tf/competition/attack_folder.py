"""Attacking a folder of PNG files, as the competition runs an attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.attacks.methods import Method
from hgd_tf.attacks.sign_gradient import SignGradientAttack
from hgd_tf.competition.files import target_classes
from hgd_tf.data.images import decode_image, write_image
from hgd_tf.data.listing import visible_files
from hgd_tf.errors import DataError

ENDING = ".png"


class Outcome(NamedTuple):
    """What came of a folder: how many images were written, and what was skipped and why."""

    written: int
    skipped: list[str]


def attack_folder(
    attack: SignGradientAttack,
    method: Method,
    input_dir: Union[str, Path],
    output_dir: str,
    epsilon: int,
    *,
    channels: int = 3,
    batch_size: int = 20,
    seed: int = 0,
) -> Outcome:
    """Writes an attacked image of the same name for every PNG file of a folder; sizes may differ.

    Args:
      attack: with label `given`, the folder's `target_class.csv` says which.
      input_dir, output_dir: folders; the second is made where it is absent.
      epsilon: the L-infinity radius in pixel units.
      batch_size: images of one size computed at a time.
      seed: of random draws, together with an image's place among the sorted names.

    Raises:
      DataError: the folder is absent or holds no PNG file, or the target classes are missing.
    """
    paths = [path for path in visible_files(input_dir) if path.suffix.lower() == ENDING]
    if not paths:
        raise DataError(f"no {ENDING} files in {input_dir}")
    targets = target_classes(input_dir) if attack.label == "given" else None
    written, skipped = 0, []
    with tqdm(total=len(paths), desc="attacking", unit="img", mininterval=1) as bar:
        waiting: dict[tuple[int, ...], list[_Image]] = {}
        for number, path in enumerate(paths):
            try:
                image = _read(path, number, channels, targets)
            except DataError as error:
                skipped.append(str(error))
                bar.update()
                continue
            batch = waiting.setdefault(image.pixels.shape, [])
            batch.append(image)
            if len(batch) == batch_size:
                written += _write(attack, method, waiting.pop(image.pixels.shape), output_dir, epsilon, seed, bar)
        for batch in waiting.values():
            written += _write(attack, method, batch, output_dir, epsilon, seed, bar)
    return Outcome(written, skipped)


class _Image(NamedTuple):
    name: str
    number: int
    pixels: np.ndarray
    target: int


def _read(path: Path, number: int, channels: int, targets: Optional[dict[str, int]]) -> _Image:
    if targets is not None and path.name not in targets:
        raise DataError(f"{path} has no target class")
    return _Image(path.name, number, decode_image(path, channels), targets[path.name] if targets else 0)


def _write(attack, method: Method, batch: Sequence[_Image], output_dir: str, epsilon: int, seed: int, bar: tqdm) -> int:
    images = np.stack([image.pixels for image in batch])
    numbers, labels = (np.array(column) for column in zip(*((image.number, image.target) for image in batch)))
    attacked = attack(images, epsilon, method, labels, seed=seed, numbers=numbers, on_batch=bar.update)
    for image, pixels in zip(batch, attacked):
        write_image(Path(output_dir) / image.name, pixels[np.newaxis])
    return len(batch)
