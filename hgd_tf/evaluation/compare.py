"""Several defences in one table: no defence, the filters, the adversarially trained target, and others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Callable, Optional

from tqdm import tqdm

from hgd_tf.defenses import Classifier, Defense
from hgd_tf.denoisers import gaussian, median
from hgd_tf.evaluation.columns import Setting
from hgd_tf.evaluation.evaluate import DefenseResult, craft_test_sets, evaluate_defenses, image_count
from hgd_tf.evaluation.report import Results, save_results, table
from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, sides_to_test
from hgd_tf.versions import package_versions

Measure = Callable[[Mapping[str, Classifier], Experiment, ExperimentConfig, Path], str]
UNFINISHED = "unfinished_results{}.json"  # of each side


def compare(
    defenses: Mapping[str, Classifier], experiment: Experiment, config: ExperimentConfig, keep_in: Optional[Path] = None
) -> Results:
    """Evaluates each of the defences, by name, on the experiment's test images at every side, under every transport.

    `keep_in` is a folder for what an interrupted call goes on with.
    """
    rows: dict[str, DefenseResult] = {}
    settings: list[Setting] = []
    for side in sides_to_test(config, experiment):
        clean = experiment.splits_at(side).test.head(config.test_images)
        test_sets = craft_test_sets(experiment.sets, clean, config.adaptive_images, side, config.test_transports)
        total, title = len(defenses) * image_count(test_sets), f"evaluating at {clean.images.shape[1]} pixels"
        with tqdm(total=total, desc=title, unit="img", mininterval=1) as bar:
            kept = None if keep_in is None else _unfinished(keep_in, side)
            found = evaluate_defenses(defenses, test_sets, bar.update, kept)
        rows = {name: result.and_also(rows.get(name)) for name, result in found.items()}
        settings += test_sets.settings
    return Results(
        seed=config.seed,
        dataset=experiment.splits.name,
        target=experiment.roles.target.name,
        side=experiment.splits.test.images.shape[1],
        settings=settings,
        test_images=len(clean.labels),
        adaptive_images=test_sets.adaptive_images,
        rows=rows,
    )


def _unfinished(folder: Path, side: Optional[int]) -> Path:
    return folder / UNFINISHED.format("" if side is None else f"@{side}")


def baselines(experiment: Experiment) -> dict[str, Defense]:
    """The rows that need no training: `none`, the filters, and `ens_target` where the experiment has one."""
    target = experiment.roles.target
    rows = {
        "none": Defense(None, target),
        "median": Defense(median(target.channels), target),
        "gaussian": Defense(gaussian(target.channels), target),
    }
    if experiment.ens_target is not None:
        rows["ens_target"] = Defense(None, experiment.ens_target)
    return rows


def compare_and_save(
    defenses: Mapping[str, Classifier], experiment: Experiment, config: ExperimentConfig, output_dir: Path
) -> str:
    """Evaluates each of the defences, by name; saves the results in the folder and returns the table."""
    results = compare(defenses, experiment, config, output_dir)
    save_results(results, output_dir, package_versions())
    for setting in results.settings:
        _unfinished(output_dir, setting.side).unlink(missing_ok=True)
    return table(results)
