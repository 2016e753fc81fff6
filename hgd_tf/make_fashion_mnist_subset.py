"""Writes the embedded subset of Fashion-MNIST from the published files.

    python -m hgd_tf.make_fashion_mnist_subset --images=/usr/share/datasets/fashion-mnist

The folder is where Debian's package dataset-fashion-mnist puts them. Of each part the same number of every class is
drawn, in random order, from a fixed seed: 8,000 training, 1,000 validation and 2,000 test images.
"""

from __future__ import annotations

import numpy as np
from absl import flags

from hgd_tf import cli
from hgd_tf.data.fashion_mnist import CLASSES, SUBSET_FILE, LabeledImages, load_fashion_mnist
from hgd_tf.files import replacing

SEED = 20171204
COUNTS = {"train": 8_000, "validation": 1_000, "test": 2_000}

_IMAGES = flags.DEFINE_string("images", None, "Folder of the four published files.", required=True)
_OUTPUT = flags.DEFINE_string("output", str(SUBSET_FILE), "File to write.")


def balanced_sample(part: LabeledImages, count: int, rng: np.random.Generator) -> LabeledImages:
    """`count` images in random order, the same number of each class."""
    chosen = [rng.choice(np.flatnonzero(part.labels == k), count // CLASSES, replace=False) for k in range(CLASSES)]
    order = rng.permutation(np.concatenate(chosen))
    return LabeledImages(part.images[order], part.labels[order])


def make_subset(data_dir: str) -> dict[str, np.ndarray]:
    """The arrays of the subset's file, by name: uint8 images (N, 28, 28) and labels (N,) of each part."""
    splits = load_fashion_mnist(data_dir)
    rng = np.random.default_rng(SEED)
    arrays = {}
    for name, count in COUNTS.items():
        sample = balanced_sample(getattr(splits, name), count, rng)
        arrays[f"{name}_images"] = sample.images[..., 0]
        arrays[f"{name}_labels"] = sample.labels.astype(np.uint8)
    return arrays


def main(_) -> None:
    arrays = make_subset(_IMAGES.value)
    with replacing(_OUTPUT.value) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"wrote {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
