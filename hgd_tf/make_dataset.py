"""Makes a dataset in the competition's format of classified images of one's own.

    python -m hgd_tf.make_dataset --images=DIR [--labels=TABLE.csv] --output_dir=runs/dataset --count=100

Writes images/NAME.png, of one size, and dataset.csv with the columns ImageId, TrueLabel and TargetClass: the class, and
a random other one for targeted attacks, in 1..1000. Images are drawn at random.
"""

from __future__ import annotations

from absl import flags

from hgd_tf import cli
from hgd_tf.competition.dataset_writer import IMAGES_FOLDER, TABLE_FILE, make_dataset

IMAGE_SIZE = 299

_IMAGES = flags.DEFINE_string("images", None, "Images, in a folder a class; or of --labels.", required=True)
_LABELS = flags.DEFINE_string("labels", None, "CSV with the columns file and label (0-based).")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/dataset", "Folder of the dataset.")
_COUNT = flags.DEFINE_integer("count", 100, "How many.", 1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", IMAGE_SIZE, "Side of the images in pixels.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", 0)


def main(_) -> None:
    make_dataset(_IMAGES.value, _LABELS.value, _OUTPUT_DIR.value, _COUNT.value, _IMAGE_SIZE.value, _SEED.value)
    print(f"{_COUNT.value} images are in {_OUTPUT_DIR.value}/{IMAGES_FOLDER}, their table is {TABLE_FILE} beside it")


if __name__ == "__main__":
    cli.run(main)
