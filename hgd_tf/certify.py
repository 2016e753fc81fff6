"""Certifies defences: classes that hold against any change of an image within an L2 radius, with high probability.

    python -m hgd_tf.certify runs/logits_noise none --sigma=0.25
    python -m hgd_tf.certify efficientnet_lite0_lgd --sigma=0.25 --test_dir=DIR --labels=TABLE.csv --skip=20

Randomized smoothing (Cohen et al. 2019): the class that a defence gives most often under Gaussian noise of standard
deviation --sigma, and the radius within which it stays so. --sigma and radii are in [0, 1] units, as in the literature;
elsewhere in this package ε is in pixels, of [0, 255]. Noise is added to images at their own size (--side), before any
resize, and is not clipped. A denoiser is trained for it with train --craft=noise --sigma=0.25.

A defence is a run's folder, a defence that comes with the package or the file of a line-up; the name of a classifier
(python -m hgd_tf.targets) is that one undefended, and none the first defence's. The images are the test images of the
first one's run, or with --test_dir your own, as in python -m hgd_tf.evaluate.

In --output_dir, each has a table NAME.tsv in the format of Cohen et al.: idx, label, predict (-1: it abstains), radius,
correct, time, a row an image as soon as it is certified; the same command goes on where this one stopped.
certified.json holds the certified accuracies that are printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from absl import flags

from hgd_tf import cli
from hgd_tf.config_flags import define_flag
from hgd_tf.data import LabeledImages
from hgd_tf.defenses.saving import SHIPPED, defense_directory
from hgd_tf.errors import RunError
from hgd_tf.evaluation.certificates import NONE, evaluate_certified, load_certified
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.experiment.config import LEAST_SIDE
from hgd_tf.experiment.loading import load_images
from hgd_tf.foundation.description import POSITIVE, Rule, Setting, at_least, settings
from hgd_tf.targets import Target
from hgd_tf.training.run_directory import CONFIG_FILE, read_config

A_PROBABILITY = Rule("between 0 and 1", lambda alpha: 0 < alpha < 1)

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_SIGMA = define_flag(Setting("sigma", Optional[float], None, "Of the noise, in [0, 1] units.", POSITIVE))
flags.mark_flag_as_required("sigma")
_NUMBERS = [
    define_flag(Setting(name, kind, default, meaning, rule))
    for name, kind, default, meaning, rule in (
        ("n0", int, 100, "Draws that choose the class.", at_least(1)),
        ("n", int, 10_000, "Draws that certify it.", at_least(1)),
        ("alpha", float, 0.001, "Probability with which a certificate may be wrong.", A_PROBABILITY),
        ("skip", int, 1, "Every so many-th image is certified.", at_least(1)),
        ("max_images", Optional[int], None, "Of these, the first so many; default: all.", at_least(1)),
        ("batch_size", Optional[int], None, "Noisy images at a time; default: as memory allows.", at_least(1)),
        ("seed", int, 0, "Of the draws, each image's own.", at_least(0)),
    )
]
_SIDE = define_flag(
    Setting("side", Optional[int], None, "Of the images in pixels; default: the first one's own.", at_least(LEAST_SIDE))
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of results; default: runs/certified/sigma_SIGMA.")
_FIELDS = [define_flag(settings(ExperimentConfig)[name]) for name in ("test_dir", "labels")]

flags.register_multi_flags_validator(
    ["labels", "test_dir"],
    lambda values: values["test_dir"] is not None or values["labels"] is None,
    "--labels goes with --test_dir",
)


def _test_images(source: str, target: Target) -> LabeledImages:
    """Of the run that the first defence is of, if it is of one; or the user's own."""
    run = defense_directory(source)
    config = read_config(run).experiment if (run / CONFIG_FILE).is_file() else ExperimentConfig()
    test_dir, labels = (flag.value for flag in _FIELDS)
    if test_dir is not None:
        config = config.changed({"test_dir": test_dir, "labels": labels})
    elif run.parent == SHIPPED and config.images is not None:
        raise RunError(f"{run.name} comes without the images of its training: expected --test_dir=DIR of yours")
    return load_images(config, target, _SIDE.value).test.head(config.test_images)


def main(names: Sequence[str]) -> None:
    defenses = load_certified(names)
    first = next(name for name in names if name != NONE)
    images = _test_images(first, defenses[first].flows[0].targets[0])
    output_dir = _OUTPUT_DIR.value or f"runs/certified/sigma_{_SIGMA.value:g}"
    numbers = {flag.name: flag.value for flag in _NUMBERS}
    print(evaluate_certified(defenses, images, output_dir, _SIGMA.value, **numbers).table())
    print(f"\nResults are in {output_dir}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
