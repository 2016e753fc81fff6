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
python -m hgd_tf.defend --models= runs. nips.flags does so on the competition's attacks (--recipe=appendix_d), whose
networks --networks names.

Where it is used: --attack_sizes attacks images at several sides through each network's own resize, and --transports
saves a share of them as JPEG or WebP, resizes, crops or shifts them before the denoiser sees them
(hgd_tf/data/transports.py says how they are spelled). ImageNet networks are tested at 299 pixels and at their own side.

New classes: --class_split trains on three quarters of the classes, and validates and tests on the others (Table 4).

A classifier of your own: --target=my_classifier.keras --feature_layer=NAME --input_range=0,1 --data_dir=images
with --members and --holdout, which name other networks or Keras models of the same classes and input range. Whether
it gives logits or probabilities is seen in its answers, or --outputs says so. Layers of your own: --custom_objects
names the Python module that defines them. Code inside a file, as in Lambda layers, is run with --nosafe_mode alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from absl import flags

from hgd_tf import cli
from hgd_tf.attacks import TRAINING_RECIPES
from hgd_tf.data.photographs import VARIETIES
from hgd_tf.denoisers import DENOISERS, PRECISIONS
from hgd_tf.errors import HgdError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.guidance.guidances import GUIDANCES, current_name, parse_guidance
from hgd_tf.networks_flag import networks_from_flags
from hgd_tf.strategy import STRATEGIES
from hgd_tf.study import train_and_test, train_each
from hgd_tf.targets import TARGETS
from hgd_tf.targets.answers import OUTPUTS
from hgd_tf.training import OPTIMIZERS, TrainConfig
from hgd_tf.tuple_flags import define_sizes, define_transports

DEFAULTS, EXPERIMENT_DEFAULTS = TrainConfig(ExperimentConfig()), ExperimentConfig()

for _shared in ("checkpoint_dir", "networks", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
_SETS_DIR = flags.DEFINE_string("sets_dir", "runs/sets", "Folder where attacked images are kept.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Remove the run that stands in --run_dir.")

flags.DEFINE_string(
    "guidance",
    DEFAULTS.guidance,
    f"What of the target's response is compared: {', '.join(GUIDANCES)}, or a sum: feature+logits.",
)
flags.DEFINE_enum("denoiser", DEFAULTS.denoiser, list(DENOISERS), "The denoising network.")
flags.DEFINE_float("width", DEFAULTS.width, "Factor on the denoiser's channels; 1 is the paper's.", 1 / 64)
flags.DEFINE_float("output_scale", DEFAULTS.output_scale, "Factor on the predicted noise; 2 is PGD x2.", 0.0)
flags.DEFINE_bool("zero_head", DEFAULTS.zero_head, "Start from the identity.")
flags.DEFINE_integer(
    "block_size", DEFAULTS.block_size, "Side of the patches of pixels that the denoiser folds into channels.", 1
)
flags.DEFINE_enum(
    "precision", DEFAULTS.precision, list(PRECISIONS), "Of training; bfloat16 wants a CPU or GPU that has it."
)
flags.DEFINE_string("init_from", None, "Folder of a defence, or name of one in the package, to start from.")
flags.DEFINE_bool(
    "frozen_statistics", DEFAULTS.frozen_statistics, "Keep batch normalization's statistics of --init_from."
)
flags.DEFINE_enum("recipe", DEFAULTS.recipe, list(TRAINING_RECIPES), "The attacks of training.")
flags.DEFINE_enum("craft", DEFAULTS.craft, ("stored", "online"), "Attack before training, or while it goes on.")
flags.DEFINE_enum(
    "crops",
    DEFAULTS.crops,
    list(VARIETIES),
    "What --craft=online attacks: crops of photographs, or varied ones, smaller, some composed of two, in other light.",
)
define_sizes(
    "attack_sizes", "Sides in pixels at which images are attacked, drawn at random; default: the target's own."
)
define_transports(
    "transports",
    DEFAULTS.transports,
    "What may happen to attacked images before the denoiser sees them: some of none, jpeg, webp, resize, crop, shift, "
    "jpeg:60-98, resize:0.8+jpeg:75, …; one is drawn for each.",
)
flags.DEFINE_float(
    "transported_share",
    DEFAULTS.transported_share,
    "Of the attacked images, to which one of --transports happens.",
    0.0,
    1.0,
)
flags.DEFINE_integer("reuse", DEFAULTS.reuse, "How often a pair crafted online is drawn, on average.", 1)
flags.DEFINE_integer("train_images", None, "Clean images to attack for training; default: all.", 1)
flags.DEFINE_integer("validation_images", None, "Clean images to attack for validation; default: all.", 1)
flags.DEFINE_integer("batch_size", DEFAULTS.batch_size, "Pairs of images a step, over all devices.", 1)
flags.DEFINE_enum("optimizer", DEFAULTS.optimizer, list(OPTIMIZERS), "Adam, or Muon for the convolutions' kernels.")
flags.DEFINE_float("learning_rate", DEFAULTS.learning_rate, "The optimizer's, at its highest.", 0.0)
flags.DEFINE_enum("schedule", DEFAULTS.schedule, ("plateau", "cosine"), "Of the learning rate.")
flags.DEFINE_integer("warmup_steps", DEFAULTS.warmup_steps, "Steps in which the cosine's rate rises.", 0)
flags.DEFINE_float("ema", DEFAULTS.ema, "Momentum of the averaged weights that are kept; 0: the last ones.", 0.0, 1.0)
flags.DEFINE_integer("epochs", DEFAULTS.epochs, "Train at most so many.", 1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps between validations; default: a pass over all pairs.", 1)
flags.DEFINE_integer("patience", DEFAULTS.patience, "Epochs without gain before the rate drops to a tenth.", 0)
flags.DEFINE_integer("stop_patience", DEFAULTS.stop_patience, "Epochs without gain before training stops.", 0)
flags.DEFINE_enum("strategy", DEFAULTS.strategy, STRATEGIES, "One device, or a replica on each; auto: all GPUs.")

flags.DEFINE_string(
    "target", EXPERIMENT_DEFAULTS.target, "The classifier: a name (python -m hgd_tf.targets) or a Keras model's path."
)
_TARGETS = flags.DEFINE_list("targets", [], "Instead of --target: names of several, with a run for each.")
flags.DEFINE_string("checkpoint", None, "Weights of a named target, instead of those in the package.")
flags.DEFINE_integer("image_size", None, "Side of the target's input; default: its native one.", 1)
flags.DEFINE_string("feature_layer", None, "Of a Keras model: the layer whose output guides.")
flags.DEFINE_list("input_range", ["0", "255"], "Of a Keras model: the values it takes for black and white.")
flags.DEFINE_enum(
    "outputs", EXPERIMENT_DEFAULTS.outputs, OUTPUTS, "Of a Keras model: what it gives; auto: as its answers show."
)
flags.DEFINE_list("members", list(EXPERIMENT_DEFAULTS.members), "Attacked: NAME or NAME@SIDE; `target` is the target.")
flags.DEFINE_string("holdout", EXPERIMENT_DEFAULTS.holdout, "The network of the black-box test sets.")
flags.DEFINE_string(
    "ens_target", EXPERIMENT_DEFAULTS.ens_target, "Adversarially trained network to compare with; empty: none."
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Images: a folder with train/CLASS/FILE, validation/…, test/…, or with "
    "Fashion-MNIST's four files; default: the subset in the package.",
)
flags.DEFINE_string("photographs", None, "Instead of --data_dir: a folder of image files, or of one folder a class.")
flags.DEFINE_string("labels", None, "CSV with the columns file and label, of --photographs and --test_dir.")
flags.DEFINE_string("test_dir", None, "Images of known class to test on, beside --photographs.")
flags.DEFINE_bool(
    "class_split", EXPERIMENT_DEFAULTS.class_split, "Train on three quarters of the classes, test on the others."
)
define_sizes(
    "test_sizes", "Sides in pixels at which to test; default: of ImageNet networks 299 and their own, else their own."
)
define_transports(
    "test_transports",
    EXPERIMENT_DEFAULTS.test_transports,
    "What happens to the test images before the defence sees them, each a table of its own.",
)
flags.DEFINE_integer("test_images", None, "Images to test on; default: all.", 1)
flags.DEFINE_integer("adaptive_images", EXPERIMENT_DEFAULTS.adaptive_images, "Images for the adaptive attack.", 1)
flags.DEFINE_integer("seed", EXPERIMENT_DEFAULTS.seed, "Of every random draw.", 0)


def _is_range(values: Sequence[str]) -> bool:
    try:
        low, high = map(float, values)
    except ValueError:
        return False
    return low < high


def _is_guidance(text: str) -> bool:
    try:
        return bool(parse_guidance(text))
    except HgdError as error:
        raise flags.ValidationError(str(error)) from None


flags.register_validator("input_range", _is_range, "expected two increasing numbers, such as 0,1")
flags.register_validator("guidance", _is_guidance)
flags.register_validator("test_transports", bool, "expected at least one, such as none")
flags.register_validator("members", bool, "expected at least one network")
for _name in ("width", "learning_rate", "output_scale"):
    flags.register_validator(_name, lambda value: 0 < value < math.inf, "expected a positive number")
flags.register_validator("ema", lambda momentum: momentum < 1, "expected less than 1, at which no step would count")
flags.register_multi_flags_validator(
    ["frozen_statistics", "init_from"],
    lambda values: values["init_from"] is not None or not values["frozen_statistics"],
    "--frozen_statistics keeps those of --init_from",
)
flags.register_multi_flags_validator(
    ["photographs", "data_dir"],
    lambda values: None in values.values(),
    "--photographs stands instead of --data_dir",
)
flags.register_multi_flags_validator(
    ["photographs", "labels", "test_dir"],
    lambda values: values["photographs"] is not None or values["labels"] is values["test_dir"] is None,
    "--labels and --test_dir go with --photographs",
)
flags.register_multi_flags_validator(
    ["photographs", "craft"],
    lambda values: values["photographs"] is not None or values["craft"] == "stored",
    "--craft=online takes crops of --photographs",
)
flags.register_multi_flags_validator(
    ["crops", "craft"],
    lambda values: values["crops"] == DEFAULTS.crops or values["craft"] == "online",
    "--crops goes with --craft=online",
)
flags.register_multi_flags_validator(
    ["target", "targets", "feature_layer"],
    lambda values: values["feature_layer"] is None or not (values["targets"] or values["target"] in TARGETS),
    "--feature_layer goes with a Keras model's path as --target",
)
flags.register_validator(
    "targets",
    lambda names: set(names) <= set(TARGETS) and len(set(names)) == len(names),
    f"expected some of {', '.join(TARGETS)}, each once",
)
flags.register_multi_flags_validator(
    ["target", "targets", "checkpoint"],
    lambda values: not values["targets"] or (flags.FLAGS["target"].using_default_value and not values["checkpoint"]),
    "--targets stands instead of --target and --checkpoint",
)


def config_from_flags() -> TrainConfig:
    """The run that the command line describes."""

    def from_flags(kind, **other):
        names = {field.name for field in dataclasses.fields(kind)} - set(other)
        return kind(**{name: flags.FLAGS[name].value for name in names}, **other)

    low, high = map(float, flags.FLAGS.input_range)
    experiment = from_flags(
        ExperimentConfig,
        input_range=(low, high),
        members=tuple(flags.FLAGS.members),
        networks=networks_from_flags(),
        ens_target=flags.FLAGS.ens_target or None,
    )
    return from_flags(TrainConfig, experiment=experiment, guidance=current_name(flags.FLAGS.guidance))


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
