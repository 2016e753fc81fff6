"""Results as a table to read and as files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hgd_tf.data.transports import NONE
from hgd_tf.evaluation.columns import LEGEND, STORED_COLUMNS, TRANSPORT_LEGEND, Setting, columns_of
from hgd_tf.evaluation.evaluate import DefenseResult
from hgd_tf.files import replacing, write_json


class Results(NamedTuple):
    """A table: what it was measured on and the rows by the defences' names.

    Attributes:
      side: of the images in pixels as they are read for the target.
      settings: under which all was measured.
    """

    seed: int
    dataset: str
    target: str
    test_images: int
    adaptive_images: int
    rows: dict[str, DefenseResult]
    side: int
    settings: Sequence[Setting] = (Setting(),)


def table(results: Results) -> str:
    """The results as text: accuracies in percent, over all and by attack, denoising loss, cost, and the legend.

    Each setting has a part of its own.
    """
    half_width = 98 / results.test_images**0.5  # 1.96 standard errors at 50 %, in points
    counts = f"{results.test_images} test images of {results.dataset} ({results.adaptive_images} for Adaptive)"
    note = f"Accuracy on {counts}; 95 % interval at most ±{half_width:.1f} points."
    parts = [_under(setting, results) for setting in results.settings]
    legend = [*LEGEND, TRANSPORT_LEGEND] if any(setting.transport != NONE for setting in results.settings) else LEGEND
    return "\n".join([line for part in parts for line in [*part, ""]] + [note, *legend])


def _under(setting: Setting, results: Results) -> list[str]:
    """A setting's lines: all columns, then the stored sets' attacks one by one, a column for each defence."""
    columns = columns_of([setting])
    cells = [
        [f"{results.target} behind", *(column.title for column in columns), "mean |x̂-x|", "GFLOP"],
        ["", *(f"({column.threat_model})" for column in columns), "of stored sets", "an image"],
    ]
    stored = [setting.key(column.key) for column in STORED_COLUMNS]
    for name, row in results.rows.items():
        figures = [f"{100 * row.accuracy[column.key]:.1f} %" for column in columns]
        stored_loss = sum(row.denoising_loss[key] for key in stored) / len(stored)
        cells.append([name, *figures, f"{stored_loss:.4f}", f"{row.gflop:.3f}"])
    by_attack = [["by attack", *results.rows]]
    for attack in next(iter(results.rows.values())).per_attack:
        if attack.split("/")[0] in stored:
            by_attack.append([attack, *(f"{100 * row.per_attack[attack]:.1f} %" for row in results.rows.values())])
    if tuple(results.settings) == (Setting(),):
        return [*aligned(cells), "", *aligned(by_attack)]
    then = "" if setting.transport == NONE else f", then {setting.transport}"
    title = f"attacked at {setting.side or results.side} pixels{then}"
    return [title, "", *aligned(cells), "", *aligned(by_attack)]


def save_results(results: Results, directory: Path, versions: dict[str, str]) -> None:
    """Writes `results.csv` and, last, `results.json`; both hold fractions, not percent.

    `gflop` are 10⁹ float operations an image.
    """
    keys = [column.key for column in columns_of(results.settings)]
    attacks = list(next(iter(results.rows.values())).per_attack)
    with replacing(directory / "results.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["defense", *keys, *attacks, *(f"denoising_loss_{key}" for key in keys), "gflop"])
        for name, row in results.rows.items():
            figures = [row.accuracy[key] for key in keys] + [row.per_attack[attack] for attack in attacks]
            writer.writerow([name, *figures, *(row.denoising_loss[key] for key in keys), row.gflop])
    write_json(directory / "results.json", _as_json(results, versions))


def _as_json(results: Results, versions: dict[str, str]) -> dict[str, Any]:
    rows, columns = results.rows, columns_of(results.settings)
    return {
        "seed": results.seed,
        "dataset": results.dataset,
        "target": results.target,
        "test_images": results.test_images,
        "adaptive_images": results.adaptive_images,
        "threat_models": {column.key: column.threat_model for column in columns},
        "sides": {column.key: column.setting.side or results.side for column in columns},
        "transports": {column.key: column.setting.transport for column in columns},
        "accuracy": {name: row.accuracy for name, row in rows.items()},
        "accuracy_per_attack": {name: row.per_attack for name, row in rows.items()},
        "denoising_loss": {name: row.denoising_loss for name, row in rows.items()},
        "gflop": {name: row.gflop for name, row in rows.items()},
        "versions": versions,
    }


def aligned(cells: list[list[str]]) -> list[str]:
    """A line a row, columns as wide as their longest cell; the first is flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        f"{first:<{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(others, widths[1:]))
        for first, *others in cells
    ]
