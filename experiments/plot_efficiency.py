"""Draws what a denoiser gives for its cost: accuracy against GFLOP an image, from tables that `evaluate` wrote.

    python experiments/plot_efficiency.py docs/efficiency.png experiments/efficiency experiments/efficiency_160

Accuracy is the mean over Clean and the four stored sets, relative to the undefended clean accuracy of the same table,
so that tables of several image sizes share one picture. The smallest denoiser within two points of the best is named,
of each table and of all.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib

from hgd_tf.evaluation.columns import STORED_COLUMNS

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import ScalarFormatter

UNDEFENDED = "none"
POINTS = 2.0
GFLOP_TICKS = (0.5, 1, 2, 4, 8)
ABOVE, BELOW = (5, 5), (5, -12)  # of its mark, where a name stands
CLOSE = 1.2  # times the cost: names of two denoisers would lie on each other


class Denoiser(NamedTuple):
    """One row: cost in GFLOP an image, target included, and relative accuracy in percent."""

    name: str
    gflop: float
    accuracy: float


def denoisers(folder: Path) -> list[Denoiser]:
    """The rows of a table's `results.json`, but for no defence."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    accuracy = results["accuracy"]
    keys = ["clean", *(column.key for column in STORED_COLUMNS)]

    def relative(row: str) -> float:
        return 100 * sum(accuracy[row][key] for key in keys) / len(keys) / accuracy[UNDEFENDED]["clean"]

    return [Denoiser(row, results["gflop"][row], relative(row)) for row in accuracy if row != UNDEFENDED]


def smallest_within(rows: list[Denoiser], points: float) -> Denoiser:
    """The cheapest whose accuracy is at most so many points below the best."""
    best = max(row.accuracy for row in rows)
    return min((row for row in rows if row.accuracy >= best - points), key=lambda row: row.gflop)


def title(folder: Path) -> str:
    """The size of a table's images, which its description beside the folder says."""
    description = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
    return f"{description['experiment']['image_size']} pixels"


def draw(tables: dict[str, list[Denoiser]]):
    """The picture, a colour a table."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    everything = [row for rows in tables.values() for row in rows]
    for table, rows in tables.items():
        axes.scatter([row.gflop for row in rows], [row.accuracy for row in rows], label=table)
        for row in rows:
            better = [other for other in everything if other.accuracy > row.accuracy]
            place = BELOW if any(1 / CLOSE < other.gflop / row.gflop < CLOSE for other in better) else ABOVE
            axes.annotate(row.name, (row.gflop, row.accuracy), xytext=place, textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="GFLOP an image, target included", ylabel="accuracy kept, %")
    axes.set_xticks(GFLOP_TICKS, minor=False)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.margins(x=0.25, y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def main(output: str, *folders: str) -> None:
    tables = {title(Path(folder)): denoisers(Path(folder)) for folder in folders}
    draw(tables).savefig(output, dpi=120)
    everything = [row._replace(name=f"{row.name}, {table}") for table, rows in tables.items() for row in rows]
    for row in everything:
        print(f"{row.name:<32}{row.gflop:6.2f} GFLOP {row.accuracy:6.1f} %")
    for table, rows in {**tables, "all": everything}.items():
        print(f"{table}: smallest within {POINTS:g} points of the best: {smallest_within(rows, POINTS).name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
