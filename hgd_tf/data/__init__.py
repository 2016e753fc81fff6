"""Images: Fashion-MNIST, sample photographs, folders of the user's own, single files."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from hgd_tf.data.fashion_mnist import has_fashion_mnist, load_fashion_mnist
from hgd_tf.data.folder import has_parts, load_folder
from hgd_tf.data.opening import open_images
from hgd_tf.data.photographs import CropShape, PhotographSplits, load_photographs
from hgd_tf.data.sample_images import load_samples
from hgd_tf.data.splits import LabeledImages, Splits


def are_photographs(images: Union[str, Path, None]) -> bool:
    """Whether images to train on are read by `load_photographs`; the others by `load_splits`."""
    return images is not None and not has_fashion_mnist(images) and not has_parts(images)


def load_splits(data_dir: Optional[str], image_size: int, channels: int, classes: Optional[int] = None) -> Splits:
    """Images to train and test on.

    Args:
      data_dir: None: the embedded subset of Fashion-MNIST. A folder of parts: as in `load_folder`.
        Any other: the whole of Fashion-MNIST, as in `load_fashion_mnist`.
      image_size, channels: of images from folders; Fashion-MNIST has its own.
      classes: of the classifier, which say what folders' names mean, as in `labeled_files`; None: any number.

    Raises:
      DataError: the images are missing, truncated or no images.
    """
    if data_dir is not None and has_parts(data_dir):
        return load_folder(data_dir, image_size, channels, classes)
    return load_fashion_mnist(data_dir)
