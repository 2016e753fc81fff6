"""A table described in a file: on which networks its images are attacked, and the ensemble of each row (Appendix C).

    {
      "experiment": {"target": "efficientnet_lite0", "image_size": 224, "members": ["target", "efficientnet_lite1"],
                     "holdout": "efficientnet_lite2"},
      "denoisers": {"LGD0": {"defense": "efficientnet_lite0_lgd"}, "median": {"filter": "median"}},
      "targets": {"Lite0": {"name": "efficientnet_lite0", "image_size": 224}, "Lite1": {"name": "efficientnet_lite1"}},
      "rows": {"none": ["Lite0"], "LGD": ["LGD0->Lite0"], "average": ["LGD0->Lite0", "LGD0->Lite1"]}
    }

`experiment` holds fields of `ExperimentConfig`; the others keep their defaults, but there is no `ens_target`. The
images are its own, or the command's. Denoisers, targets and flows are as in hgd_tf/defenses/line_up.py: each row is a
line-up, and rows share the parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Union

from hgd_tf.data import are_photographs
from hgd_tf.defenses.ensemble import Classifier, Ensemble
from hgd_tf.defenses.line_up import LineUp, described_parts, load_parts, located
from hgd_tf.errors import HgdError, RunError, TargetError
from hgd_tf.evaluation.compare import Measure, compare_and_save
from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, load_experiment
from hgd_tf.foundation.description import read, read_sections
from hgd_tf.targets import TARGETS

SECTIONS = {"experiment": dict, "denoisers": dict, "targets": dict, "rows": dict}
FOLDERS = ("images", "labels", "test_dir")
EMBEDDED_CHANNELS = 1  # of Fashion-MNIST's subset


class DescribedTable(NamedTuple):
    """A described table, nothing of which is loaded yet.

    Attributes:
      experiment: the networks, images and seed of the attacked images.
      rows: by their names, line-ups of the same parts.
    """

    path: Path
    experiment: ExperimentConfig
    rows: dict[str, LineUp]

    def load_rows(self) -> dict[str, Ensemble]:
        """The rows' ensembles, by name; what several rows use is loaded once.

        Raises:
          RunError: files are missing or damaged, the message names every one; or parts of a row do not fit together.
        """
        parts = load_parts(list(self.rows.values()))
        ensembles = {}
        for name, row in self.rows.items():
            try:
                ensembles[name] = row.through(parts)
            except TargetError as error:
                raise RunError(f"{self.path}: row {name!r}: {error}") from error
        return ensembles


def read_table(path: Union[str, Path]) -> DescribedTable:
    """Reads a table's description; see the head of this file.

    Raises:
      RunError: the file is missing or malformed, or a flow names what it does not describe.
    """
    path = Path(path)
    content = read_sections(path, SECTIONS, "a table")
    if not content["rows"]:
        raise RunError(f"{path}: expected at least one row, such as 'none': ['X'], received none")
    parts = described_parts(path, content)
    rows = {name: parts.with_flows(flows, f"row {name!r}: ") for name, flows in content["rows"].items()}
    return DescribedTable(path, _experiment(path, content["experiment"]), rows)


def evaluate_table(
    path: Union[str, Path],
    output_dir: Union[str, Path],
    sets_dir: Union[str, Path],
    changes: Mapping[str, Any] = MappingProxyType({}),
    measure: Measure = compare_and_save,
) -> str:
    """Evaluates the rows that a file describes (the paper's Tables 5 and 9); saves the results and returns the table.

    Args:
      changes: fields of `ExperimentConfig` that replace the file's, as in its `changed`.
      measure: as of `evaluate_runs`.

    Raises:
      RunError: the file is missing or malformed, parts of it are, a row does not fit the images, or there are none.
      TargetError, DataError: networks or images of the experiment do not load, or do not fit each other.
    """
    described = read_table(path)
    config = described.experiment.changed(changes)
    if not _has_test_images(config):
        raise RunError(f"{path}: expected `test_dir=DIR`, or test_dir in experiment: images for {config.target}")
    ensembles = described.load_rows()
    experiment = load_experiment(config, sets_dir)
    for name, ensemble in ensembles.items():
        check_fit(f"{path}: row {name!r}", ensemble, experiment)
    return measure(ensembles, experiment, config, Path(output_dir))


def _has_test_images(config: ExperimentConfig) -> bool:
    """Photographs alone are there to train on; the embedded images are for targets of their channels."""
    if config.test_dir is not None or are_photographs(config.images):
        return config.test_dir is not None
    spec = TARGETS.get(config.target)
    return config.images is not None or spec is None or spec.channels == EMBEDDED_CHANNELS


def check_fit(row: str, classifier: Classifier, experiment: Experiment) -> None:
    """Raises a RunError that begins with `row` where the experiment's images are not of its channels and classes."""
    splits, channels = experiment.splits, experiment.splits.test.images.shape[-1]
    if classifier.channels != channels or classifier.classes < splits.classes:
        raise RunError(
            f"{row}: expected targets of {channels} channels and at least {splits.classes} classes, as the images of "
            f"{splits.name} have, received {classifier.channels} channels and {classifier.classes} classes"
        )


def _experiment(path: Path, fields: dict[str, Any]) -> ExperimentConfig:
    try:
        config = read(ExperimentConfig, {"ens_target": None, **fields})
    except HgdError as error:
        raise RunError(f"{path}: experiment: {error}") from error
    beside = {name: path.parent / value for name in FOLDERS if (value := getattr(config, name)) is not None}
    places = {name: str(place) for name, place in beside.items() if place.exists()}
    if config.checkpoint is not None:
        places["checkpoint"] = located(path, config.checkpoint)
    return dataclasses.replace(config, **places)
