"""A target's accuracy on labelled image files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.data.images import read_image
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.errors import DataError
from hgd_tf.targets.target import Target, resize_to

TOP = 5


class Verification(NamedTuple):
    """What came out.

    Attributes:
      images: classified.
      top1, top5: fractions of them whose class was first, or among the first five.
      images_per_second: with decoding, after the first batch.
      broken: files that are no images, which are left out.
    """

    images: int
    top1: float
    top5: float
    images_per_second: float
    broken: list[Path]


def verify_target(
    target: Target, files: Sequence[LabeledFile], batch_size: int = 32, central_fraction: float = 1.0
) -> Verification:
    """Classifies labelled image files, of any size, each resized to the target's.

    Args:
      target: the classifier.
      files: images and classes.
      batch_size: images a batch.
      central_fraction: of height and width that is kept, around the middle; published accuracies use 0.875.

    Raises:
      DataError: none of the files is an image, or a label is beyond the target's classes.
    """
    beyond = next((file for file in files if file.label >= target.classes), None)
    if beyond is not None:
        raise DataError(f"{beyond.path} has label {beyond.label}, {target.name} knows {target.classes} classes")
    classify = tf.function(lambda images: target(images)["logits"])
    broken: list[Path] = []
    ranks: list[np.ndarray] = []
    seconds, timed = 0.0, 0
    with tqdm(total=len(files), desc=target.name, unit="img", mininterval=1) as bar:
        start = time.perf_counter()
        for images, labels in _batches(target, files, batch_size, central_fraction, broken):
            logits = classify(images).numpy()
            own = np.take_along_axis(logits, labels[:, None], axis=1)
            if ranks:  # the first batch compiles
                seconds, timed = seconds + time.perf_counter() - start, timed + len(labels)
            start = time.perf_counter()
            ranks.append(np.sum(logits > own, axis=1))
            bar.update(len(labels))
    if not ranks:
        raise DataError(f"none of {len(files)} files is an image, such as {files[0].path}")
    rank = np.concatenate(ranks)
    rate = timed / seconds if timed else float("nan")
    return Verification(len(rank), float(np.mean(rank < 1)), float(np.mean(rank < TOP)), rate, broken)


def _batches(
    target: Target, files: Sequence[LabeledFile], batch_size: int, central_fraction: float, broken: list[Path]
):
    """Batches (images (N, size, size, C) float32, labels (N,) int64) of the files that are images."""

    def read(number):
        try:
            return read_image(files[number].path, target.channels)[0].astype(np.float32), True
        except DataError:
            broken.append(files[number].path)
            return np.zeros((1, 1, target.channels), np.float32), False

    def load(number):
        image, is_image = tf.numpy_function(read, [number], (tf.float32, tf.bool))
        image.set_shape((None, None, target.channels))
        if central_fraction < 1:
            image = tf.image.central_crop(image, central_fraction)
        return resize_to(image[None], target.image_size)[0], number, is_image

    data = tf.data.Dataset.range(len(files)).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.filter(lambda image, number, is_image: is_image).batch(batch_size).prefetch(2)
    labels = np.array([file.label for file in files])
    for images, numbers, _ in data:
        yield images, labels[numbers.numpy()]
