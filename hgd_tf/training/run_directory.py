"""The folder of one training run."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Union

from hgd_tf.crafting.plan import thread_count
from hgd_tf.description import read_json
from hgd_tf.errors import HgdError, RunError
from hgd_tf.files import write_json
from hgd_tf.training.config import TrainConfig
from hgd_tf.versions import package_versions

CONFIG_FILE = "config.json"
LOG_FILE = "log.csv"
STATE_DIR = "state"
TENSORBOARD_DIR = "tensorboard"
RESULTS_JSON = "results.json"
RESULTS_CSV = "results.csv"


def open_run(path: Union[str, Path], config: TrainConfig, overwrite: bool = False) -> Path:
    """Makes the folder, or opens that of an interrupted run of the same configuration.

    Where that one had another number of threads, it warns: weights depend on it.

    Raises:
      RunError: it holds a finished run, one of another configuration, or something else; nothing is touched then.
    """
    path = Path(path)
    if overwrite and _is_run(path):
        shutil.rmtree(path)
    if not holds_run(path, config):
        surroundings = {"threads": thread_count(), "versions": package_versions()}  # the same again: the same weights
        write_json(path / CONFIG_FILE, {**config.to_json(), **surroundings})
    elif is_finished(path):
        raise RunError(f"{path} holds a finished run: see {path / RESULTS_CSV}, or use --overwrite to run it again")
    else:
        _warn_of_threads(path)
    return path


def holds_run(path: Path, config: TrainConfig) -> bool:
    """Whether the run of this configuration was begun in the folder; False where it is absent or empty.

    Raises:
      RunError: it holds a run of another configuration, or something else.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; expected a folder for the run")
    if not path.exists() or not any(path.iterdir()):
        return False
    difference = _difference(read_config(path), config)
    if difference:
        raise RunError(
            f"{path} holds a run of another configuration ({difference}); choose another --run_dir or --overwrite"
        )
    return True


def _warn_of_threads(path: Path) -> None:
    before, now = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8")).get("threads"), thread_count()
    if before not in (None, now):  # earlier runs do not say it
        warnings.warn(
            f"{path} was begun on {before} threads and goes on with {now}: other weights than without the interruption",
            stacklevel=3,
        )


def is_finished(path: Path) -> bool:
    """Whether the run in the folder went on to its results."""
    return (path / RESULTS_JSON).is_file()


def _is_run(path: Path) -> bool:
    """Whether the folder holds a run, of whatever version of this program; not somebody else's `config.json`."""
    try:
        value = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and {"experiment", "versions"} <= value.keys()


def read_config(path: Union[str, Path]) -> TrainConfig:
    """The configuration of the run in the folder.

    Raises:
      RunError: there is none, or it is malformed.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"no such directory: {path} (expected the folder of a training run)")
    if not (path / CONFIG_FILE).is_file():
        raise RunError(f"{path} is no run directory: {CONFIG_FILE} is missing")
    return read_description(path / CONFIG_FILE)


def read_description(path: Union[str, Path]) -> TrainConfig:
    """The configuration in a file such as a run's `config.json`.

    Raises:
      RunError: there is none, or it is malformed.
    """
    content = read_json(path, "a training run")
    try:
        return TrainConfig.from_json(content)
    except HgdError as error:
        raise RunError(f"{path}: {error}") from error


def _difference(found: TrainConfig, expected: TrainConfig) -> str:
    """The first flag that differs, with both values; empty where none does."""

    def flat(config):
        plain = config.to_json()
        return {**plain.pop("experiment"), **plain}

    old, new = flat(found), flat(expected)
    return next((f"{name} was {old[name]!r}, now {new[name]!r}" for name in new if old[name] != new[name]), "")
