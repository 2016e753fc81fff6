"""Tests trained denoisers in one table.

    python -m hgd_tf.evaluate runs/pixel runs/fgd runs/lgd runs/cgd
    python -m hgd_tf.evaluate mini_inception_lgd
    python -m hgd_tf.evaluate efficientnet_lite0_lgd submission/models.json --test_dir=DIR --labels=TABLE.csv

The runs, or defences that come with the package, must be of the same target, attacked networks, images and seed. Beside
them stand no defence, the median and Gaussian filters and the adversarially trained target; a pixel guided run has its
PGD x2 (appendix B) beside it. The file of a line-up (hgd_tf/defenses/line_up.py) beside a run is one more row. The
table is saved as results.csv and results.json.

With --test_dir, images of your own are the test images of runs that were trained on photographs: a folder a class,
files that --labels classifies, that table alone, samples (twelve photographs of the package), or tfds:NAME:SPLIT.

    python -m hgd_tf.evaluate --table=FILE.json --test_dir=DIR --labels=TABLE.csv

Instead of runs, a file says what the rows are, each an ensemble in the paper's signs (Appendix C), such as
["LGD0->Lite0", "LGD0->Lite1"], and on which networks the images are attacked (hgd_tf/evaluation/described_table.py says
how). So are denoisers tested before targets that they were not trained for (Table 5) and in combinations (Table 9).

--test_sizes says at which sides images are attacked, --transport what happens to them before the defence sees them (of
none, jpeg:75, webp:80, resize:0.5:nearest, crop:0.12, shift:1, resize:0.8+jpeg:75, …): each has a part of the table of
its own, and keys such as white_eps4@299+jpeg:75 in the files. Without these flags, all is as runs or table have it.

With --threat_models=NAME,… (oblivious, transfer, pgd, athalye_carlini, apgd, square, worst; each at every radius of
--epsilons), or a JSON file of them (hgd_tf/evaluation/threat_models.py), these attackers make the columns: an image is
held only if every attack of a column fails on it. Above the table stands whether the attacks can be believed. The
first --adaptive_images are attacked, at the first of --test_sizes, on floats unless the file says `rounding`.

    python -m hgd_tf.evaluate efficientnet_lite0_lgd --attacked_dirs=DIR,DIR --labels=TABLE.csv --clean_dir=DIR

Images that others attacked: folders of files, whose classes a table says (columns filename, label and perhaps
targeted_label, or the competition's; from 0 or from 1, which is told). The results are attacked.json and a table of
answers a folder and defence.

Every row has its cost beside it, in 10⁹ float operations an image. Interrupted, the same command goes on with the
attack that it was at.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from hgd_tf import cli
from hgd_tf.config_flags import define_flag
from hgd_tf.errors import RunError
from hgd_tf.evaluation import evaluate_table
from hgd_tf.evaluation.attack_table import attack_and_save
from hgd_tf.evaluation.attacked_folders import evaluate_attacked
from hgd_tf.evaluation.compare import compare_and_save
from hgd_tf.evaluation.threat_models import PRESETS, read_threat_models
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.foundation.description import Rule, Setting, settings
from hgd_tf.study import evaluate_runs

COMPARISON = "runs/comparison"
ARE_RADII = Rule("at least one, each more than 0", lambda radii: radii and min(radii) > 0)
ATTACKED = "runs/attacked"

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the results; default: the one run's, else runs/comparison; of a table, a folder in it; of "
    "--attacked_dirs, runs/attacked.",
)
_TABLE = flags.DEFINE_string("table", None, "JSON file that describes the rows, instead of runs.")
_SETS_DIR = flags.DEFINE_string("sets_dir", "runs/sets", "Folder where attacked images are kept.")
_ATTACKED_DIRS = flags.DEFINE_list("attacked_dirs", [], "Folders of images that others attacked, to test on instead.")
_CLEAN_DIR = flags.DEFINE_string("clean_dir", None, "Folder of those images before the attack, of the same names.")
_FIELDS = {
    name: define_flag(settings(ExperimentConfig)[name]._replace(default=None))
    for name in ("test_dir", "labels", "test_sizes", "test_transports", "adaptive_images")
}
flags.DEFINE_alias("transport", "test_transports")
_THREAT_MODELS = flags.DEFINE_list("threat_models", [], f"Of {', '.join(PRESETS)}; or one FILE.json.")
_EPSILONS = define_flag(
    Setting("epsilons", tuple[float, ...], (4.0, 16.0), "Radii in pixel units of named threat models.", ARE_RADII)
)

flags.register_multi_flags_validator(
    ["labels", "test_dir", "attacked_dirs"],
    lambda values: values["test_dir"] is not None or values["labels"] is None or values["attacked_dirs"],
    "--labels goes with --test_dir or --attacked_dirs",
)
flags.register_multi_flags_validator(
    ["attacked_dirs", "labels"],
    lambda values: values["labels"] or not values["attacked_dirs"],
    "--attacked_dirs needs --labels=TABLE.csv, the classes of its images",
)
flags.register_multi_flags_validator(
    ["attacked_dirs", "clean_dir"],
    lambda values: values["attacked_dirs"] or not values["clean_dir"],
    "--clean_dir goes with --attacked_dirs",
)
for _other in ("table", "threat_models", "test_dir", "test_sizes", "test_transports", "adaptive_images"):
    flags.register_multi_flags_validator(
        ["attacked_dirs", _other],
        lambda values: not all(values.values()),
        f"--attacked_dirs are tested as they are: expected no --{_other} beside them",
    )


def _changes() -> dict[str, Any]:
    changes = {name: flag.value for name, flag in _FIELDS.items() if flag.value}
    return {"labels": None, **changes} if "test_dir" in changes else changes


def _default_output_dir(runs: Sequence[str], changed: Collection[str]) -> str:
    if _TABLE.value is not None:
        return str(Path(COMPARISON) / Path(_TABLE.value).stem)
    # Nothing is written into a shipped defence, and a run's own results are of its own images and settings.
    is_of_one_run = len(runs) == 1 and Path(runs[0]).is_dir()
    is_as_run = not {"test_dir", "test_sizes", "test_transports"}.intersection(changed)
    return runs[0] if is_of_one_run and is_as_run else COMPARISON


def main(runs: Sequence[str]) -> None:
    if runs and _TABLE.value is not None:
        raise RunError(f"--table={_TABLE.value} describes every row: expected no runs beside it, received {runs[0]}")
    if _ATTACKED_DIRS.value:
        _evaluate_attacked(runs)
        return
    if not runs and _TABLE.value is None:
        raise RunError("expected the folder of at least one training run, received none")
    changes = _changes()
    measure = compare_and_save
    if _THREAT_MODELS.value:
        threat_models = read_threat_models(_THREAT_MODELS.value, _EPSILONS.value)
        measure = functools.partial(attack_and_save, threat_models=threat_models)
    output_dir = _OUTPUT_DIR.value or _default_output_dir(runs, changes)
    if _TABLE.value is not None:
        print(evaluate_table(_TABLE.value, output_dir, _SETS_DIR.value, changes, measure))
    else:
        print(evaluate_runs(runs, output_dir, _SETS_DIR.value, changes, measure))
    print(f"\nResults are in {output_dir}")


def _evaluate_attacked(defenses: Sequence[str]) -> None:
    output_dir = _OUTPUT_DIR.value or ATTACKED
    labels = _FIELDS["labels"].value
    print(evaluate_attacked(defenses, _ATTACKED_DIRS.value, labels, _CLEAN_DIR.value or None, output_dir).table())
    print(f"\nResults are in {output_dir}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
