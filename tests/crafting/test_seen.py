"""Sets as a defence sees them, against TensorFlow's resize and the transports one by one."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.crafting import AttackedSet
from hgd_tf.crafting.sets import joined, resized, set_as_seen, transported
from hgd_tf.data import LabeledImages
from hgd_tf.data.transports import Transport

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)
CLEAN = LabeledImages(IMAGES, np.arange(5))
ATTACKED = AttackedSet(CLEAN, ("one", "other"), np.stack([255 - IMAGES, IMAGES // 2]), np.arange(10).reshape(2, 5))


def resized_by_tensorflow(image: np.ndarray) -> np.ndarray:
    return tf.image.resize(tf.cast(image, tf.float32), (8, 8), antialias=True).numpy()


def test_an_images_way_depends_on_the_seed_and_its_number_alone():
    transport = Transport("resize")
    whole = transported(IMAGES, transport, 3, range(5))
    assert len({image.shape for image in whole}) > 2
    for first, image in enumerate(whole):
        (alone,) = transported(IMAGES[first : first + 1], transport, 3, [first])
        np.testing.assert_array_equal(alone, image)
    assert any(image.shape != other.shape for image, other in zip(whole, transported(IMAGES, transport, 4, range(5))))


def test_images_of_different_sizes_are_resized_each_as_alone():
    arrived = transported(IMAGES, Transport("resize"), 3, range(5))
    expected = [resized_by_tensorflow(image) for image in arrived]
    np.testing.assert_allclose(resized(arrived, 8), expected, atol=1e-3)
    np.testing.assert_array_equal(resized(IMAGES, 12), IMAGES)


def test_a_set_as_seen_has_its_attacked_images_transported_and_all_resized():
    transport = Transport("crop:0-0.3")
    seen = set_as_seen(ATTACKED, transport, 8, seed=3)
    assert seen.attacked.shape == (2, 5, 8, 8, 3) and seen.clean.images.shape == (5, 8, 8, 3)
    assert (seen.names, seen.epsilon.tolist()) == (ATTACKED.names, ATTACKED.epsilon.tolist())
    # float16 is exact to within 2 ** -4 between 128 and 256.
    np.testing.assert_allclose(seen.clean.images, list(map(resized_by_tensorflow, IMAGES)), atol=0.07)
    for attack in range(2):
        arrived = transported(ATTACKED.attacked[attack], transport, 3, range(5 * attack, 5 * attack + 5))
        np.testing.assert_allclose(seen.attacked[attack], list(map(resized_by_tensorflow, arrived)), atol=0.07)


def test_parts_are_joined_image_by_image():
    def part(places: slice) -> AttackedSet:
        images = LabeledImages(CLEAN.images[places], CLEAN.labels[places])
        return AttackedSet(images, ATTACKED.names, ATTACKED.attacked[:, places], ATTACKED.epsilon[:, places])

    whole = joined([part(slice(0, 2)), part(slice(2, 5))])
    assert whole.names == ATTACKED.names
    for found, expected in zip((*whole.clean, *whole[2:]), (*CLEAN, *ATTACKED[2:])):
        np.testing.assert_array_equal(found, expected)
