"""Folders of images that others attacked: the files that a table means, what is odd, how far they were moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

import numpy as np
from PIL import Image

from hgd_tf.data.images import decode_image
from hgd_tf.data.listing import visible_files
from hgd_tf.errors import DataError

SHOWN = 3  # names of each kind
JPEG_START = b"\xff\xd8"
KINDS = {
    "missing": "named by the table, not there",
    "extra": "not named by the table, left out",
    "jpeg": "JPEG, which changes a perturbation, used as they are",
    "resized": "of another size than the clean image, without a perturbation to measure",
    "broken": "no image or truncated, left out",
}


class Perturbation(NamedTuple):
    """How far attacked images lie from clean ones of the same name and size, in pixel units of 0..255.

    Attributes:
      images: how many were compared.
      linf: the largest of any pixel.
      l2: the mean over the images of the Euclidean norm.
    """

    images: int
    linf: float
    l2: float


class Survey(NamedTuple):
    """A folder's images as a table names them.

    Attributes:
      files: those that can be read, by their row in the table.
      odd: names by kind, a key of `KINDS`.
      perturbation: None where there is nothing to compare with.
    """

    folder: Path
    files: dict[int, Path]
    odd: dict[str, list[str]]
    perturbation: Optional[Perturbation] = None

    def remarks(self) -> list[str]:
        """A line for each kind of what is odd, with the number and the first names."""
        return [
            f"{len(names)} {KINDS[kind]}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
            for kind, names in self.odd.items()
            if names
        ]


def survey(
    folder: Union[str, Path],
    names: Sequence[str],
    channels: int,
    clean: Optional[Mapping[int, Path]] = None,
    on_image: Callable[[int], object] = lambda count: None,
) -> Survey:
    """Reads every image of a folder once.

    Args:
      names: of the table's rows; a file of another ending, or where the name has none, of any, is the row's too.
      channels: 1 (grey) or 3 (RGB), to which images are converted.
      clean: the clean images' files, by row.
      on_image: called with 1 for every image.

    Raises:
      DataError: there is no such folder, or none of the table's images is in it and can be read.
    """
    found, odd = _matched(folder, names)
    files: dict[int, Path] = {}
    distances = []
    for row, path in found.items():
        on_image(1)
        try:
            pixels = decode_image(path, channels)
        except DataError:
            odd["broken"].append(path.name)
            continue
        files[row] = path
        if _is_jpeg(path):
            odd["jpeg"].append(path.name)
        if clean is None or row not in clean:
            continue
        before = decode_image(clean[row], channels)
        if before.shape == pixels.shape:
            distances.append(_distance(pixels, before))
        else:
            odd["resized"].append(f"{path.name} ({_sides(pixels)}, clean {_sides(before)})")
    if not files:
        raise DataError(f"{folder}: expected images such as {names[0]}, received {'; '.join(_told(odd)) or 'none'}")
    linf, l2 = np.transpose(distances) if distances else ([], [])
    moved = Perturbation(len(distances), float(max(linf)), float(np.mean(l2))) if distances else None
    return Survey(Path(folder), files, odd, moved)


def _told(odd: dict[str, list[str]]) -> list[str]:
    return Survey(Path(), {}, odd).remarks()


def _matched(folder: Union[str, Path], names: Sequence[str]) -> tuple[dict[int, Path], dict[str, list[str]]]:
    """The files by the names' rows; whole names come before those without ending, and .png before other endings."""
    images = [path for path in visible_files(folder) if _stem(path.name) != path.name]
    by_name = {path.name: path for path in images}
    files = {row: by_name.pop(name) for row, name in enumerate(names) if name in by_name}
    by_stem: dict[str, Path] = {}
    for path in sorted(by_name.values(), key=lambda path: (path.suffix.lower() != ".png", path.name)):
        by_stem.setdefault(_stem(path.name), path)
    for row, name in enumerate(names):
        if row not in files and _stem(name) in by_stem:
            files[row] = by_stem.pop(_stem(name))
    odd: dict[str, list[str]] = {kind: [] for kind in KINDS}
    odd["missing"] = [name for row, name in enumerate(names) if row not in files]
    odd["extra"] = sorted(set(by_name) - {path.name for path in files.values()})
    return dict(sorted(files.items())), odd


def _stem(name: str) -> str:
    """Without the ending of an image format."""
    path = Path(name)
    return path.stem if path.suffix.lower() in Image.registered_extensions() else name


def _is_jpeg(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(JPEG_START)) == JPEG_START


def _sides(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _distance(pixels: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    moved = pixels.astype(np.float64) - before
    return float(np.abs(moved).max()), float(np.sqrt(np.sum(moved**2)))
