"""Tests trained denoisers in one table.

    python -m hgd_tf.evaluate runs/pixel runs/fgd runs/lgd runs/cgd

The runs must be of the same target, attacked networks, images and seed. Beside them stand no defence, the median and
Gaussian filters and the adversarially trained target; a pixel guided run has its PGD x2 (appendix B) beside it. The
table is saved as results.csv and results.json.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from hgd_tf import cli
from hgd_tf.errors import RunError
from hgd_tf.evaluation import evaluate_runs

flags.declare_key_flag("checkpoint_dir")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the results; default: the one run's, or runs/comparison."
)
_SETS_DIR = flags.DEFINE_string("sets_dir", "runs/sets", "Folder where attacked images are kept.")


def main(run_dirs: Sequence[str]) -> None:
    if not run_dirs:
        raise RunError("expected the folder of at least one training run, received none")
    output_dir = _OUTPUT_DIR.value or (run_dirs[0] if len(run_dirs) == 1 else "runs/comparison")
    print(evaluate_runs(run_dirs, output_dir, _SETS_DIR.value))
    print(f"\nResults are in {output_dir}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
