"""Accuracy of defences on folders of images that others attacked."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from tqdm import tqdm

from hgd_tf.data.listing import visible_files
from hgd_tf.data.splits import UNKNOWN
from hgd_tf.data.tables import Table
from hgd_tf.defenses import Classifier, load_defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.errors import RunError
from hgd_tf.evaluation.attacked_answers import Answers, weights_digest
from hgd_tf.evaluation.attacked_files import Survey, survey
from hgd_tf.evaluation.attacked_labels import LabelTable, read_label_table
from hgd_tf.evaluation.report import aligned
from hgd_tf.files import write_json
from hgd_tf.targets import Target
from hgd_tf.versions import package_versions

CLEAN, NONE = "clean", "none"
RESULTS_FILE = "attacked.json"
MUCH_BETTER = 2  # times as many right answers

Source = Union[str, Path, Classifier]
Defenses = Union[Sequence[Source], Mapping[str, Source]]


class Rates(NamedTuple):
    """What a defence answers to a folder; shares, not percent.

    Attributes:
      images: how many were classified.
      accuracy, low, high: share answered right, and its 95 % interval (Wilson).
      success: of the attack: share not answered right.
      success_of_right: the same of the images which this defence answers right when clean; None: unknown.
      targeted_success: share answered as the attack's target, of those that have one; None: there are none.
    """

    images: int
    accuracy: float
    low: float
    high: float
    success: float
    success_of_right: Optional[float]
    targeted_success: Optional[float]


class AttackedResults(NamedTuple):
    """What `evaluate_attacked` found.

    Attributes:
      labels: the table's convention and how well it fits, to read.
      rates: by folder, then by defence; `none` is the undefended target, the folder `clean` the clean images.
      surveys: by folder, its files, what is odd about them, and the perturbation.
    """

    labels: list[str]
    rates: dict[str, dict[str, Rates]]
    surveys: dict[str, Survey]

    def table(self) -> str:
        """All as text, shares in percent."""
        has_clean = CLEAN in self.rates
        rows = [["", "images", "accuracy", "95 % interval", "attack succeeds", "of right when clean", "reaches target"]]
        for folder, defenses in self.rates.items():
            rows += [[f"{folder}: {name}", *_cells(folder == CLEAN, rates)] for name, rates in defenses.items()]
        remarks = [f"{title}: {line}" for title, found in self.surveys.items() for line in _lines(found)]
        missing = [] if has_clean else ["Without `clean_dir`, the perturbation's size is unknown."]
        return "\n".join([*self.labels, "", *aligned(rows), "", *remarks, *missing]).rstrip()


def evaluate_attacked(
    defenses: Union[Source, Defenses],
    attacked_dirs: Union[str, Path, Sequence[Union[str, Path]]],
    labels: Union[str, Path],
    clean_dir: Union[str, Path, None] = None,
    output_dir: Union[str, Path, None] = None,
) -> AttackedResults:
    """Tests defences, and beside them their undefended targets, on folders of images that others attacked.

    Args:
      defenses: one or several sources as in `load_defense`, or what it loads; a mapping gives them names.
      attacked_dirs: one or several folders of image files, of any sizes.
      labels: a table as in `read_label_table` (columns `filename`, `label` and perhaps `targeted_label`, or the
        competition's), which counts from 0 or from 1. Images that it does not name are left out, which is told.
      clean_dir: the images before the attack, of the same names.
      output_dir: receives `attacked.json` and a table of the answers to each folder by each defence, from which an
        interrupted call goes on; None: nothing is written.

    Raises:
      DataError: a folder or the table is missing or malformed, or holds none of the other's images.
      RunError, TargetError: a defence cannot be loaded, or takes other classes or images than the first.
    """
    folders = [attacked_dirs] if isinstance(attacked_dirs, (str, Path)) else attacked_dirs
    _check_there([*folders, *([] if clean_dir is None else [clean_dir])], labels)
    loaded = _with_undefended(_loaded([defenses] if isinstance(defenses, (str, Path, Classifier)) else defenses))
    first = next(iter(loaded.values()))
    table = read_label_table(labels, first.classes)
    surveys = _surveys(folders, clean_dir, table, first.channels)
    answers = Answers(None if output_dir is None else Path(output_dir), labels, table)
    total = len(loaded) * sum(len(found.files) for found in surveys.values())
    with tqdm(total=total, desc="classifying", unit="img", mininterval=1, leave=False) as bar:
        classes = {
            title: {name: answers.of(title, found, name, defense, bar.update) for name, defense in loaded.items()}
            for title, found in surveys.items()
        }
    clean = classes.get(CLEAN, {})
    rates = {
        title: {name: _rates(row, table, clean.get(name)) for name, row in rows.items()}
        for title, rows in classes.items()
    }
    results = AttackedResults(_convention(labels, table, classes), rates, surveys)
    if output_dir is not None:
        write_json(Path(output_dir) / RESULTS_FILE, _as_json(results, labels, table))
    return results


def _check_there(folders: Sequence[Union[str, Path]], labels: Union[str, Path]) -> None:
    """Before anything is loaded, which takes longer."""
    Table(labels)
    for folder in folders:
        visible_files(folder)


def _loaded(defenses: Defenses) -> dict[str, Classifier]:
    """The defences by unlike names."""
    if not isinstance(defenses, Mapping):
        titles = [
            " & ".join(flow.title for flow in one.flows) if isinstance(one, Classifier) else str(one)
            for one in defenses
        ]
        defenses = dict(zip(_unlike(titles), defenses))
    if not defenses:
        raise RunError("expected at least one defence, received none")
    loaded = {name: one if isinstance(one, Classifier) else load_defense(one) for name, one in defenses.items()}
    (name, first), *others = loaded.items()
    for other, defense in others:
        if (defense.classes, defense.channels) != (first.classes, first.channels):
            raise RunError(
                f"expected defences of {first.classes} classes and images of {first.channels} channels, as {name} has, "
                f"received {other} with {defense.classes} and {defense.channels}"
            )
    return loaded


def _with_undefended(defenses: Mapping[str, Classifier]) -> dict[str, Classifier]:
    """Their undefended targets, each once, and the defences."""
    bare: dict[str, Ensemble] = {}
    for defense in defenses.values():
        weights: dict[Target, float] = {}
        for flow in defense.flows:
            for target in flow.targets:
                weights[target] = weights.get(target, 0.0) + flow.weight / len(flow.targets)
        ensemble = Ensemble([Flow([], [target], target.name, weight) for target, weight in weights.items()])
        bare.setdefault(weights_digest(ensemble), ensemble)
    titles = [" & ".join(f"{flow.title}@{flow.image_size}" for flow in one.flows) for one in bare.values()]
    names = [NONE] if len(bare) == 1 else _unlike([f"{NONE} ({title})" for title in titles])
    return {**dict(zip(names, bare.values())), **defenses}


def _unlike(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    taken: list[str] = []
    for name in names:
        numbered = (f"{name} {number}" for number in itertools.count(2))
        taken.append(name if name not in taken else next(other for other in numbered if other not in taken))
    return taken


def _surveys(
    attacked_dirs: Sequence[Union[str, Path]], clean_dir: Union[str, Path, None], table: LabelTable, channels: int
) -> dict[str, Survey]:
    """By title, `clean` first: the last part of a folder's path, or all of it where that is another's too."""
    if not attacked_dirs:
        raise RunError("`attacked_dirs`: expected at least one folder, received none")
    lasts = [Path(folder).resolve().name for folder in attacked_dirs]
    unclear = {last for last in lasts if lasts.count(last) > 1 or last == CLEAN}
    titles = _unlike([str(path) if last in unclear else last for path, last in zip(attacked_dirs, lasts)])
    with tqdm(desc="reading", unit="img", mininterval=1, leave=False) as bar:
        found = {} if clean_dir is None else {CLEAN: survey(clean_dir, table.names, channels, on_image=bar.update)}
        clean = found[CLEAN].files if found else None
        for title, folder in zip(titles, attacked_dirs):
            found[title] = survey(folder, table.names, channels, clean, bar.update)
    return found


def _rates(answers: Mapping[int, int], table: LabelTable, clean: Optional[Mapping[int, int]]) -> Rates:
    rows, classes = list(answers), np.array(list(answers.values()))
    right, targets = classes == table.labels[rows], table.targets[rows]
    accuracy, success_of_right = float(np.mean(right)), None
    if clean is not None:
        was_right = np.array([clean.get(row, UNKNOWN) for row in rows]) == table.labels[rows]
        success_of_right = float(np.mean(~right[was_right])) if np.any(was_right) else None
    has_target = targets != UNKNOWN
    reached = float(np.mean(classes[has_target] == targets[has_target])) if np.any(has_target) else None
    return Rates(len(rows), accuracy, *wilson(accuracy, len(rows)), 1.0 - accuracy, success_of_right, reached)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _convention(path: Union[str, Path], table: LabelTable, classes: Mapping[str, Mapping[str, dict]]) -> list[str]:
    """What the table counts from, why, and how many answers of the undefended target fit it, and the other one."""
    of_clean = CLEAN in classes
    answers = [next(iter(rows.values())) for title, rows in classes.items() if (title == CLEAN) == of_clean]
    pairs = np.array([(one, table.labels[row]) for rows in answers for row, one in rows.items()])
    other = 1 - table.first
    fitting, of_other = (int(np.sum(pairs[:, 0] == pairs[:, 1] + table.first - base)) for base in (table.first, other))
    kind = CLEAN if of_clean else "attacked"
    fits = f"undefended, {fitting} of {len(pairs)} {kind} images are right so, {of_other} with classes from {other}"
    if of_other > MUCH_BETTER * max(fitting, 1):
        warnings.warn(f"{path}: its classes seem to count from {other}: {fits}", stacklevel=3)
    return [f"{path}: classes from {table.first}, {table.reason}; {fits}"]


def _cells(is_clean: bool, rates: Rates) -> list[str]:
    shares = [] if is_clean else [rates.success, rates.success_of_right, rates.targeted_success]
    interval = f"{100 * rates.low:.1f} to {100 * rates.high:.1f} %"
    texts = ["" if share is None else f"{100 * share:.1f} %" for share in shares]
    return [str(rates.images), f"{100 * rates.accuracy:.1f} %", interval, *(texts or [""] * 3)]


def _lines(found: Survey) -> list[str]:
    moved = found.perturbation
    if moved is None:
        return found.remarks()
    size = (
        f"perturbation of {moved.images} images: L∞ {moved.linf:.0f} at most, L2 {moved.l2:.1f} on average (of 0..255)"
    )
    return [size, *found.remarks()]


def _as_json(results: AttackedResults, labels: Union[str, Path], table: LabelTable) -> dict:
    folders = {
        title: {
            "path": str(found.folder),
            **{kind: names for kind, names in found.odd.items()},
            "perturbation": found.perturbation and found.perturbation._asdict(),
            "defenses": {name: rates._asdict() for name, rates in results.rates[title].items()},
        }
        for title, found in results.surveys.items()
    }
    convention = {"file": str(labels), "first": table.first, "reason": table.reason, "remarks": results.labels}
    return {"labels": convention, "folders": folders, "versions": package_versions()}
