"""Certified accuracy of smoothed defences: a table of certificates each, in the format of Cohen et al. (2019)."""

from __future__ import annotations

import datetime
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.attacks.roles import load_attacked
from hgd_tf.data import LabeledImages
from hgd_tf.defenses import Classifier, Defense, load_defense
from hgd_tf.errors import RunError
from hgd_tf.evaluation.attacked_answers import weights_digest
from hgd_tf.evaluation.attacked_folders import wilson
from hgd_tf.evaluation.attackers import undefended
from hgd_tf.evaluation.report import aligned
from hgd_tf.evaluation.smoothing import ABSTAIN, Smoothed
from hgd_tf.files import write_json
from hgd_tf.foundation.description import read_json
from hgd_tf.targets import TARGETS
from hgd_tf.versions import package_versions

RADII = (0.0, 0.25, 0.5, 0.75)
NONE = "none"
RESULTS_FILE = "certified.json"


class Row(NamedTuple):
    """An image's certificate, as in the authors' tables.

    Attributes:
      idx: the image's number.
      label, predict: classes; -1: it abstains.
      radius: L2, in [0, 1] units.
      correct: 1 where the class is right.
      time: that it took, H:MM:SS.
    """

    idx: int
    label: int
    predict: int
    radius: float
    correct: int
    time: str


HEADER = "\t".join(Row._fields)


class CertifiedResults(NamedTuple):
    """What `evaluate_certified` found.

    Attributes:
      settings: of the smoothing, and `largest_radius`, which no certificate can exceed.
      rows: the certificates, by defence.
    """

    settings: dict[str, Any]
    rows: dict[str, list[Row]]

    def accuracy(self, name: str, radius: float) -> float:
        """Share of a defence's images whose class is right and holds within the radius, for certain."""
        return float(np.mean([row.correct and row.radius >= radius for row in self.rows[name]]))

    def table(self) -> str:
        """Certified accuracy in percent with 95 % intervals (Wilson), and abstentions."""
        cells = [["certified accuracy at L2 radius", *(f"{radius:g}" for radius in RADII), "abstentions"]]
        for name, rows in self.rows.items():
            shares = [self.accuracy(name, radius) for radius in RADII]
            cells.append([name, *(_with_interval(share, len(rows)) for share in shares), str(_abstentions(rows))])
        settings, images = self.settings, max(map(len, self.rows.values()))
        note = (
            f"{images} images; radii and σ={settings['sigma']:g} in [0, 1] units; each certificate is wrong with "
            f"probability {settings['alpha']:g} at most; n={settings['n']} draws cannot certify more than "
            f"{settings['largest_radius']:.3f}."
        )
        return "\n".join([*aligned(cells), "", note])

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types; shares as fractions."""
        return {
            **self.settings,
            "defenses": {
                name: {
                    "images": len(rows),
                    "abstentions": _abstentions(rows),
                    "certified_accuracy": {
                        f"{radius:g}": dict(zip(("share", "low", "high"), (share, *wilson(share, len(rows)))))
                        for radius in RADII
                        for share in [self.accuracy(name, radius)]
                    },
                }
                for name, rows in self.rows.items()
            },
            "versions": package_versions(),
        }


def evaluate_certified(
    defenses: Mapping[str, Classifier],
    images: LabeledImages,
    output_dir: Union[str, Path],
    sigma: float,
    *,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
    skip: int = 1,
    max_images: Optional[int] = None,
    batch_size: Optional[int] = None,
) -> CertifiedResults:
    """Certifies smoothed defences on the same images.

    Args:
      defenses: by name, which names the tables too.
      images: at the size at which noise is added.
      output_dir: receives `NAME.tsv`, row by row, from which an interrupted call goes on, with its settings in
        `NAME.settings.json`; and `certified.json`.
      sigma, n0, n, alpha, seed, batch_size: as of `Smoothed`.
      skip: every so many-th image is certified.
      max_images: of these, the first; None: all.

    Raises:
      RunError: there are no images, a defence does not take them, or the folder holds certificates of other settings.
    """
    places = range(0, len(images.labels), skip)[:max_images]
    if not places:
        raise RunError("expected at least one image, received none")
    for name, defense in defenses.items():
        _check_fits(name, defense, images)
    settings = {"sigma": sigma, "n0": n0, "n": n, "alpha": alpha, "seed": seed, "skip": skip}
    of_images = _digest(images)
    tables = {
        name: _Table(Path(output_dir), name, {**settings, "images": of_images, "classifier": weights_digest(defense)})
        for name, defense in defenses.items()
    }
    rows = {}
    for name, defense in defenses.items():
        smoothed = Smoothed(defense, sigma, n0=n0, n=n, alpha=alpha, seed=seed, batch_size=batch_size)
        rows[name] = _certified(name, smoothed, images, places, tables[name])
    results = CertifiedResults({**settings, "largest_radius": smoothed.largest_radius}, rows)
    write_json(Path(output_dir) / RESULTS_FILE, results.to_json())
    return results


def load_certified(names: Sequence[str]) -> dict[str, Classifier]:
    """What names say: defences as in `load_defense`; undefended classifiers; `none`, the first defence's undefended.

    Raises:
      RunError, TargetError: one cannot be loaded; or `none` stands alone.
    """
    loaded = {name: _loaded(name) for name in dict.fromkeys(names) if name != NONE}
    if not loaded:
        raise RunError(f"expected at least one defence or classifier, received {', '.join(names) or NONE}")
    return {name: loaded[name] if name in loaded else undefended(next(iter(loaded.values()))) for name in names}


def _loaded(name: str) -> Classifier:
    is_target = name.partition("@")[0] in TARGETS and not Path(name).exists()
    return Defense(None, load_attacked(name)) if is_target else load_defense(name)


class _Table:
    """A growing file of rows, beside the settings that they depend on.

    Raises:
      RunError: it is there with other settings, or holds something else.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]):
        plain = re.sub(r"[^\w.@+-]+", "_", name).strip("_.")
        self.path, beside = folder / f"{plain}.tsv", folder / f"{plain}.settings.json"
        if beside.exists() or self.path.exists():
            found = read_json(beside, f"the settings of {self.path}")
            for key, value in settings.items():
                if found.get(key) != value:
                    raise RunError(
                        f"{self.path} holds certificates of other settings ({key} was {found.get(key)}, now {value}); "
                        "choose another `output_dir`"
                    )
        write_json(beside, settings)

    def kept(self, places: range) -> list[Row]:
        """The rows that are there; a last one that is not whole is removed."""
        if not self.path.exists():
            self.path.write_text(f"{HEADER}\n", encoding="utf-8")
        whole = self.path.read_bytes().rpartition(b"\n")[0] + b"\n"
        with open(self.path, "r+b") as file:
            file.truncate(len(whole))
        header, *lines = whole.decode().splitlines()
        rows = [_row(line) for line in lines]
        if header != HEADER or any(row is None or row.idx != place for row, place in zip(rows, places)):
            raise RunError(f"{self.path} is damaged; remove it to certify again")
        return [row for row in rows[: len(places)] if row]

    def add(self, row: Row) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\t".join(map(str, row)) + "\n")


def _row(line: str) -> Optional[Row]:
    try:
        idx, label, predict, radius, correct, took = line.split("\t")
        return Row(int(idx), int(label), int(predict), float(radius), int(correct), took)
    except ValueError:
        return None


def _certified(name: str, smoothed: Smoothed, images: LabeledImages, places: range, table: _Table) -> list[Row]:
    rows = table.kept(places)
    with tqdm(total=len(places), initial=len(rows), desc=f"certifying {name}", unit="img") as bar:
        for place in places[len(rows) :]:
            started = time.monotonic()
            ((predict,), (radius,)) = smoothed.certify(images.images[place : place + 1], [place])
            took = datetime.timedelta(seconds=time.monotonic() - started)
            label = int(images.labels[place])
            rows.append(Row(place, label, int(predict), float(radius), int(predict == label != ABSTAIN), str(took)))
            table.add(rows[-1])
            shares = [(CertifiedResults({}, {name: rows}).accuracy(name, near), near) for near in RADII]
            bar.set_postfix_str(", ".join(f"{100 * share:.0f} % at {near:g}" for share, near in shares))
            bar.update()
    return rows


def _check_fits(name: str, defense: Classifier, images: LabeledImages) -> None:
    channels, classes = images.images.shape[-1], 1 + int(images.labels.max())
    if channels != defense.channels or classes > defense.classes:
        raise RunError(
            f"{name} takes {defense.channels} channels and knows {defense.classes} classes; the images have {channels} "
            f"channels and {classes} classes"
        )


def _digest(images: LabeledImages) -> str:
    digest = hashlib.sha256(str(images.images.shape).encode())
    for array in images:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _abstentions(rows: Sequence[Row]) -> int:
    return sum(row.predict == ABSTAIN for row in rows)


def _with_interval(share: float, count: int) -> str:
    low, high = wilson(share, count)
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
