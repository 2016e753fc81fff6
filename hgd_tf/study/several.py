"""From configuration to table: one run, or one for each of several targets, as for the competition (section 5.5)."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from hgd_tf.attacks import TRAINING_RECIPES, check_players
from hgd_tf.defenses.line_up import title
from hgd_tf.errors import CheckpointError
from hgd_tf.files import write_json
from hgd_tf.foundation.description import refuse
from hgd_tf.foundation.stack import keras
from hgd_tf.study.table_of_runs import evaluate_run
from hgd_tf.targets.published import find_published, missing_message
from hgd_tf.targets.registry import target_spec
from hgd_tf.training.config import TrainConfig
from hgd_tf.training.run_directory import holds_run, is_finished
from hgd_tf.training.train import train_denoiser

MODELS_FILE = "models.json"


def train_and_test(
    config: TrainConfig, run_dir: Union[str, Path], sets_dir: Union[str, Path], overwrite: bool = False
) -> Optional[str]:
    """Trains a denoiser as `train_denoiser` does and returns its table; None where there are no test images."""
    experiment = train_denoiser(config, run_dir, sets_dir, overwrite)
    if not len(experiment.splits.test.labels):
        return None
    return evaluate_run(run_dir, experiment, config.experiment)


def train_each(
    config: TrainConfig,
    targets: Sequence[str],
    run_dir: Union[str, Path],
    sets_dir: Union[str, Path],
    overwrite: bool = False,
) -> Path:
    """Trains and tests a denoiser for each target, one after the other, and prints their tables.

    Runs that were finished before are left alone, and the first other one goes on where it was stopped. They share the
    attacked images that do not depend on the target.

    Args:
      config: of every run, but for its target.
      run_dir: folder of the runs' folders, `NAME` each.
      sets_dir, overwrite: as in `train_denoiser`.

    Returns:
      The file that describes the ensemble of all, as `defenses/line_up.py` reads it; in `run_dir`.

    Raises:
      HgdError: a network, the images, a folder or the configuration does not fit; what can be known before is known
        before the first run begins.
    """
    run_dir = Path(run_dir)
    own = {"checkpoint": config.experiment.checkpoint, "feature_layer": config.experiment.feature_layer}
    refuse(
        {f"`{name}` is of one target, received {value} for several": value is not None for name, value in own.items()}
    )
    experiments = {name: dataclasses.replace(config.experiment, target=name) for name in targets}
    runs = {name: dataclasses.replace(config, experiment=experiment) for name, experiment in experiments.items()}
    check_players(TRAINING_RECIPES[config.recipe], config.experiment.networks)
    for name, its_config in runs.items():
        _check_weights(name)
        if not overwrite:
            holds_run(run_dir / name, its_config)  # raises where another one stands there
    for name, its_config in runs.items():
        folder = run_dir / name
        if not overwrite and is_finished(folder):
            print(f"\n{name}: finished before, see {folder}")
            continue
        print(f"\n{name}: {folder}")
        print("\n" + (train_and_test(its_config, folder, sets_dir, overwrite) or "no table: there are no test images"))
        keras.backend.clear_session()  # it numbers the next run's layers as in a process of its own
        gc.collect()  # networks and compiled attacks are in circles, which would wait for memory that is not there
    write_json(run_dir / MODELS_FILE, _line_up(config, targets))
    return run_dir / MODELS_FILE


def _check_weights(name: str) -> None:
    """That a target's weights are there, without reading them."""
    published = target_spec(name).published
    if published is not None and find_published(name, published) is None:
        raise CheckpointError(missing_message(name, published))


def _line_up(config: TrainConfig, targets: Sequence[str]) -> dict[str, Any]:
    denoisers = {name: f"{config.defense_name}_{name}" for name in targets}
    size = {} if config.experiment.image_size is None else {"image_size": config.experiment.image_size}
    return {
        "denoisers": {denoisers[name]: {"defense": name} for name in targets},
        "targets": {name: {"name": name, **size} for name in targets},
        "flows": [title((denoisers[name],), (name,)) for name in targets],
    }
