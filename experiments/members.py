"""How the members of an ensemble should weigh, and whether their average beats the best of them.

    python experiments/members.py TABLE.json ROW HELD_OUT HELD_OUT_LABELS.csv TEST TEST_LABELS.csv [OUTPUT.json]

TABLE.json describes a table as hgd_tf/evaluation/described_table.py says; the flows of its row ROW are the members. All
images are attacked at 299 pixels on the table's networks. The weights are those of the lowest mean cross-entropy on the
images of HELD_OUT, in steps of a tenth; what is reported is of those of TEST: accuracy by column, a paired test of the
average beside its best member (the exact test of McNemar over images), and the correlation of the members' errors. Of
either folder the table's `test_images` are taken.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from scipy.special import log_softmax
from scipy.stats import binomtest
from tqdm import tqdm

from hgd_tf.defenses.ensemble import Classifier
from hgd_tf.evaluation.described_table import read_table
from hgd_tf.evaluation.evaluate import craft_test_sets
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.experiment.loading import COMPETITION_SIDE, load_experiment
from hgd_tf.files import write_json

TENTHS = 10
BATCH = 10
SETS_DIR = "runs/sets"


def answers(ensemble: Classifier, config: ExperimentConfig) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """By column, the members' logits, float32 (members, attacks, images, classes); and the classes (images,)."""
    experiment = load_experiment(config, SETS_DIR)
    clean = experiment.splits_at(COMPETITION_SIDE).test.head(config.test_images)
    sets = craft_test_sets(experiment.sets, clean, 0, COMPETITION_SIDE)
    images = {"clean": clean.images[None], **{key: stored.attacked for key, stored in sets.attacked.items()}}
    members = [tf.function(flow, reduce_retracing=True) for flow in ensemble.flows]
    total = len(members) * sum(attacked.shape[0] * attacked.shape[1] for attacked in images.values())
    with tqdm(total=total, unit="img", mininterval=1) as bar:
        logits = {key: np.stack([_answers(one, attacked, bar) for one in members]) for key, attacked in images.items()}
    return logits, clean.labels


def _answers(member: Classifier, attacked: np.ndarray, bar: tqdm) -> np.ndarray:
    flat = attacked.reshape(-1, *attacked.shape[2:])
    logits = []
    for first in range(0, len(flat), BATCH):
        logits.append(member(tf.constant(flat[first : first + BATCH]))["logits"].numpy())
        bar.update(len(logits[-1]))
    return np.concatenate(logits).reshape(*attacked.shape[:2], -1)


def weights_of_lowest_cross_entropy(logits: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Float (members,), whole tenths that add up to 1."""
    count = len(logits["clean"])
    candidates = [
        np.array(tenths) / TENTHS
        for tenths in itertools.product(range(TENTHS + 1), repeat=count)
        if sum(tenths) == TENTHS
    ]

    def cross_entropy(weights: np.ndarray) -> float:
        return float(np.mean([_cross_entropy(_average(column, weights), labels) for column in logits.values()]))

    return min(candidates, key=cross_entropy)


def _average(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, logits, axes=1)


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    rows = np.broadcast_to(labels, logits.shape[:-1])[..., None]
    return -float(np.mean(np.take_along_axis(log_softmax(logits, axis=-1), rows, axis=-1)))


def report(logits: dict[str, np.ndarray], labels: np.ndarray, names: list[str], weights: np.ndarray) -> dict:
    """By column: accuracies of members and averages, the paired test, and the errors' correlations."""
    equal = np.full(len(names), 1 / len(names))
    columns = {}
    for key, column in logits.items():
        right = {name: own.argmax(-1) == labels for name, own in zip(names, column)}
        best = max(names, key=lambda name: right[name].mean())
        right["average"] = _average(column, equal).argmax(-1) == labels
        right["weighted"] = _average(column, weights).argmax(-1) == labels
        errors = [1.0 - right[name].ravel() for name in names]
        columns[key] = {
            "accuracy": {name: float(some.mean()) for name, some in right.items()},
            "best member": best,
            "p of average and best": _paired(right["average"], right[best]),
            "p of weighted and best": _paired(right["weighted"], right[best]),
            "correlation of errors": np.corrcoef(errors).round(3).tolist() if len(errors) > 1 else None,
        }
    return {"members": names, "weights": weights.tolist(), "images": len(labels), "columns": columns}


def _paired(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p that two classifiers are right equally often.

    An image under several attacks is one draw, not several: it counts for who is right under more of them.
    """
    difference = np.sign(one.sum(0).astype(int) - other.sum(0).astype(int))
    decided = int(np.count_nonzero(difference))
    return float(binomtest(int(np.sum(difference > 0)), decided).pvalue) if decided else 1.0


def main(table: str, row: str, held_out: str, held_out_labels: str, test: str, test_labels: str, *output: str) -> None:
    described = read_table(table)
    ensemble = described.rows[row].load()
    names = [flow.title for flow in ensemble.flows]

    def config(folder: str, labels: str) -> ExperimentConfig:
        return dataclasses.replace(described.experiment, test_dir=folder, labels=labels)

    weights = weights_of_lowest_cross_entropy(*answers(ensemble, config(held_out, held_out_labels)))
    found = report(*answers(ensemble, config(test, test_labels)), names, weights)
    print(f"weights: {dict(zip(names, weights.tolist()))}")
    for key, column in found["columns"].items():
        accuracies = ", ".join(f"{name} {100 * value:.1f}" for name, value in column["accuracy"].items())
        tests = f"p {column['p of average and best']:.2g}, weighted {column['p of weighted and best']:.2g}"
        print(f"{key}: {accuracies}; beside {column['best member']}: {tests}")
    if output:
        write_json(Path(output[0]), found)
        print(f"\nResults are in {output[0]}")


if __name__ == "__main__":
    if len(sys.argv) not in (7, 8):
        sys.exit(f"expected 6 or 7 arguments, received {len(sys.argv) - 1}\n{__doc__}")
    main(*sys.argv[1:])
