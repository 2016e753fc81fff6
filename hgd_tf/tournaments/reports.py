"""A tournament's files: the organizers' own, with counts, and this project's, with fractions."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from hgd_tf.competition.entries import ATTACK, DEFENSE, TARGETED_ATTACK
from hgd_tf.files import replacing, write_json
from hgd_tf.tournaments import scoring
from hgd_tf.tournaments.tournament import Problem, Standing, TournamentConfig
from hgd_tf.versions import package_versions

TIMED_IMAGES = 100
ALL_CLASSIFICATION_FILE = "all_classification.csv"
ALL_CLASSIFICATION_COLUMNS = (
    "AttackName", "IsTargeted", "DefenseName", "ImageId", "PredictedLabel", "TrueLabel", "TargetClass",
)  # fmt: skip


class Report(NamedTuple):
    """All figures of a tournament.

    Attributes:
      classifications: what the defences said.
      attacks, defenses: scores, the highest first.
      seconds: by (type, name) of every entry, for 100 images; None: it was not run.
    """

    config: TournamentConfig
    classifications: scoring.Classifications
    attacks: list[scoring.AttackScore]
    defenses: list[scoring.DefenseScore]
    seconds: dict[tuple[str, str], Optional[float]]
    problems: list[Problem]

    def seconds_of(self, score: scoring.AttackScore) -> Optional[float]:
        """For 100 images, an attack's."""
        return self.seconds[type_of(score), score.name]


def make_report(config: TournamentConfig, standing: Standing) -> Report:
    return Report(
        config,
        standing.classifications,
        scoring.attack_scores(standing.classifications),
        scoring.defense_scores(standing.classifications),
        {entry: scoring.seconds_for(TIMED_IMAGES, runs) for entry, runs in standing.runs.items()},
        standing.problems,
    )


def type_of(score: scoring.AttackScore) -> str:
    """As in an attack's metadata."""
    return TARGETED_ATTACK if score.targeted else ATTACK


def write_organizers_files(report: Report, folder: Path, all_classification: bool) -> None:
    """Writes the development toolkit's files: counts, rows attacks, columns defences; and rankings.

    Args:
      all_classification: whether to write a row for each label too; labels that cannot be right are left out. If not,
        that file is removed: it would be of another tournament.
    """
    found = report.classifications
    plain, targeted = np.flatnonzero(~found.targeted), np.flatnonzero(found.targeted)
    correct, hits = found.correct.sum(axis=2), found.hits.sum(axis=2)
    _write_rows(folder / "accuracy_on_attacks.csv", _matrix(found, correct, plain))
    _write_rows(folder / "accuracy_on_targeted_attacks.csv", _matrix(found, correct, targeted))
    _write_rows(folder / "hit_target_class.csv", _matrix(found, hits, targeted))
    rankings: dict[str, tuple[str, Sequence[Union[scoring.AttackScore, scoring.DefenseScore]]]] = {
        "defense_ranking.csv": ("DefenseName", report.defenses),
        "attack_ranking.csv": ("AttackName", [score for score in report.attacks if not score.targeted]),
        "targeted_attack_ranking.csv": ("AttackName", [score for score in report.attacks if score.targeted]),
    }
    for name, (column, scores) in rankings.items():
        _write_rows(folder / name, [(column, "Score"), *((score.name, score.score) for score in scores)])
    if all_classification:
        _write_rows(folder / ALL_CLASSIFICATION_FILE, _all_labels(found))
    else:
        (folder / ALL_CLASSIFICATION_FILE).unlink(missing_ok=True)


def write_scores(report: Report, folder: Path) -> None:
    """Writes scores.csv, a row an entry, and scores.json, with all figures and what was played."""
    rows = [*_defense_rows(report), *_attack_rows(report)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    _write_rows(folder / "scores.csv", [columns, *([row.get(column, "") for column in columns] for row in rows)])
    found = report.classifications
    write_json(
        folder / "scores.json",
        {
            "config": report.config._asdict(),
            "images": len(found.image_ids),
            "defenses": _defense_rows(report),
            "attacks": _attack_rows(report),
            "accuracy": _by_names(found, found.correct.mean(axis=2)),
            "hit_target_class": _by_names(found, found.hits.mean(axis=2)),
            "problems": [problem._asdict() for problem in report.problems],
            "versions": package_versions(),
        },
    )


def format_table(report: Report) -> str:
    """Both rankings as text."""
    lines = [_line("defense", "score", "normalized", "worst attack", "worst image", "s/100 images")]
    for defense in report.defenses:
        fractions = map(percent, (defense.normalized, defense.worst_accuracy, defense.worst_image_accuracy))
        lines.append(_line(defense.name, defense.score, *fractions, decimal(report.seconds[DEFENSE, defense.name])))
    lines += ["", _line("attack", "score", "normalized", "images", "", "s/100 images")]
    for attack in report.attacks:
        name = f"{attack.name} (targeted)" if attack.targeted else attack.name
        seconds = decimal(report.seconds_of(attack))
        lines.append(_line(name, attack.score, percent(attack.normalized), attack.written, "", seconds))
    return "\n".join(lines)


def percent(fraction: Optional[float]) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def decimal(number: Optional[float]) -> str:
    return "–" if number is None else f"{number:.1f}"


def _line(first: object, *others: object) -> str:
    return f"{first!s:<48}" + "".join(f"{cell!s:>14}" for cell in others)


def _matrix(found: scoring.Classifications, counts: np.ndarray, rows: np.ndarray) -> Iterator[Sequence[Any]]:
    yield ["", *found.defenses]
    yield from ([found.attacks[row], *counts[row].tolist()] for row in rows)


def _all_labels(found: scoring.Classifications) -> Iterator[Sequence[Any]]:
    yield ALL_CLASSIFICATION_COLUMNS
    for defense, attack, image in np.argwhere(found.predicted.transpose(1, 0, 2) != scoring.NO_LABEL):
        yield (
            found.attacks[attack],
            bool(found.targeted[attack]),
            found.defenses[defense],
            found.image_ids[image],
            int(found.predicted[attack, defense, image]),
            int(found.true_labels[image]),
            int(found.target_classes[image]),
        )


def _defense_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "name": score.name,
            "type": DEFENSE,
            **score._asdict(),
            "median_seconds_for_100_images": report.seconds[DEFENSE, score.name],
        }
        for score in report.defenses
    ]


def _attack_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "name": score.name,
            "type": type_of(score),
            "score": score.score,
            "normalized": score.normalized,
            "images_written": score.written,
            "wrote_every_image": score.written == len(report.classifications.image_ids),
            "median_seconds_for_100_images": report.seconds_of(score),
        }
        for score in report.attacks
    ]


def _by_names(found: scoring.Classifications, values: np.ndarray) -> dict[str, dict[str, float]]:
    return {attack: dict(zip(found.defenses, row.tolist())) for attack, row in zip(found.attacks, values)}


def _write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
