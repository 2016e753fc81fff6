"""Crafts sets of attacked images, on one machine or on many.

    python -m hgd_tf.craft --recipe=white_eps4,black_eps4 --output_dir=runs/crafted
    python -m hgd_tf.craft --flagfile=lite.flags --recipe=train_set --images=DIR --output_dir=runs/crafted
    python -m hgd_tf.craft --verify --output_dir=runs/crafted/train_set
    python -m hgd_tf.craft --write_attack_dirs

A recipe (--recipe) is a list of attacks, each on a network or an ensemble: Table 1 of the paper (train_set,
validation_set, white_eps4, white_eps16, black_eps4, black_eps16), the same with three quarters of the classes in
training (seen_classes_…, unseen_classes_…; Table 4), with clean and noisy images (train_mix), and the competition's
(appendix_d, with epsilon 16, and appendix_d_every_epsilon, 1 to 16). mini.flags, lite.flags and slim.flags say who
plays the paper's networks.

Images (--images) are a folder, with a folder a class in it, or with --labels=TABLE.csv (columns file and label, or the
NIPS 2017 competition's), or of unknown classes; a table alone; samples, the package's photographs, or sample:NAME, one
of them; embedded:train, embedded:validation, embedded:test; or tfds:NAME:SPLIT, which the extra `tfds` reads. Class
folders are named by numbers (0-based) or by ImageNet's WordNet identifiers; others are read by position, which is said.

In --output_dir stands a folder a recipe afterwards: shards (TFRecord, or PNG files with --format=png), plan.json, and
manifest.json, which is written last. Stopped at any moment and started again with the same command, it does the
missing shards, and the result is the same, byte for byte. Files that are no images are named and left out.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import tensorflow as tf
from absl import flags

from hgd_tf import cli
from hgd_tf.attacks.recipes import RECIPES
from hgd_tf.competition.attack_directories import write_attack_directories
from hgd_tf.config_flags import define_flags, with_flags
from hgd_tf.crafting import craft_set
from hgd_tf.crafting.job import CraftConfig, load_plan
from hgd_tf.crafting.shards import FORMATS
from hgd_tf.crafting.verify import format_summary, summarize, verify_set

RUNNERS = ("local", "beam")
ATTACKS_DIR = "attacks"

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_RECIPES = flags.DEFINE_list("recipe", [], f"What to craft: one or several of {', '.join(RECIPES)}.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the sets.")
_FORMAT = flags.DEFINE_enum("format", "tfrecord", list(FORMATS), "Of the shards.")
_RUNNER = flags.DEFINE_enum("runner", "local", RUNNERS, "Where: in this process, or on Apache Beam.")
_BEAM_OPTIONS = flags.DEFINE_multi_string("beam_option", [], "An option of Beam's own, such as --direct_num_workers=2.")
_THREADS = flags.DEFINE_integer("threads", None, "Threads an operation; default: all cores.", 1)
_VERIFY = flags.DEFINE_bool("verify", False, "Read the set in --output_dir again, and check it.")
_WRITE_ATTACK_DIRS = flags.DEFINE_bool(
    "write_attack_dirs", False, f"Write the competition's attack directories to --output_dir; default: {ATTACKS_DIR}."
)

define_flags(CraftConfig, without=("recipe", "custom_objects"))

flags.register_validator("recipe", lambda names: set(names) <= set(RECIPES), f"expected some of {', '.join(RECIPES)}")
flags.register_multi_flags_validator(
    ["recipe", "verify", "write_attack_dirs"],
    lambda values: sum(map(bool, values.values())) == 1,
    "expected one of --recipe=NAME, --verify and --write_attack_dirs",
)
flags.register_multi_flags_validator(
    ["output_dir", "write_attack_dirs"],
    lambda values: values["output_dir"] or values["write_attack_dirs"],
    "expected --output_dir=DIR",
)


def config_from_flags(recipe: str) -> CraftConfig:
    """The set that the command line describes."""
    return with_flags(CraftConfig(), recipe=recipe)


def craft(recipe: str, folder: Path) -> None:
    """Crafts one set and prints what its attacks do."""
    config = config_from_flags(recipe)
    craft_shards = None
    if _RUNNER.value == "beam":
        logging.getLogger().setLevel(logging.ERROR)  # before the import, which warns of what is not installed
        from hgd_tf.crafting.beam import on_beam

        craft_shards = on_beam(config, _BEAM_OPTIONS.value)
    start = time.perf_counter()
    manifest = craft_set(load_plan(config), folder, _FORMAT.value, craft_shards)
    for name in manifest["left_out"]:
        print(f"left out, no image: {name}")
    attacked = manifest["images"] * len(manifest["attacks"])
    print(f"\n{format_summary(summarize(folder))}")
    print(f"{folder}: {manifest['images']} images, {attacked} attacked, {time.perf_counter() - start:.0f} s\n")


def verify(folder: Path) -> None:
    """Checks one set and prints what its attacks do."""
    count = verify_set(folder)
    print(f"\n{format_summary(summarize(folder))}")
    print(f"{folder}: {count} images, all as they were written")


def main(_) -> None:
    folder = Path(_OUTPUT_DIR.value or ATTACKS_DIR)
    if _WRITE_ATTACK_DIRS.value:
        for path in write_attack_directories(folder):
            print(path)
        return
    if _VERIFY.value:
        verify(folder)
        return
    if _THREADS.value:
        tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    for recipe in _RECIPES.value:
        craft(recipe, folder / recipe)


if __name__ == "__main__":
    cli.run(main)
