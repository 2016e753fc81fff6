"""Batches of attacked and clean pairs: order, flips, resumption, completeness."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hgd_tf.crafting import AttackedSet
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.training.pairs import training_batches, validation_batches

ATTACKS, IMAGES, SIDE = 3, 7, 4
PAIRS = ATTACKS * IMAGES


def numbered_set(attacks: int = ATTACKS, images: int = IMAGES) -> AttackedSet:
    """Image n holds n in its left half and 100 + n in its right half; attack a adds 30 (a + 1) to both halves.

    So a pair's image, attack and direction can be read off its pixels.
    """
    left = np.arange(images, dtype=np.uint8)[:, None, None, None]
    clean = np.concatenate([np.broadcast_to(left + half, (images, SIDE, SIDE // 2, 1)) for half in (0, 100)], axis=2)
    added = 30 * np.arange(1, attacks + 1, dtype=np.uint8)[:, None, None, None, None]
    labels = (np.arange(images, dtype=np.int64) * 3) % 10
    names = tuple(f"attack{number}" for number in range(attacks))
    return AttackedSet(LabeledImages(clean, labels), names, clean[None] + added, np.ones((attacks, images), np.int64))


def taken(data, count):
    """The first `count` batches, each a tuple of arrays."""
    return [tuple(np.asarray(part) for part in batch) for batch in itertools.islice(data, count)]


def read_off(images):
    """Left pixel, right pixel and whether each image is flipped; the halves must be flat."""
    left, right = images[:, 0, 0, 0], images[:, 0, -1, 0]
    assert np.all(images[:, :, : SIDE // 2] == left[:, None, None, None])
    assert np.all(images[:, :, SIDE // 2 :] == right[:, None, None, None])
    return np.minimum(left, right), np.abs(left - right), left > right


def pairs_of(batch):
    """(attack, image) of every pair of a batch, by its pixels."""
    attacked, clean = read_off(batch[0])[0], read_off(batch[1])[0]
    return list(zip((attacked - clean) // 30 - 1, clean))


def same(batches, others):
    return len(batches) == len(others) and all(
        np.array_equal(part, other) for batch, old in zip(batches, others) for part, other in zip(batch, old)
    )


def test_batches_go_on_from_any_step():
    """A pass has 5 batches of 4 (one pair is left over): steps 4 and 5 are the last and the first of a pass."""
    unbroken = taken(training_batches(numbered_set(), 4, seed=3), 13)
    for first_step in (1, 3, 4, 5, 9):
        resumed = taken(training_batches(numbered_set(), 4, seed=3, first_step=first_step), 13 - first_step)
        assert same(resumed, unbroken[first_step:]), first_step


def test_one_pass_has_every_pair_once_but_for_the_remainder():
    batches = taken(training_batches(numbered_set(), 4, seed=1), 10)
    for one_pass in (batches[:5], batches[5:]):
        seen = [pair for batch in one_pass for pair in pairs_of(batch)]
        assert len(seen) == 20
        assert len(set(seen)) == 20


def test_one_pass_is_complete_where_batches_divide_the_pairs():
    batches = taken(training_batches(numbered_set(), 7, seed=1), 3)
    seen = sorted(pair for batch in batches for pair in pairs_of(batch))
    assert seen == [(attack, image) for attack in range(ATTACKS) for image in range(IMAGES)]


def test_each_pass_has_another_order_and_another_remainder():
    batches = taken(training_batches(numbered_set(), 10, seed=0), 24)
    passes = [tuple(pair for batch in batches[k : k + 2] for pair in pairs_of(batch)) for k in range(0, 24, 2)]
    assert len(set(passes)) == 12
    assert len({frozenset(one_pass) for one_pass in passes}) > 1


def test_another_seed_has_another_order_and_other_flips():
    first, second = (taken(training_batches(numbered_set(), 20, seed=seed), 1)[0] for seed in (0, 1))
    assert pairs_of(first) != pairs_of(second)
    assert sorted(pairs_of(first)) != pairs_of(first)
    assert not np.array_equal(read_off(first[1])[2], read_off(second[1])[2])


def test_the_same_seed_has_the_same_batches():
    assert same(*(taken(training_batches(numbered_set(), 6, seed=5), 4) for _ in range(2)))


def test_both_images_of_a_pair_are_flipped_alike_and_unharmed():
    for batch in taken(training_batches(numbered_set(), 20, seed=2), 10):
        _, attacked_step, attacked_flip = read_off(batch[0])
        _, clean_step, clean_flip = read_off(batch[1])
        np.testing.assert_array_equal(attacked_flip, clean_flip)
        assert np.all(attacked_step == 100)
        assert np.all(clean_step == 100)


def test_about_half_of_the_pairs_are_flipped_anew_each_pass():
    """2,000 flips of a fair coin: 1,000 ± 5 standard deviations of 22."""
    batches = taken(training_batches(numbered_set(), 20, seed=7), 100)
    flips = np.stack([read_off(batch[1])[2] for batch in batches])
    assert 890 < flips.sum() < 1110
    assert len({tuple(row) for row in flips}) > 95


@pytest.mark.parametrize(
    "make", [lambda pairs: training_batches(pairs, 7, 0), lambda pairs: validation_batches(pairs, 7)]
)
def test_labels_and_attack_numbers_belong_to_their_images(make):
    for batch in taken(make(numbered_set()), 3):
        attacks, images = np.array(pairs_of(batch)).T
        np.testing.assert_array_equal(batch[2], (images * 3) % 10)
        np.testing.assert_array_equal(batch[3], attacks)
        assert [part.dtype for part in batch] == [np.float32, np.float32, np.int64, np.int64]


def test_validation_has_every_pair_once_in_order_unflipped():
    batches = taken(validation_batches(numbered_set(), 8), None)
    assert [len(batch[2]) for batch in batches] == [8, 8, 5]
    seen = [pair for batch in batches for pair in pairs_of(batch)]
    assert seen == [(attack, image) for attack in range(ATTACKS) for image in range(IMAGES)]
    assert not any(np.any(read_off(part)[2]) for batch in batches for part in batch[:2])


def test_validation_takes_a_batch_larger_than_the_set():
    (batch,) = taken(validation_batches(numbered_set(), 100), None)
    assert len(batch[2]) == PAIRS


def test_training_takes_a_batch_of_all_pairs_and_none_larger():
    (batch,) = taken(training_batches(numbered_set(), PAIRS, seed=0), 1)
    assert len(set(pairs_of(batch))) == PAIRS
    with pytest.raises(ValueError, match=r"batch_size must be at most the number of pairs, 21, received 22"):
        training_batches(numbered_set(), PAIRS + 1, seed=0)
