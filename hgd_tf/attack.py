"""Attacks a folder of PNG files, as the directories in attacks/ do it.

    python -m hgd_tf.attack --method=ifgsm10 --models=efficientnet_lite0,efficientnet_lite1 \\
        --images=images --output_dir=attacked --max_epsilon=16

Every image of --images (samples: the package's photographs), of any size, is attacked and written under its name to
--output_dir. No pixel moves by more than --max_epsilon. A file that is no image is named and skipped. Several models
are attacked together, on their mean logits.

Which class is followed (--label): away from the one that the models see (predicted); or towards the one that they find
least likely (least_likely), a random one (random), or the one that --images/target_class.csv gives, a line
NAME.png,LABEL each with LABEL in 1..1000 (given).
"""

from __future__ import annotations

import sys

from absl import flags

from hgd_tf import cli
from hgd_tf.attacks import METHODS, SignGradientAttack
from hgd_tf.attacks.roles import Cast, load_attacked
from hgd_tf.attacks.sign_gradient import LABELS
from hgd_tf.competition.attack_folder import attack_folder
from hgd_tf.config_flags import define_flag
from hgd_tf.data.sample_images import images_path
from hgd_tf.errors import DataError
from hgd_tf.foundation.description import settings

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_METHOD = flags.DEFINE_enum("method", "ifgsm10", list(METHODS), "What is done.")
_MODELS = flags.DEFINE_list("models", [], "Attacked: NAME or NAME@SIDE (python -m hgd_tf.targets) or Keras models.")
_LABEL = flags.DEFINE_enum(
    "label", "predicted", [label for label in LABELS if label != "true"], "Whose class is followed."
)
_IMAGES = flags.DEFINE_string("images", None, "Folder of PNG files.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the attacked ones.", required=True)
_MAX_EPSILON = flags.DEFINE_integer("max_epsilon", None, "Radius in pixel units.", 0, 255, required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 20, "Images computed at a time.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of random draws.", 0)
_INPUT_RANGE, _OUTPUTS = (define_flag(settings(Cast)[name]) for name in ("input_range", "outputs"))

flags.register_multi_flags_validator(
    ["method", "models"],
    lambda values: values["models"] or not any(schedule.steps for schedule in METHODS[values["method"]]),
    "expected --models=NAME,…, the networks to attack",
)


def main(_) -> None:
    models = [load_attacked(name, input_range=_INPUT_RANGE.value, outputs=_OUTPUTS.value) for name in _MODELS.value]
    outcome = attack_folder(
        SignGradientAttack(models, _LABEL.value),
        METHODS[_METHOD.value],
        images_path(_IMAGES.value),
        _OUTPUT_DIR.value,
        _MAX_EPSILON.value,
        channels=models[0].channels if models else 3,
        batch_size=_BATCH_SIZE.value,
        seed=_SEED.value,
    )
    for reason in outcome.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not outcome.written:
        raise DataError(f"none of the {len(outcome.skipped)} PNG files in {_IMAGES.value} is an image to attack")
    print(f"{outcome.written} attacked images are in {_OUTPUT_DIR.value}")


if __name__ == "__main__":
    cli.run(main)
