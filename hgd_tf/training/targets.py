"""Training of the small targets; the ImageNet ones come with their weights."""

from __future__ import annotations

from typing import Optional

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import SignGradientAttack, draw_epsilon
from hgd_tf.attacks.methods import fgsm
from hgd_tf.data.fashion_mnist import LabeledImages, load_fashion_mnist
from hgd_tf.files import replacing
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.loading import build_target, load_target

ADVERSARIALLY_TRAINED = {"ens_mini_inception": ("mini_inception", "mini_inception_resnet", "mini_resnet")}
ATTACK_BATCH_SIZE = 250


def train_target(
    name: str,
    *,
    output: str,
    data_dir: Optional[str] = None,
    epochs: int = 8,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> float:
    """Trains a small target from random weights on training and validation images together, and saves the weights.

    Args:
      name: a registered mini.
      output: weights file to write, `.weights.h5`.
      data_dir: as in `load_fashion_mnist`.
      epochs, batch_size, learning_rate: Adam's, the rate following a cosine to 0.
      seed: of initial weights, order, flips and attacks.

    Returns:
      Accuracy on the clean test images, a fraction.
    """
    keras.utils.set_random_seed(seed)
    splits = load_fashion_mnist(data_dir)
    train = LabeledImages(*map(np.concatenate, zip(splits.train, splits.validation)))
    if name in ADVERSARIALLY_TRAINED:
        train = _half_attacked(train, ADVERSARIALLY_TRAINED[name], seed)
    network = build_target(name)
    classifier = keras.Model(network.input, network.output["logits"])
    steps = epochs * -(-len(train.labels) // batch_size)
    classifier.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(_batches(train, batch_size, seed), epochs=epochs, verbose="auto")
    with replacing(output) as temporary:
        network.save_weights(temporary)
    _, accuracy = classifier.evaluate(splits.test.images, splits.test.labels, batch_size=500, verbose=0)
    return accuracy


def _batches(train: LabeledImages, batch_size: int, seed: int) -> tf.data.Dataset:
    """Shuffled batches with random horizontal flips."""

    def flipped(image, label):
        return tf.image.random_flip_left_right(image, seed=seed), label

    data = tf.data.Dataset.from_tensor_slices((train.images, train.labels))
    data = data.shuffle(len(train.labels), seed=seed).map(flipped, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(batch_size).prefetch(2)


def _half_attacked(train: LabeledImages, members: tuple[str, ...], seed: int) -> LabeledImages:
    """Every other image attacked by FGSM on one of the members, drawn at random, with epsilon uniform in 1..16."""
    drawn = np.random.default_rng(seed).integers(len(members), size=len(train.labels))
    drawn[::2] = -1  # left clean
    epsilon = draw_epsilon(len(train.labels), 1, 16, seed)
    images = train.images.copy()
    for number, member in enumerate(members):
        chosen = drawn == number
        attack = SignGradientAttack([load_target(member)])
        images[chosen] = attack(train.images[chosen], epsilon[chosen], fgsm(), seed=seed, batch_size=ATTACK_BATCH_SIZE)
    return LabeledImages(images, train.labels)
