"""What makes gradients transfer, against NumPy; and the loop that follows them, by hand on linear classifiers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.attacks import SignGradientAttack
from hgd_tf.attacks.methods import ifgsm
from hgd_tf.attacks.transfer import shrunk, smoothed
from hgd_tf.data import load_fashion_mnist
from hgd_tf.targets import load_target

SEED, COUNT = 5, 18


def draws_of(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 4)).astype(np.float32)


def lines(side: int, factor: float, place: float) -> np.ndarray:
    """(side, side): what each line of the smaller image takes of each line, by NumPy's interpolation over zeros."""
    positions = (np.arange(side) - (1 - factor) * place * (side - 1)) / factor
    padded = np.pad(np.eye(side), 1)[:, 1:-1]
    return np.stack([np.interp(positions, np.arange(-1, side + 1), unit) for unit in padded.T], axis=1)


def numpy_operators(shape, draws: np.ndarray, probability: float):
    """Of each image, the matrices of rows and columns."""
    for whether, size, down, right in draws.astype(np.float64):
        factor = 1 - 0.1 * size if whether < probability else 1.0
        yield lines(shape[1], factor, down), lines(shape[2], factor, right)


def numpy_smoothed(gradient: np.ndarray, size: int) -> np.ndarray:
    """Every pixel is the sum over a window of size x size, zeros outside, of which the kernel's sum is 1."""
    x = np.linspace(-3, 3, size)
    kernel = np.exp(-(x[:, np.newaxis] ** 2 + x**2) / 2)
    half = size // 2
    padded = np.pad(gradient.astype(np.float64), ((0, 0), (half, half), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ij->nhwc", windows, kernel / kernel.sum())


# --- shrunk ---


def test_shrunk_images_are_numpys_interpolation_on_black():
    images = np.random.default_rng(2).uniform(0, 255, (12, 9, 7, 2)).astype(np.float32)
    draws = draws_of(12)
    operators = numpy_operators(images.shape, draws, 0.5)
    expected = np.stack([np.einsum("ih,jw,hwc->ijc", *pair, image) for pair, image in zip(operators, images)])
    received = shrunk(tf.constant(images), tf.constant(draws), 0.5).numpy()
    np.testing.assert_allclose(received, expected, atol=0.05)  # the weights' rounding, times 255
    stay = draws[:, 0] >= 0.5
    assert 0 < stay.sum() < 12
    np.testing.assert_array_equal(received[stay], images[stay])
    assert np.all(np.abs(received[~stay] - images[~stay]).max(axis=(1, 2, 3)) > 10)


def test_white_images_shrink_to_nine_tenths_of_a_side_at_least_anywhere():
    draws = draws_of(200)
    seen = shrunk(tf.fill((200, 101, 81, 1), 255.0), tf.constant(draws), 1.0).numpy() / 255
    areas = seen.mean(axis=(1, 2, 3))
    assert 0.8 < areas.min() < 0.83 and 0.98 < areas.max() <= 1
    np.testing.assert_allclose(np.sqrt(areas), 1 - 0.1 * draws[:, 1], atol=0.01)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert 0.01 < np.mean(seen[:, corner[0], corner[1]] > 0.5) < 0.6


# --- smoothed ---


@pytest.mark.parametrize("size", [1, 3, 15])
def test_the_smoothed_gradient_is_numpys_convolution(size):
    gradient = np.random.default_rng(3).normal(size=(4, 19, 17, 3)).astype(np.float32)
    received = smoothed(tf.constant(gradient), size).numpy()
    np.testing.assert_allclose(received, numpy_smoothed(gradient, size), atol=1e-6)
    if size == 1:
        np.testing.assert_array_equal(received, gradient)


def test_the_authors_kernel_is_15_pixels_of_which_one_deviation_is_7_thirds():
    impulse = np.zeros((1, 31, 31, 1), np.float32)
    impulse[0, 15, 15] = 1.0
    kernel = smoothed(tf.constant(impulse), 15).numpy()[0, :, :, 0]
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.count_nonzero(kernel) == 15 * 15
    np.testing.assert_allclose(kernel[15, 22] / kernel[15, 15], np.exp(-4.5), rtol=1e-4)
    np.testing.assert_allclose(kernel[8, 22] / kernel[15, 15], np.exp(-9.0), rtol=1e-4)


# --- the loop ---


class Linear:
    """Logits of 6x5 images, linear in their pixels."""

    kernel = np.random.default_rng(4).normal(size=(30, 4)) * 1e-3

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": tf.reshape(images, (-1, 30)) @ tf.constant(self.kernel, tf.float32)}

    def gradient(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Of the cross-entropy: (softmax - one-hot) times the kernel."""
        exponentials = np.exp(images.reshape(-1, 30) @ self.kernel)
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return ((probabilities - np.eye(4)[labels]) @ self.kernel.T).reshape(images.shape)


def by_hand(images, labels, epsilon, count, momentum, diversity, translation) -> np.ndarray:
    """The loop in NumPy, but for its random draws."""
    seeds = np.stack([np.full(len(images), SEED), np.arange(len(images))], axis=1)
    draws = np.stack([tf.random.stateless_uniform((count, 4), ~seed) for seed in seeds])
    attacked, kept = images.astype(np.float64), 0.0
    lowest, highest = np.maximum(attacked - epsilon, 0.0), np.minimum(attacked + epsilon, 255.0)
    for step in range(count):
        rows, columns = map(np.stack, zip(*numpy_operators(images.shape, draws[:, step], diversity)))
        seen = np.einsum("nih,njw,nhwc->nijc", rows, columns, attacked)
        gradient = np.einsum("nih,njw,nijc->nhwc", rows, columns, Linear().gradient(seen, labels))
        if translation:
            gradient = numpy_smoothed(gradient, translation)
        if momentum:
            gradient = gradient / np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True) + momentum * kept
            kept = gradient
        attacked = np.clip(attacked + np.sign(gradient) * epsilon / count, lowest, highest)
    return np.round(attacked).astype(np.uint8)


@functools.cache
def linear_attack() -> SignGradientAttack:
    return SignGradientAttack([Linear()], "true")


@pytest.mark.parametrize(
    ("momentum", "diversity", "translation"), [(0.0, 0.0, 5), (0.0, 1.0, 0), (0.7, 0.5, 0), (0.7, 0.5, 5)]
)
def test_the_loop_is_the_one_by_hand(momentum, diversity, translation):
    images = np.random.default_rng(6).integers(0, 256, (COUNT, 6, 5, 1)).astype(np.uint8)
    labels = np.arange(COUNT) % 4
    options = {"momentum": momentum, "diversity": diversity, "translation": translation}
    received = linear_attack()(images, 8, ifgsm(4, **options), labels, seed=SEED)
    expected = by_hand(images, labels, 8, 4, **options)
    assert np.mean(received == expected) >= 0.995  # a gradient near 0 may change its sign
    for other in ("diversity", "translation"):
        if options[other]:
            without = linear_attack()(images, 8, ifgsm(4, **{**options, other: 0}), labels, seed=SEED)
            assert np.mean(without == expected) < np.mean(received == expected), other


def test_where_no_image_is_shrunk_the_attack_is_the_plain_one_bit_for_bit():
    images = load_fashion_mnist().test.head(9).images
    attack = SignGradientAttack([load_target("mini_vgg")])
    plain, never, always = (attack(images, 8, ifgsm(4, diversity=p), seed=SEED) for p in (0.0, 1e-9, 1.0))
    np.testing.assert_array_equal(never, plain)
    assert np.mean(always == plain) < 0.9


def test_draws_differ_by_image_step_and_seed_and_follow_the_images_number():
    image = load_fashion_mnist().test.head(1).images
    images = np.repeat(image, 6, axis=0)
    attack = SignGradientAttack([load_target("mini_vgg")])
    method = ifgsm(2, diversity=1.0)
    whole = attack(images, 8, method, seed=SEED)
    assert max(np.mean(whole[i] == whole[j]) for i in range(6) for j in range(i)) < 0.99
    later = attack(images[:3], 8, method, seed=SEED, numbers=np.arange(3, 6))
    assert np.mean(later == whole[3:]) >= 0.999
    assert np.mean(attack(images, 8, method, seed=SEED + 1) == whole) < 0.99
