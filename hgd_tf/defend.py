"""Denoises one image and says what the classifier makes of it before and after.

    python -m hgd_tf.defend --image=photo.png --output=denoised.png

Any image that Pillow reads; it is converted to the classifier's channels and size.
"""

from __future__ import annotations

from absl import flags

from hgd_tf import cli
from hgd_tf.data.images import read_image, write_image
from hgd_tf.defenses import Defense, load_defense
from hgd_tf.targets import class_name

flags.declare_key_flag("checkpoint_dir")
_IMAGE = flags.DEFINE_string("image", None, "The image.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Where the denoised image goes; its ending says the format.")
_RUN_DIR = flags.DEFINE_string("run_dir", "runs/lgd", "Folder of the training run whose denoiser is used.")


def _answer(defense: Defense, images) -> str:
    outputs = defense(images)
    index = int(outputs["classes"][0])
    return f"{class_name(defense.target.name, index)}, {100 * float(outputs['probabilities'][0, index]):.1f} %"


def main(_) -> None:
    defense = load_defense(_RUN_DIR.value)
    images = read_image(_IMAGE.value, defense.target.channels)
    print(f"{defense.target.name} before: {_answer(Defense(None, defense.target), images)}")
    print(f"{defense.target.name} after:  {_answer(defense, images)}")
    if _OUTPUT.value:
        write_image(_OUTPUT.value, defense.denoise(images).numpy())
        print(f"denoised image: {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
