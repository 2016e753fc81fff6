"""What makes gradients transfer, against NumPy; and the loop that follows them, by hand on linear classifiers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.attacks import SignGradientAttack
from hgd_tf.attacks.draws import partners
from hgd_tf.attacks.methods import ifgsm, momentum_ifgsm
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


# --- momentum's variants, from their papers ---

VARIANTS = {
    "nesterov": {"nesterov": True},
    "scales": {"scales": 5},
    "scales and nesterov": {"nesterov": True, "scales": 3},
    "admix": {"scales": 2, "admix": 0.2, "admix_images": 3},
    "variance": {"neighbours": 4},
    "variance and nesterov": {"nesterov": True, "neighbours": 3, "neighbourhood": 0.7},
    "all of them": {"nesterov": True, "scales": 2, "admix": 0.3, "admix_images": 2, "neighbours": 2},
}
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())


@functools.cache
def mini(name: str = "mini_vgg"):
    return load_target(name)


@functools.cache
def mini_attack() -> SignGradientAttack:
    return SignGradientAttack([mini()], "true")


@functools.cache
def compiled_gradient():
    network = mini()  # not while the function is traced: weights are not read there

    @tf.function(reduce_retracing=True)
    def gradient(images, labels):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = network(images)["logits"]
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return tape.gradient(loss, images)

    return lambda images, labels: gradient(tf.constant(images, tf.float32), tf.constant(labels)).numpy()


def from_the_papers(images, labels, epsilon, count, *, nesterov=False, scales=1, eta=0.0, others=None, around=None):
    """MI, NI, SI, Admix and VT together.

    Args:
      others: of a step, the arrays of images to mix in.
      around: of a step, the arrays by which the neighbours are away.
    """
    gradient, alpha = compiled_gradient(), epsilon / count
    clean = images.astype(np.float64)
    attacked, kept, variance = clean, 0.0, 0.0

    def mean_gradient(point, step):
        mixtures = [point + eta * other for other in others(step)] if others else [point]
        copies = [(mixture, 2.0**i) for mixture in mixtures for i in range(scales)]
        return np.mean([gradient(mixture / divisor, labels) / divisor for mixture, divisor in copies], axis=0)

    for step in range(count):
        point = attacked + alpha * kept if nesterov else attacked
        here = mean_gradient(point, step)
        tuned = here + variance
        if around:
            variance = np.mean([mean_gradient(point + away, step) for away in around(step)], axis=0) - here
        size = np.abs(tuned).mean(axis=(1, 2, 3), keepdims=True)
        kept = kept + np.divide(tuned, size, out=np.zeros_like(tuned), where=size > 0)
        attacked = np.clip(attacked + alpha * np.sign(kept), clean - epsilon, clean + epsilon).clip(0, 255)
    return np.round(attacked).astype(np.uint8)


def its_own_draws(images, classes, epsilon, count, *, admix=0.0, admix_images=3, neighbours=0, neighbourhood=1.5):
    """The attack's draws, as the functions of a step that the papers' loop takes."""
    seeds = np.stack([np.full(len(images), SEED), np.arange(len(images))], axis=1)
    picks = partners(classes, classes, seeds, (count, admix_images))

    def offset(seed, number):
        folded = tf.random.experimental.stateless_fold_in(tf.constant(seed), tf.constant(number, tf.int64))
        return neighbourhood * epsilon * tf.random.stateless_uniform(images.shape[1:], folded, -1.0, 1.0).numpy()

    def around(step):
        for number in range(neighbours):
            yield np.stack([offset(seed, step * neighbours + number) for seed in seeds])

    return {
        "eta": admix,
        "others": (lambda step: images[picks[:, step]].swapaxes(0, 1)) if admix else None,
        "around": (lambda step: list(around(step))) if neighbours else None,
    }


@every_variant
def test_a_variant_is_its_papers_loop(options):
    part = load_fashion_mnist().test.head(10)
    received = mini_attack()(part.images, 16, ifgsm(3, momentum=1.0, **options), part.labels, seed=SEED, batch_size=7)
    fixed = {name: options[name] for name in ("nesterov", "scales") if name in options}
    drawn = {name: value for name, value in options.items() if name not in fixed}
    classes = mini()(part.images.astype(np.float32))["logits"].numpy().argmax(axis=1)
    draws = its_own_draws(part.images, classes, 16, 3, **drawn)
    expected = from_the_papers(part.images, part.labels, 16, 3, **fixed, **draws)
    assert np.mean(received == expected) >= 0.999
    assert np.mean(from_the_papers(part.images, part.labels, 16, 3) == expected) < 0.99


def test_with_options_that_do_nothing_each_variant_is_momentum_ifgsm():
    part = load_fashion_mnist().test.head(10)
    plain = mini_attack()(part.images, 8, momentum_ifgsm(3), part.labels, seed=SEED)
    neutral = {"scales": 1, "admix": 0.0, "admix_images": 2, "neighbours": 0, "neighbourhood": 3.0}
    same = mini_attack()(part.images, 8, ifgsm(3, momentum=1.0, **neutral), part.labels, seed=SEED)
    np.testing.assert_array_equal(same, plain)
    for options in ({"admix": 0.2}, {"neighbours": 3, "neighbourhood": 0.0}):
        method, black = ifgsm(3, momentum=1.0, **options), np.zeros_like(part.images)
        nearly = mini_attack()(part.images, 8, method, part.labels, seed=SEED, mix_with=black)
        assert np.mean(nearly == plain) >= 0.999, options  # but for the rounding of means


def test_images_that_are_given_to_mix_in_leave_no_trace_of_the_others_of_a_call():
    test = load_fashion_mnist().test
    images, labels, pool = test.images[:6], test.labels[:6], test.images[20:40]
    method = ifgsm(2, momentum=1.0, admix=0.4, neighbours=2)
    whole, alone = (
        mini_attack()(images[part], 16, method, labels[part], seed=SEED, numbers=np.arange(6)[part], mix_with=pool)
        for part in (slice(None), slice(4, 5))
    )
    assert np.mean(whole[4:5] == alone) >= 0.999
    assert np.mean(mini_attack()(images[4:5], 16, method, labels[4:5], seed=SEED, numbers=[4]) == alone) < 0.99
    with pytest.raises(ValueError, match=r"images of shape \(28, 28, 1\) to mix with, received \(20, 27, 28, 1\)"):
        mini_attack()(images, 16, method, labels, mix_with=pool[:, 1:])


def test_partners_are_of_another_class_where_there_is_one_and_of_every_such():
    seeds = np.stack([np.full(3, SEED), np.arange(3)], axis=1)
    picks = partners(np.array([0, 1, 2]), np.array([0, 1, 1, 0]), seeds, (20, 2))
    assert [set(pick.ravel()) for pick in picks] == [{1, 2}, {0, 3}, {0, 1, 2, 3}]
    assert set(partners(np.array([3]), np.array([3, 3]), seeds[:1], (20, 2)).ravel()) == {0, 1}
    np.testing.assert_array_equal(partners(np.array([2]), np.array([0, 1, 1, 0]), seeds[2:], (20, 2)), picks[2:])


@pytest.mark.slow  # thousands of gradients
@pytest.mark.parametrize("options", [{"scales": 2, "admix": 0.2}, {"neighbours": 20}], ids=["admix", "variance"])
def test_a_random_variant_transfers_as_often_as_its_papers_loop_on_other_draws(options):
    part, epsilon = load_fashion_mnist().test.head(100), 24
    [schedule] = method = ifgsm(4, momentum=1.0, **options)
    generator, shape = np.random.default_rng(7), (schedule.neighbours, *part.images.shape)
    drawn = {
        "eta": schedule.admix,
        "others": (lambda step: [generator.permutation(part.images) for _ in range(3)]) if schedule.admix else None,
        "around": (lambda step: 1.5 * epsilon * generator.uniform(-1, 1, shape)) if schedule.neighbours else None,
    }
    received, expected = [], []
    for seed in range(5):  # with one of them the rate is 1.3 points off, in the standard deviation
        attacked = mini_attack()(part.images, epsilon, method, part.labels, seed=seed)
        received.append(success_on_another_network(attacked, part.labels))
        attacked = from_the_papers(part.images, part.labels, epsilon, 4, scales=schedule.scales, **drawn)
        expected.append(success_on_another_network(attacked, part.labels))
    clean = success_on_another_network(part.images, part.labels)
    assert clean + 0.1 < min(received + expected) and max(received + expected) < 0.95
    assert abs(np.mean(received) - np.mean(expected)) <= 0.02, (received, expected)


def success_on_another_network(attacked: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(mini("mini_resnet")(attacked.astype(np.float32))["logits"].numpy().argmax(axis=1) != labels))
