"""Square Attack: its schedule and proposals by hand, and what every result must keep."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.attacks import SquareAttack
from hgd_tf.attacks.square import exchange, pattern, square, stripes, tiles
from hgd_tf.data import load_fashion_mnist
from hgd_tf.targets import load_target

COUNT = 20


@pytest.fixture(scope="module")
def mini():
    return load_target("mini_vgg")


@pytest.fixture(scope="module")
def fashion() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_fashion_mnist().test.head(COUNT)
    return np.asarray(images, np.float32), np.asarray(labels)


def test_squares_shrink_as_in_the_paper():
    attack = SquareAttack(lambda images: {}, queries=10_001)
    shares = [attack._share(number) for number in (0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert shares == [0.8 / 2**halvings for halvings in (0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9)]
    assert SquareAttack(lambda images: {}, queries=101)._share(51) == 0.8 / 2**7


def test_proposals_by_hand():
    rng = np.random.default_rng(0)
    image = np.full((8, 6, 2), 100.0, np.float32)
    striped = stripes(rng, image, image, 3.5)
    assert set(np.unique(striped)) == {96.5, 103.5} and np.all(striped == striped[:1])
    for share, side in ((0.8, 6), (0.2, 3), (1e-3, 1)):
        proposal = square(rng, image, striped, 3.5, share)
        changed = np.argwhere(np.any(proposal != striped, axis=-1))
        assert 0 < len(changed) <= side**2 and np.all(np.ptp(changed, axis=0) < side)
        assert set(np.unique(proposal)) == {96.5, 103.5}
    black = square(rng, np.zeros_like(image), np.zeros_like(image), 3.5, 0.2)
    assert black.min() == 0 and black.max() == 3.5


def test_patterns_by_hand():
    rng = np.random.default_rng(0)
    five = pattern(rng, 5)
    five = five if np.ptp(np.sign(five[0])) == 0 else five.T
    one, two, three = 1 / 9, 1 / 9 + 1 / 4, 1 / 9 + 1 / 4 + 1  # of the square around, the next, the innermost
    upper = [[one, two, two, two, one], [one, two, three, two, one]]
    lower = [[one, two, two, two, one], [one, two, three, two, one], [one, two, two, two, one]]
    expected = np.array(upper + [[-value for value in row] for row in lower])
    np.testing.assert_allclose(five, expected / np.linalg.norm(expected), rtol=1e-6)


def test_exchanges_stay_in_two_squares_and_on_the_sphere():
    rng = np.random.default_rng(1)
    image = np.full((12, 10, 2), 120.0, np.float32)
    best = tiles(rng, image, image, 40.0)
    assert np.linalg.norm(best - image) == pytest.approx(40.0, rel=1e-5)
    for share, side in ((0.2, 5), (0.01, 3)):
        for _ in range(20):
            proposal = exchange(rng, image, best, 40.0, share)
            assert np.linalg.norm(proposal - image) == pytest.approx(40.0, rel=1e-5)
            changed = np.any(np.abs(proposal - best) > 1e-3, axis=-1)
            assert 0 < changed.sum() <= 2 * side**2


CASES = [("linf", 8.5, False), ("linf", 8.5, True), ("linf", np.linspace(0, 12, COUNT), False)]
CASES += [("l2", 300.0, False), ("l2", np.linspace(0, 400, COUNT), True)]


@pytest.mark.parametrize(("norm", "epsilon", "rounding"), CASES)
def test_results_are_in_the_ball_and_what_they_are_said_to_be(mini, fashion, norm, epsilon, rounding):
    images, labels = fashion
    done = []
    attack = SquareAttack(mini, queries=60, norm=norm, rounding=rounding)
    result = attack(images, labels, epsilon, seed=2, batch_size=8, on_batch=done.append)
    offsets = (result.images - images).reshape(COUNT, -1).astype(np.float64)
    assert np.all(np.linalg.norm(offsets, np.inf if norm == "linf" else 2, axis=1) <= epsilon + 1e-3)
    assert sum(done) == COUNT
    assert result.images.min() >= 0 and result.images.max() <= 255
    assert not rounding or np.array_equal(result.images, np.round(result.images))
    logits = mini(tf.constant(result.images))["logits"].numpy()
    np.testing.assert_array_equal(logits.argmax(axis=1) != labels, result.fooled)
    missed = mini(tf.constant(images))["logits"].numpy().argmax(axis=1) != labels
    assert missed.sum() < result.fooled.sum() < COUNT
    assert np.all(result.queries[missed] == 1) and np.all(result.queries[~result.fooled] == 60)
    assert np.all(result.queries[result.fooled & ~missed] > 1) and not result.gradients.any()
    assert result.losses.shape == (60,) and np.all(np.diff(result.losses[1:]) >= 0)


def test_an_image_is_attacked_alike_in_any_batch(mini, fashion):
    images, labels = fashion
    attack = SquareAttack(mini, queries=30)
    numbers = np.arange(COUNT) + 7
    whole, some = attack(images, labels, 8, numbers=numbers), np.arange(COUNT)[::-4]
    again = attack(images[some], labels[some], 8, numbers=numbers[some], batch_size=2)
    assert (again.images == whole.images[some]).mean() > 0.99
    assert np.any(attack(images, labels, 8, numbers=numbers, seed=1).images != whole.images)
    empty = attack(images[:0], labels[:0], 8)
    assert len(empty.fooled) == 0 and empty.losses.shape == (30,)


@pytest.mark.parametrize(("options", "message"), [({"queries": 1}, "received 1"), ({"p_init": 0}, "received 0")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SquareAttack(lambda images: {}, **options)
