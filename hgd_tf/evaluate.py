"""Tests trained denoisers in one table.

    python -m hgd_tf.evaluate runs/pixel runs/fgd runs/lgd runs/cgd
    python -m hgd_tf.evaluate efficientnet_lite0_lgd --test_dir=DIR --labels=TABLE.csv

The runs, or defences that come with the package, must be of the same target, attacked networks, images and seed. Beside
them stand no defence, the median and Gaussian filters and the adversarially trained target; a pixel guided run has its
PGD x2 (appendix B) beside it. The table is saved as results.csv and results.json.

With --test_dir, images of your own are the test images of runs that were trained on --photographs: a folder a class, or
files that --labels classifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from hgd_tf import cli
from hgd_tf.errors import RunError
from hgd_tf.evaluation import evaluate_runs

flags.declare_key_flag("checkpoint_dir")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the results; default: the one run's, or runs/comparison."
)
_SETS_DIR = flags.DEFINE_string("sets_dir", "runs/sets", "Folder where attacked images are kept.")
_TEST_DIR = flags.DEFINE_string("test_dir", None, "Images of known class, instead of the runs' own test images.")
_LABELS = flags.DEFINE_string("labels", None, "CSV with the columns file and label, of --test_dir.")
_ADAPTIVE_IMAGES = flags.DEFINE_integer("adaptive_images", None, "Images for the adaptive attack; default: as run.", 1)

flags.register_multi_flags_validator(
    ["labels", "test_dir"],
    lambda values: values["test_dir"] is not None or values["labels"] is None,
    "--labels goes with --test_dir",
)


def _changes() -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if _TEST_DIR.value:
        changes.update(test_dir=_TEST_DIR.value, labels=_LABELS.value, photographs=None, data_dir=None)
    if _ADAPTIVE_IMAGES.value:
        changes["adaptive_images"] = _ADAPTIVE_IMAGES.value
    return changes


def main(runs: Sequence[str]) -> None:
    if not runs:
        raise RunError("expected the folder of at least one training run, received none")
    in_place = len(runs) == 1 and not _TEST_DIR.value
    output_dir = _OUTPUT_DIR.value or (runs[0] if in_place else "runs/comparison")
    print(evaluate_runs(runs, output_dir, _SETS_DIR.value, _changes()))
    print(f"\nResults are in {output_dir}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
