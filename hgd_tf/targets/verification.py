"""A target's accuracy on labelled images."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from hgd_tf.data.opening import read_batches
from hgd_tf.data.sources import Source
from hgd_tf.errors import DataError
from hgd_tf.targets.target import Target

TOP = 5


class Verification(NamedTuple):
    """What came out.

    Attributes:
      top1, top5: fractions of them whose class was first, or among the first five.
      images_per_second: with decoding, without compilation.
      broken: names of what is no image, which is left out.
    """

    images: int
    top1: float
    top5: float
    images_per_second: float
    broken: list[str]


def verify_target(target: Target, source: Source, batch_size: int = 32) -> Verification:
    """Classifies labelled images.

    Args:
      source: images and classes; published accuracies are of the central 0.875 of height and width.

    Raises:
      DataError: none of the files is an image.
    """
    signature = [tf.TensorSpec((None, *source.image_shape), tf.uint8)]
    classify = tf.function(lambda images: target(images)["logits"], input_signature=signature)
    classify(np.zeros((1, *source.image_shape), np.uint8))  # compiles
    ranks: list[int] = []
    numbers: list[int] = []
    start = time.perf_counter()
    with tqdm(total=len(source.labels), desc=target.name, unit="img", mininterval=1) as bar:
        for read in read_batches(source, batch_size):
            if len(read.numbers):
                logits = classify(read.images).numpy()
                own = np.take_along_axis(logits, source.labels[read.numbers, None], axis=1)
                ranks += np.sum(logits > own, axis=1).tolist()
                numbers += read.numbers.tolist()
            bar.update(min(batch_size, len(source.labels) - bar.n))
    seconds = time.perf_counter() - start
    broken = [source.origin(number) for number in sorted(set(range(len(source.labels))) - set(numbers))]
    if not ranks:
        raise DataError(f"none of {len(source.labels)} files is an image, such as {source.origin(0)}")
    rank = np.array(ranks)
    return Verification(len(rank), float(np.mean(rank < 1)), float(np.mean(rank < TOP)), len(rank) / seconds, broken)
