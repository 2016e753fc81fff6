"""The table of training runs: one beside the baselines, or several of the same experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Union

from hgd_tf.defenses import Classifier, Defense, load_defense
from hgd_tf.defenses.loading import is_line_up
from hgd_tf.defenses.saving import SHIPPED, defense_directory, load_denoiser
from hgd_tf.denoisers import rescaled
from hgd_tf.errors import RunError
from hgd_tf.evaluation.compare import Measure, baselines, compare_and_save
from hgd_tf.evaluation.described_table import check_fit
from hgd_tf.experiment import Experiment, ExperimentConfig, load_experiment
from hgd_tf.training.run_directory import is_finished, read_config


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
    return compare_and_save(_rows([run_dir], experiment), experiment, config, Path(run_dir))


def evaluate_runs(
    runs: Sequence[Union[str, Path]],
    output_dir: Union[str, Path],
    sets_dir: Union[str, Path],
    changes: Mapping[str, Any] = MappingProxyType({}),
    measure: Measure = compare_and_save,
) -> str:
    """One table over several training runs of the same experiment; saves it in `output_dir` and returns it.

    Args:
      runs: their folders, or names of shipped defenses; and files of line-ups, each a row of its own.
      changes: as in `ExperimentConfig.changed`; with a `test_dir`, runs may be unfinished.
      measure: what is measured, saved and shown; `attack_and_save` with its threat models is the other one.

    Raises:
      RunError: the runs' networks, images or seeds differ, a shipped defense's own images do not come with it, or there
        is no run but line-ups alone, which do not say whose networks are attacked.
    """
    line_ups = [run for run in runs if is_line_up(run)]
    run_dirs = [defense_directory(run) for run in runs if run not in line_ups]
    if not run_dirs:
        raise RunError(f"{line_ups[0]} does not say what is attacked: expected a run beside it, of those networks")
    configs = [read_config(run_dir).experiment.changed(changes) for run_dir in run_dirs]
    for run_dir, config in zip(run_dirs, configs):
        if config != configs[0]:
            raise RunError(
                f"{run_dir} is of another experiment than {run_dirs[0]}: target, members, images and seed must agree"
            )
        if "test_dir" not in changes and run_dir.parent == SHIPPED and config.images is not None:
            raise RunError(f"{run_dir.name} comes without the images of its training: expected `test_dir=DIR` of yours")
        if "test_dir" not in changes and not is_finished(run_dir):
            raise RunError(f"{run_dir} holds an unfinished run: the command that started it goes on with it")
    ensembles = {str(line_up): load_defense(line_up) for line_up in line_ups}
    experiment = load_experiment(configs[0], sets_dir)
    for line_up, ensemble in ensembles.items():
        check_fit(line_up, ensemble, experiment)
    return measure({**_rows(run_dirs, experiment), **ensembles}, experiment, configs[0], Path(output_dir))


def _rows(run_dirs: Sequence[Union[str, Path]], experiment: Experiment) -> dict[str, Classifier]:
    return {**baselines(experiment), **trained(run_dirs, experiment)}
