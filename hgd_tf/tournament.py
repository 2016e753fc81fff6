"""Scores attacks against defences on this machine, by the rules of the NIPS 2017 competition, without Docker.

    python -m hgd_tf.tournament --attacks_dir=attacks --defenses_dir=DIR --images=DIR --table=dev_dataset.csv

Attacks and defences are directories as the competition has them: metadata.json (type, container, container_gpu,
entry_point) and a program, which runs in its own directory: an attack as ENTRY_POINT INPUT_DIR OUTPUT_DIR MAX_EPSILON,
a defence as ENTRY_POINT INPUT_DIR OUTPUT_FILE. There is no sandbox: run programs that you trust. Those that ask for
$PYTHON get this one, unless it is set.

Every attack gets the images of --images that --table has (columns ImageId, TrueLabel and TargetClass, labels in
1..1000), in batches; what it writes is clipped to --epsilon around them, of several radii to the one that is drawn for
the batch. Every defence then classifies what every attack wrote. A program is killed --time_limit seconds after its
start, and what it has written by then is scored. What crashes, times out, writes what is refused, or changes files that
are not its own is reported on a line.

In --output_dir stand the organizers' files (accuracy_on_attacks.csv, defense_ranking.csv, …), scores.csv, scores.json
and index.html afterwards. Stopped at any moment and started again with the same command, it does what is missing; an
entry whose directory has changed is run again. What an entry uses outside of its directory is not looked at: after
such a change, --rerun=all.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from absl import flags

from hgd_tf import cli
from hgd_tf.tournaments.jobs import NOTHING, RERUNS
from hgd_tf.tournaments.page import write_page
from hgd_tf.tournaments.reports import format_table, make_report, write_organizers_files, write_scores
from hgd_tf.tournaments.tournament import TournamentConfig, play

DEFAULTS = TournamentConfig._field_defaults

flags.declare_key_flag("checkpoint_dir")
flags.DEFINE_list("attacks_dir", None, "Folders with a directory an attack.", required=True)
flags.DEFINE_list("defenses_dir", None, "Folders with a directory a defence.", required=True)
flags.DEFINE_string("images", None, "Folder of PNG files, each named by its ImageId.", required=True)
flags.DEFINE_string("table", None, "The images' labels: a table as the competition's.", required=True)
flags.DEFINE_string("output_dir", "runs/tournament", "Folder of results.")
flags.DEFINE_list(
    "epsilon",
    list(map(str, DEFAULTS["epsilon"])),
    "Radius in pixel units; of several, such as the competition's 4,8,12,16, one is drawn for each batch.",
)
flags.DEFINE_integer("batch_size", DEFAULTS["batch_size"], "Images a program gets at a time.", 1)
flags.DEFINE_float("time_limit", DEFAULTS["time_limit"], "Seconds that a program has for a batch.", 0.1)
flags.DEFINE_integer("jobs", DEFAULTS["jobs"], "Programs that run at a time.", 1)
flags.DEFINE_list("attacks", [], "Names of the attacks that take part; default: all.")
flags.DEFINE_list("defenses", [], "Names of the defences that take part; default: all.")
flags.DEFINE_enum("rerun", NOTHING, RERUNS, "What is finished and yet to be run again; failed: crashes and time-outs.")
_ALL_CLASSIFICATION = flags.DEFINE_bool("all_classification", False, "Write a row for each label, too.")

for _name in ("attacks_dir", "defenses_dir"):
    flags.register_validator(_name, lambda folders: all(map(os.path.isdir, folders)), "expected folders that exist")
flags.register_validator(
    "epsilon",
    lambda words: words and all(word.isdecimal() and 1 <= int(word) <= 255 for word in words),
    "expected whole numbers of 1 to 255, such as 16 or 4,8,12,16",
)
flags.register_validator("images", os.path.isdir, "expected a folder that exists")
flags.register_validator("table", lambda table: Path(table).is_file(), "expected a file that exists")


def config_from_flags() -> TournamentConfig:
    """The tournament that the command line describes."""
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in TournamentConfig._fields}
    return TournamentConfig(**{**values, "epsilon": tuple(map(int, values["epsilon"]))})


def main(_) -> None:
    # Programs are in process groups of their own: nobody but this process ends them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = config_from_flags()
    folder = Path(config.output_dir)
    report = make_report(config, play(config))
    write_organizers_files(report, folder, _ALL_CLASSIFICATION.value)
    write_scores(report, folder)
    page = write_page(report, folder)
    print(f"\n{format_table(report)}\n")
    print(f"{len(report.problems)} problems; all figures, and the problems, are in {page}")


if __name__ == "__main__":
    cli.run(main)
