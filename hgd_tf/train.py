"""Trains a denoiser that guards a frozen classifier, and prints what it does to attacked images.

    python -m hgd_tf.train --flagfile=lgd.flags

What happens: training images are attacked as in Table 1 of the paper (FGSM on each member of an ensemble; FGSM and
iterative FGSM on the ensemble; epsilon 1 to 16). A denoiser is trained so that the target's response to the denoised
image is its response to the clean one. Then it is tested on images and networks that it has not seen, beside no
defence, image filters and an adversarially trained target.

Guidance (--guidance) says which response is compared:
  pixel                the image itself                  (the paper's PGD)
  feature              the topmost convolution's output  (FGD)
  logits               the logits                        (LGD)
  distillation         the class probabilities           (not in the paper: LGD's response, another distance)
  logits_distillation  logits and distillation, added    (LGD's response, both distances)
  label                the logits with the true class    (CGD)
or several, whose losses are added: --guidance=feature+logits.

Results: in --run_dir lie denoiser.keras (the best by validation loss), results.json and results.csv, log.csv,
config.json and tensorboard/. Stopped at any moment and started again with the same flags, a run goes on where it was.
Attacked images are kept in --sets_dir for other runs on the same networks and images.

Several targets: --targets=A,B trains a denoiser for each, one after the other, in --run_dir/NAME; the same command
again goes on with the first that is not finished. --run_dir/models.json then describes their ensemble, which
python -m hgd_tf.defend --defense= runs. nips.flags does so on the competition's attacks (--recipe=appendix_d), whose
networks --networks names.

Where it is used: --attack_sizes attacks images at several sides through each network's own resize, and --transports
saves a share of them as JPEG or WebP, resizes, crops or shifts them before the denoiser sees them
(hgd_tf/data/transports.py says how they are spelled). ImageNet networks are tested at 299 pixels and at their own side.

For certificates (python -m hgd_tf.certify): --craft=noise trains on Gaussian noise of --sigma, in [0, 1] units, anew in
each step, instead of attacks; with photographs, on crops of them (--crops).

New classes: --class_split trains on three quarters of the classes, and validates and tests on the others (Table 4).

A classifier of your own: --target=my_classifier.keras --feature_layer=NAME --input_range=0,1 --images=DIR
with --members and --holdout, which name other networks or Keras models of the same classes and input range. Whether
it gives logits or probabilities is seen in its answers, or --outputs says so. Layers of your own: --custom_objects
names the Python module that defines them. Code inside a file, as in Lambda layers, is run with --nosafe_mode alone.
"""

from __future__ import annotations

from absl import flags

from hgd_tf import cli
from hgd_tf.config_flags import define_flags, with_flags
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.study import train_and_test, train_each
from hgd_tf.targets import TARGETS
from hgd_tf.training import TrainConfig
from hgd_tf.training.run_directory import read_description

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
_SETS_DIR = flags.DEFINE_string("sets_dir", "runs/sets", "Folder where attacked images are kept.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Remove the run that stands in --run_dir.")
_CONFIG = flags.DEFINE_string(
    "config", None, "JSON file in the form of a run's config.json; flags beside it stand instead of its fields."
)
_TARGETS = flags.DEFINE_list("targets", [], "Instead of --target: names of several, with a run for each.")
define_flags(TrainConfig, without=("experiment",))
define_flags(ExperimentConfig, without=("custom_objects",))

flags.register_validator(
    "targets",
    lambda names: set(names) <= set(TARGETS) and len(set(names)) == len(names),
    f"expected some of {', '.join(TARGETS)}, each once",
)
flags.register_multi_flags_validator(
    ["target", "targets", "checkpoint", "feature_layer"],
    lambda values: (
        not values["targets"]
        or (flags.FLAGS["target"].using_default_value and not (values["checkpoint"] or values["feature_layer"]))
    ),
    "--targets stands instead of --target, --checkpoint and --feature_layer",
)


def config_from_flags() -> TrainConfig:
    """The run that the command line describes."""
    base = read_description(_CONFIG.value) if _CONFIG.value else TrainConfig(ExperimentConfig())
    return with_flags(base, experiment=with_flags(base.experiment))


def main(_) -> None:
    config, run_dir = config_from_flags(), _RUN_DIR.value
    if _TARGETS.value:
        models = train_each(config, _TARGETS.value, run_dir, _SETS_DIR.value, overwrite=_OVERWRITE.value)
        print(f"\nDenoisers, results and logs are in {run_dir}/NAME, the ensemble's description is {models}")
        return
    table = train_and_test(config, run_dir, _SETS_DIR.value, overwrite=_OVERWRITE.value)
    print("\n" + (table or "no table: there are no test images (--test_dir)"))
    print(f"\nDenoiser, results and logs are in {run_dir}")


if __name__ == "__main__":
    cli.run(main)
