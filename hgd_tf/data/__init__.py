"""Images: Fashion-MNIST, sample photographs, folders of the user's own, single files."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.data.folder import load_folder
from hgd_tf.data.opening import open_images
from hgd_tf.data.photographs import CropShape, PhotographSplits, load_photographs
from hgd_tf.data.sample_images import load_samples
from hgd_tf.data.splits import LabeledImages, Splits


def load_splits(data_dir: Optional[str], image_size: int, channels: int, classes: Optional[int] = None) -> Splits:
    """Images to train and test on.

    Args:
      data_dir: None: the embedded subset of Fashion-MNIST. A folder with a `train` folder in it: as in `load_folder`.
        Any other: the whole of Fashion-MNIST, as in `load_fashion_mnist`.
      image_size, channels: of images from folders; Fashion-MNIST has its own.
      classes: of the classifier, which say what folders' names mean, as in `labeled_files`; None: any number.

    Raises:
      DataError: the images are missing, truncated or no images.
    """
    if data_dir is not None and (Path(data_dir) / "train").is_dir():
        return load_folder(data_dir, image_size, channels, classes)
    return load_fashion_mnist(data_dir)
