"""The table of defences under threat models, with the checks of the attacks above it."""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from hgd_tf.defenses import Classifier
from hgd_tf.evaluation.attack_suite import AttackSuite, Held
from hgd_tf.evaluation.evaluate import attacked_at_a_time
from hgd_tf.evaluation.report import aligned
from hgd_tf.evaluation.robustbench import robustbench_card
from hgd_tf.evaluation.sanity import Check, sanity_checks
from hgd_tf.evaluation.threat_models import CLEAN, END_TO_END, ThreatModel
from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, sides_to_test
from hgd_tf.files import replacing, write_json
from hgd_tf.versions import package_versions

CHECKED_IMAGES = 50
UNFINISHED = "unfinished_threat_models.json"
DOUBTFUL = "*"


class ThreatTable(NamedTuple):
    """What is left of defences.

    Attributes:
      columns: the threat models by their column's key.
      rows: by defence and column.
      checks: by defence.
    """

    target: str
    dataset: str
    columns: Mapping[str, Sequence[ThreatModel]]
    rows: Mapping[str, Mapping[str, Held]]
    checks: Mapping[str, Sequence[Check]]

    def is_doubtful(self, name: str, key: str) -> bool:
        """Whether the figure rests on gradients of a defence that failed a check."""
        known = any(attacker.knowledge == END_TO_END for attacker in self.columns[key])
        return known and not all(check.passed for check in self.checks.get(name, ()))

    def __str__(self) -> str:
        lines = []
        for name, checks in self.checks.items():
            lines += [f"checks of the attacks on {name}", *(f"  {check}" for check in checks), ""]
        titles = [attackers[0].title for attackers in self.columns.values()]
        kinds = [" + ".join(dict.fromkeys(attacker.knowledge for attacker in each)) for each in self.columns.values()]
        cells = [[f"{self.target} behind", *titles], ["", *(f"({kind})" for kind in kinds)]]
        for name, row in self.rows.items():
            cells.append([name, *(self._cell(name, key, held) for key, held in row.items())])
        count = max(len(held.answers) for row in self.rows.values() for held in row.values())
        half_width = 98 / count**0.5  # 1.96 standard errors at 50 %, in points
        notes = [f"Accuracy on {count} images of {self.dataset}; 95 % interval at most ±{half_width:.1f} points."]
        if any(not check.passed for checks in self.checks.values() for check in checks):
            notes.append(f"{DOUBTFUL} A check above failed: the attacks may be weaker than they should be.")
        return "\n".join([*lines, *aligned(cells), "", *notes])

    def _cell(self, name: str, key: str, held: Held) -> str:
        return f"{100 * held.accuracy:.1f} %{DOUBTFUL if self.is_doubtful(name, key) else ''}"

    def as_json(self) -> dict[str, Any]:
        """Fractions, and what was spent."""
        return {
            "target": self.target,
            "dataset": self.dataset,
            "threat_models": {
                key: [dataclasses.asdict(attacker) for attacker in attackers] for key, attackers in self.columns.items()
            },
            "checks": {name: [check._asdict() for check in checks] for name, checks in self.checks.items()},
            "rows": {
                name: {
                    key: {
                        "accuracy": held.accuracy,
                        "images": len(held.answers),
                        "in_doubt": self.is_doubtful(name, key),
                        "held_after_each_attack": held.by_attacker,
                        "gradients_of_a_held_image": held.gradients,
                        "queries_of_a_held_image": held.queries,
                        "robustbench": robustbench_card(
                            self.columns[key], held, row[CLEAN.key], self.dataset, f"{self.target} behind {name}"
                        ),
                    }
                    for key, held in row.items()
                }
                for name, row in self.rows.items()
            },
            "versions": package_versions(),
        }


def attack_and_save(
    defenses: Mapping[str, Classifier],
    experiment: Experiment,
    config: ExperimentConfig,
    output_dir: Path,
    threat_models: Sequence[ThreatModel],
) -> str:
    """Attacks each of the defences, by name, under the threat models; saves the results and returns the table.

    Writes `threat_models.csv` and, last, `threat_models.json`. The checks attack the first 50 images, of large ones a
    batch.
    """
    first_side, *_ = sides_to_test(config, experiment)
    images = experiment.splits_at(first_side).test.head(config.test_images).head(config.adaptive_images)
    keep_in = output_dir / UNFINISHED
    holdout = experiment.roles.holdout
    suite = AttackSuite(
        defenses,
        [CLEAN, *threat_models],
        images,
        holdout=holdout,
        at_side=lambda size: experiment.splits_at(size).test.head(len(images.labels)),
        keep_in=keep_in,
    )
    rows = suite.run()
    known = [attacker for attacker in threat_models if attacker.knowledge == END_TO_END and attacker.norm == "linf"]

    def checked(defense: Classifier) -> list[Check]:
        return sanity_checks(
            defense,
            images.head(min(CHECKED_IMAGES, attacked_at_a_time(defense))),
            max(attacker.epsilon for attacker in known),
            holdout,
            min(attacker.expectation for attacker in known),
        )

    checks = {}
    for name, defense in tqdm(defenses.items() if known else (), "checking", unit="defense"):
        kept = suite.kept.measured(f"checks/{name}", functools.partial(checked, defense))
        checks[name] = [Check(*check) for check in kept]
    table = ThreatTable(experiment.roles.target.name, experiment.splits.name, suite.columns, rows, checks)
    with (
        replacing(output_dir / "threat_models.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["defense", *suite.columns])
        for name, row in rows.items():
            writer.writerow([name, *(held.accuracy for held in row.values())])
    write_json(output_dir / "threat_models.json", table.as_json())
    keep_in.unlink(missing_ok=True)
    return str(table)
