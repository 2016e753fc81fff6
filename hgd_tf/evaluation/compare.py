"""Several defences in one table: no defence, the filters, the adversarially trained target, and training runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional, Union

from tqdm import tqdm

from hgd_tf.defenses import Defense
from hgd_tf.defenses.ensemble import Ensemble
from hgd_tf.defenses.saving import SHIPPED, defense_directory, load_denoiser
from hgd_tf.denoisers import gaussian, median, rescaled
from hgd_tf.errors import RunError
from hgd_tf.evaluation.columns import Setting
from hgd_tf.evaluation.evaluate import DefenseResult, craft_test_sets, evaluate_defenses, image_count
from hgd_tf.evaluation.report import Results, save_results, table
from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, load_experiment, sides_to_test
from hgd_tf.training.run_directory import is_finished, read_config
from hgd_tf.versions import package_versions

UNFINISHED = "unfinished_results{}.json"  # of each side


def compare(
    defenses: Mapping[str, Union[Defense, Ensemble]],
    experiment: Experiment,
    config: ExperimentConfig,
    keep_in: Optional[Path] = None,
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


def trained(run_dirs: Sequence[Union[str, Path]], experiment: Experiment) -> dict[str, Defense]:
    """The rows of training runs, by defence name; a pixel guided DUNET has its PGD x2 beside it (appendix B).

    Raises:
      RunError: a folder holds no run, or two hold the same defence.
    """
    rows: dict[str, Defense] = {}
    for run_dir in run_dirs:
        name = read_config(run_dir).defense_name
        denoiser = load_denoiser(run_dir)
        denoisers = {name: denoiser}
        if name == "pixel":
            denoisers["pixel_x2"] = rescaled(denoiser, 2.0)
        for row, its_denoiser in denoisers.items():
            if row in rows:
                raise RunError(f"{run_dir} is a second {row!r} run; a table has one row for each")
            rows[row] = Defense(its_denoiser, experiment.roles.target)
    return rows


def evaluate_run(run_dir: Union[str, Path], experiment: Experiment, config: ExperimentConfig) -> str:
    """Evaluates one training run beside the baselines; saves the results in its folder and returns the table."""
    return _evaluate([run_dir], experiment, config, Path(run_dir))


def evaluate_runs(
    runs: Sequence[Union[str, Path]],
    output_dir: Union[str, Path],
    sets_dir: Union[str, Path],
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """One table over several training runs of the same experiment; saves it in `output_dir` and returns it.

    Args:
      runs: their folders, or names of shipped defenses.
      output_dir: of the results.
      sets_dir: of the attacked images.
      changes: fields of `ExperimentConfig` that replace the runs' own; with a `test_dir`, runs may be unfinished.

    Raises:
      RunError: the runs' networks, images or seeds differ, or a shipped defense's own images do not come with it.
    """
    run_dirs = [defense_directory(run) for run in runs]
    configs = [dataclasses.replace(read_config(run_dir).experiment, **changes) for run_dir in run_dirs]
    for run_dir, config in zip(run_dirs, configs):
        if config != configs[0]:
            raise RunError(
                f"{run_dir} is of another experiment than {run_dirs[0]}: target, members, images and seed must agree"
            )
        if "test_dir" not in changes and run_dir.parent == SHIPPED and not _is_of_embedded_images(config):
            raise RunError(f"{run_dir.name} comes without the images of its training: expected --test_dir=DIR of yours")
        if "test_dir" not in changes and not is_finished(run_dir):
            raise RunError(f"{run_dir} holds an unfinished run: the command that started it goes on with it")
    experiment = load_experiment(configs[0], sets_dir)
    return _evaluate(run_dirs, experiment, configs[0], Path(output_dir))


def _is_of_embedded_images(config: ExperimentConfig) -> bool:
    return config.data_dir is None and config.photographs is None


def _evaluate(run_dirs, experiment: Experiment, config: ExperimentConfig, output_dir: Path) -> str:
    defenses = {**baselines(experiment), **trained(run_dirs, experiment)}
    return compare_and_save(defenses, experiment, config, output_dir)


def compare_and_save(
    defenses: Mapping[str, Union[Defense, Ensemble]],
    experiment: Experiment,
    config: ExperimentConfig,
    output_dir: Path,
) -> str:
    """Evaluates each of the defences, by name; saves the results in the folder and returns the table."""
    results = compare(defenses, experiment, config, output_dir)
    save_results(results, output_dir, package_versions())
    for setting in results.settings:
        _unfinished(output_dir, setting.side).unlink(missing_ok=True)
    return table(results)
