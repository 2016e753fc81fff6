"""Denoises one image and says what the classifier makes of it before and after; or classifies a folder of images.

    python -m hgd_tf.defend --images=photo.png --output=denoised.png
    python -m hgd_tf.defend --images=DIR --output_file=classes.csv --defense=submission/models.json

Any image that Pillow reads, or sample:NAME, a photograph of the package (a wrong NAME lists them); it is converted to
the classifier's channels and size. --defense is a run's folder, a defense that comes with the package, or a file that
describes an ensemble (hgd_tf/defenses/line_up.py says how).

A folder, or samples, which are all of the package's photographs, is classified as the NIPS 2017 competition does it.
--output_file gets a line NAME,LABEL for every .png, .jpg or .jpeg file, LABEL in 1..1000, batch by batch. All are there
before --time_limit: where it would not suffice, costly parts of the ensemble are left out for the last ones.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from absl import flags

from hgd_tf import cli
from hgd_tf.competition import runner
from hgd_tf.config_flags import define_defense
from hgd_tf.data.sample_images import images_path
from hgd_tf.errors import DataError, RunError

if TYPE_CHECKING:
    from hgd_tf.defenses.ensemble import Classifier, Flow

# What needs TensorFlow is imported where it is used: mistakes are told at once, and start-up counts towards the limit.

_DEFENSE = define_defense(default="runs/lgd")
_IMAGES = flags.DEFINE_string("images", None, "An image, or a folder of images to classify.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Where the denoised image goes; its ending says the format.")
_OUTPUT_FILE = flags.DEFINE_string("output_file", None, "CSV file that receives the classes of a folder's images.")
_TIME_LIMIT = flags.DEFINE_float("time_limit", runner.TIME_LIMIT, "Seconds for a folder, start-up included.", 0.0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", runner.BATCH_SIZE, "Images of a folder computed at a time.", 1)

flags.mark_flags_as_mutual_exclusive(["output", "output_file"])
flags.register_validator("images", bool, "expected an image or a folder of images")


def main(_) -> None:
    started = time.monotonic()
    images, output_file = images_path(_IMAGES.value), _OUTPUT_FILE.value
    if images.exists() and images.is_dir() != bool(output_file):
        kind = "folder" if images.is_dir() else "file"
        raise DataError(f"--output_file=FILE.csv is for the classes of a folder's images, received the {kind} {images}")
    if not output_file:
        _defend_image(images, _DEFENSE.value, _OUTPUT.value)
        return
    try:
        _defend_folder(images, output_file, _DEFENSE.value, started)
    except runner.RunnerError as error:
        raise DataError(str(error)) from error


def _defend_image(path: Path, source: str, output: Optional[str]) -> None:
    from hgd_tf.data.images import read_image, write_image
    from hgd_tf.defenses import load_defense
    from hgd_tf.defenses.ensemble import Ensemble, Flow
    from hgd_tf.targets import class_name

    def answer(classifier: Classifier) -> str:
        outputs = classifier(images)
        index = int(outputs["classes"][0])
        return f"{class_name(names[0], index)}, {100 * float(outputs['probabilities'][0, index]):.1f} %"

    defense = load_defense(source)
    first, *others = defense.flows
    if output and others:
        raise RunError(f"--output: expected a defense of one denoised image, received {source} with {len(others) + 1}")
    undefended = Ensemble([Flow([], flow.targets, flow.title, flow.weight) for flow in defense.flows])
    names = list(dict.fromkeys(target.name for flow in defense.flows for target in flow.targets))
    images = read_image(path, defense.channels)
    print(f"{' & '.join(names)} before: {answer(undefended)}")
    print(f"{' & '.join(names)} after:  {answer(defense)}")
    if output:
        write_image(output, first.denoise(images).numpy())
        print(f"denoised image: {output}")


def _defend_folder(images: Path, output_file: str, source: str, started: float) -> None:
    from tqdm import tqdm

    from hgd_tf.defenses import load_defense

    count = len(runner.image_names(images))
    defense = load_defense(source)
    start_up = time.monotonic() - started
    with tqdm(total=count, desc="classifying", unit="img", mininterval=1, disable=None) as bar:
        outcome = runner.classify_folder(
            [_member(flow) for flow in defense.flows],
            images,
            output_file,
            time_limit=_TIME_LIMIT.value,
            started=started,
            batch_size=_BATCH_SIZE.value,
            channels=defense.channels,
            on_batch=bar.update,
        )
    guessed = f", {outcome.guessed} of them guessed" if outcome.guessed else ""
    print(f"{outcome.rows} images{guessed} in {outcome.seconds:.1f} s (start-up {start_up:.1f} s): {output_file}")


def _member(flow: Flow) -> runner.Member:
    """A flow as one graph for images of every size."""
    import tensorflow as tf

    images = tf.TensorSpec((None, None, None, flow.channels), tf.uint8)
    graph = tf.function(lambda images: flow(images)["logits"], input_signature=[images])
    return runner.Member(flow.title, lambda images: graph(tf.constant(images)).numpy(), flow.weight)


if __name__ == "__main__":
    cli.run(main)
