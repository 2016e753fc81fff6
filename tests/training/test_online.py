"""Pairs crafted while training: what they are, which are met when, and that any step can be the first."""

from __future__ import annotations

import contextlib
import functools
import itertools

import numpy as np
import pytest
from PIL import Image
from small_set import small_roles

from hgd_tf.attacks import TRAINING_RECIPES, SignGradientAttack, bind
from hgd_tf.data import CropShape, LabeledImages
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.data.photographs import VARIETIES, random_crops
from hgd_tf.data.transports import Transport
from hgd_tf.training import online
from hgd_tf.training.clock import Clock
from hgd_tf.training.online import FIRST_ROUNDS, OnlinePairs

RECIPE = TRAINING_RECIPES["light_mix"]
ATTACKS = 7  # on two members: none, noise, FGSM on each and on both, and two iterative ones
BATCH = 4
ROUND = ATTACKS * BATCH
SHAPE = CropShape(6, 1)
POOL_ROUNDS = 12  # so that a pool is full soon


@pytest.fixture(scope="module")
def roles():
    return small_roles()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Flat grey images: their crops say which they are; and there is room for epsilon 16 above and below."""
    folder = tmp_path_factory.mktemp("photographs")
    files = []
    for number in range(10):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((9, 12), 40 + 16 * number, np.uint8)).save(path)
        files.append(LabeledFile(path, number % 5))
    return files


@pytest.fixture(scope="module")
def make(files, roles):
    """Makes `OnlinePairs`; the small networks are attacked, with the compiled attacks of the first."""
    attackers = {}

    def make(**changes) -> OnlinePairs:
        options = {"batch_size": BATCH, "reuse": 1, "seed": 0, "clock": Clock(), **changes}
        pairs = OnlinePairs(files, SHAPE, RECIPE, roles, **options)
        for models, attacker in pairs._attackers.items():
            pairs._attackers[models] = attackers.setdefault(models, attacker)
        return pairs

    return make


@pytest.fixture
def numbered(monkeypatch):
    """In place of crops: round n's images are n in their left half and 100 + n in their right, their labels are their
    places; the rounds taken."""
    taken = []

    def crops(files, shape, batch_size, seed, first_batch, variety, sides):
        for number in itertools.count(first_batch):
            taken.append(number)
            images = np.full((batch_size, shape.image_size, shape.image_size, shape.channels), number, np.uint8)
            images[:, :, shape.image_size // 2 :] += 100
            yield LabeledImages(images, np.arange(batch_size))

    monkeypatch.setattr(online, "random_crops", crops)
    monkeypatch.setattr(online, "POOL_ROUNDS", POOL_ROUNDS)
    return taken


def batches_of(pairs: OnlinePairs, count: int, first_step: int = 0):
    with contextlib.closing(pairs.batches(first_step)) as batches:
        return list(itertools.islice(batches, count))


def rounds_of(batch) -> np.ndarray:
    return batch.clean[:, 0, (0, -1), 0].min(axis=1).astype(int)


@pytest.fixture(scope="module")
def pairs_by_attack(make):
    """Attacked and clean images and labels of many pairs, by attack."""
    batches = batches_of(make(), 60)
    attack = np.concatenate([batch.attack for batch in batches])
    arrays = [np.concatenate([getattr(batch, name) for batch in batches]) for name in ("attacked", "clean", "label")]
    assert np.bincount(attack).min() >= 10 and attack.max() == ATTACKS - 1
    return [tuple(array[attack == number] for array in arrays) for number in range(ATTACKS)]


def test_attacked_images_are_integers_within_epsilon_16_of_the_clean_ones(pairs_by_attack):
    largest = []
    for attacked, clean, _ in pairs_by_attack:
        np.testing.assert_array_equal(attacked, np.round(attacked))
        largest.append(np.abs(attacked - clean).max(axis=(1, 2, 3)))
    assert np.concatenate(largest).max() == 16
    for distances in largest[1:]:
        assert distances.min() >= 1
        assert len(set(distances)) > 4


def test_unattacked_pairs_are_identical(pairs_by_attack, roles):
    assert bind(RECIPE, roles)[0].name == "no_op"
    attacked, clean, _ = pairs_by_attack[0]
    np.testing.assert_array_equal(attacked, clean)


def test_noise_is_epsilon_up_or_down(pairs_by_attack, roles):
    assert bind(RECIPE, roles)[1].name == "sign_noise"
    attacked, clean, _ = pairs_by_attack[1]
    noise = attacked - clean
    epsilon = np.abs(noise).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_array_equal(np.abs(noise), np.broadcast_to(epsilon, noise.shape))
    assert np.mean(noise > 0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.numerics
def test_a_pairs_attack_is_the_one_of_its_number(pairs_by_attack, roles):
    attacker_of = functools.cache(SignGradientAttack)
    for number, bound in enumerate(bind(RECIPE, roles)[2:], 2):
        attacked, clean, _ = pairs_by_attack[number]
        epsilon = np.abs(attacked - clean).max(axis=(1, 2, 3)).astype(np.int64)
        expected = attacker_of(bound.models)(clean, epsilon, bound.method)
        differing = np.mean(expected != attacked, axis=(1, 2, 3))
        assert differing.max() <= 1 / 36, number  # a sign may differ where a gradient is almost zero


def test_labels_are_those_of_the_crops(pairs_by_attack):
    for _, clean, label in pairs_by_attack:
        np.testing.assert_array_equal(label, (clean[:, 0, 0, 0] - 40) // 16 % 5)


def test_an_attacks_number_is_that_of_its_part_of_a_round(make, numbered):
    for batch in batches_of(make(), 30):
        np.testing.assert_array_equal(batch.attack, batch.label // BATCH)
        assert batch.attacked.shape == batch.clean.shape == (BATCH, 6, 6, 1)
        assert [part.dtype for part in batch] == [np.float32, np.float32, np.int64, np.int64]


def test_an_attacked_image_is_not_flipped(make, numbered):
    """A round's images are 100 darker in their left half."""
    batches = batches_of(make(reuse=9), 20)
    for batch in batches:
        assert np.all((batch.clean[:, :, -1] - batch.clean[:, :, 0]) % 256 == 100)
        unattacked = batch.attack == 0
        np.testing.assert_array_equal(batch.attacked[unattacked], batch.clean[unattacked])
    assert sum(np.sum(batch.attack == 0) for batch in batches) > 5


def test_a_step_is_the_same_wherever_training_starts(make):
    whole = batches_of(make(), 3 * ATTACKS + 6)
    for first_step in (1, ATTACKS - 1, ATTACKS, 3 * ATTACKS + 2):
        resumed = batches_of(make(), 4, first_step)
        for batch, expected in zip(resumed, whole[first_step:]):
            for part, other in zip(batch, expected):
                np.testing.assert_array_equal(part, other, err_msg=f"from step {first_step}")
        assert len(resumed) == 4


def test_another_seed_gives_other_pairs(make):
    first, second = (batches_of(make(seed=seed), 1)[0] for seed in (0, 1))
    assert not np.array_equal(first.attacked, second.attacked)
    assert not np.array_equal(first.attack, second.attack)


def test_crops_are_as_varied_as_they_shall_be(make, numbered, monkeypatch):
    varieties, plain = [], online.random_crops

    def crops(*arguments):
        varieties.append(arguments[-2])
        return plain(*arguments)

    monkeypatch.setattr(online, "random_crops", crops)
    for options in ({}, {"variety": VARIETIES["varied"]}):
        batches_of(make(**options), 1)
    assert varieties == [VARIETIES["plain"], VARIETIES["varied"]]


def test_crops_are_attacked_at_the_sides_then_transported_and_resized(make, files):
    """Of a flat crop the transport's half is flat too, so that the clean tone and the noise within epsilon stay."""
    attacked_at = []
    pairs = make(sides=(5, 6, 8), transport=Transport("resize:0.5"))
    for models, attacker in pairs._attackers.items():

        def recording(images, *arguments, attacker=attacker, **options):
            attacked_at.append(images.shape[1])
            return attacker(images, *arguments, **options)

        pairs._attackers[models] = recording
    (batch,) = batches_of(pairs, 1)
    by_round = np.array(attacked_at).reshape(FIRST_ROUNDS, ATTACKS)
    assert np.all(by_round == by_round[:, :1]) and set(by_round[:, 0]) == {5, 6, 8}
    sides = [
        batch.images.shape[1]
        for batch in itertools.islice(random_crops(files, SHAPE, ROUND, 0, sides=(5, 6, 8)), FIRST_ROUNDS)
    ]
    assert sides == by_round[:, 0].tolist()
    assert batch.attacked.shape == batch.clean.shape == (BATCH, 6, 6, 1)
    assert np.abs(batch.attacked - batch.clean).max() <= 16.5
    again = make(sides=(5, 6, 8), transport=Transport("resize:0.5"))
    np.testing.assert_array_equal(batches_of(again, 3)[2].attacked, batches_of(again, 1, first_step=2)[0].attacked)


@pytest.mark.parametrize("reuse", [1, 3])
def test_a_round_comes_when_the_pairs_of_one_were_drawn_so_often(make, numbered, reuse):
    """A round's 28 pairs last for 7 steps of 4, times `reuse`."""
    steps = 10 * ATTACKS * reuse
    with contextlib.closing(make(reuse=reuse).batches(0)) as batches:
        for step in range(steps):
            batch = next(batches)
            newest = FIRST_ROUNDS - 1 + step // (ATTACKS * reuse)
            assert numbered == list(range(newest + 1))
            assert max(newest - POOL_ROUNDS, -1) < rounds_of(batch).min() <= rounds_of(batch).max() <= newest
    drawn, crafted = steps * BATCH, (len(numbered) - FIRST_ROUNDS + 1) * ROUND
    assert drawn / crafted == reuse


@pytest.mark.parametrize("new_rounds", [0, 2, 7])
def test_every_round_of_the_pool_is_drawn_from(make, numbered, new_rounds):
    """The pool grows until it is full; then the oldest rounds leave it."""
    reuse = 40
    batches = batches_of(make(reuse=reuse), reuse * ATTACKS, first_step=new_rounds * reuse * ATTACKS)
    rounds = FIRST_ROUNDS + new_rounds
    held = range(max(rounds - POOL_ROUNDS, 0), rounds)
    assert set(np.concatenate([rounds_of(batch) for batch in batches])) == set(held)
    assert set(np.concatenate([batch.label for batch in batches])) == set(range(ROUND))


def test_no_pair_is_twice_in_a_batch(make, numbered):
    for batch in batches_of(make(reuse=9), 50):
        assert len(set(zip(rounds_of(batch), batch.label))) == BATCH


@pytest.mark.parametrize("new_rounds", [2, 5])
def test_resuming_takes_up_the_rounds_that_are_still_drawn_from(make, numbered, new_rounds):
    batches_of(make(), 1, first_step=new_rounds * ATTACKS + 3)
    rounds = FIRST_ROUNDS + new_rounds
    assert numbered == list(range(max(rounds - POOL_ROUNDS, 0), rounds))


def test_a_sample_is_the_same_where_the_batches_are_a_round_ahead(make, numbered):
    """In a full pool that round has taken the oldest one's place, which a sample leaves out."""
    pairs = make()
    samples = {}
    with contextlib.closing(pairs.batches(0)) as batches:
        list(itertools.islice(batches, 3 * ATTACKS + 1))
        for rounds in (3, 4, 5, 6):
            samples[rounds] = [list(pairs.sample(number * ATTACKS, 30)) for number in (rounds - 1, rounds)]
            list(itertools.islice(batches, ATTACKS))
    assert [images.shape for images in samples[3][1]] == [(BATCH, *pairs._attacked.shape[2:])] * 30
    for rounds in (3, 4, 5):
        np.testing.assert_array_equal(samples[rounds][1], samples[rounds + 1][0], err_msg=f"after {rounds} rounds")


def test_the_clock_is_told_of_crafting_that_training_waits_for(make, numbered):
    clock = Clock()
    with contextlib.closing(make(clock=clock).batches(0)) as batches:
        for _ in range(ATTACKS):
            next(batches)
        waiting, crafting = clock.read_and_reset()
        assert waiting > 0 and crafting == 0  # the first rounds come before training
        next(batches)
        assert clock.read_and_reset()[1] > 0


def test_the_dataset_has_the_batches(make):
    expected = batches_of(make(), 3, first_step=9)
    data = make().dataset(9)
    for batch, other in zip(data.take(3), expected):
        assert type(batch) is type(other)
        for part, array in zip(batch, other):
            np.testing.assert_array_equal(part, array)
    assert [tuple(spec.shape) for spec in data.element_spec] == [(BATCH, 6, 6, 1)] * 2 + [(BATCH,)] * 2
