"""Attacks on floats: losses by hand, steps against cleverhans and a NumPy Auto-PGD, what every result must keep."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from hgd_tf.attacks import LOSSES, GradientAttack
from hgd_tf.attacks.ascent import checkpoints
from hgd_tf.data import load_fashion_mnist
from hgd_tf.defenses import load_defense
from hgd_tf.targets import load_target

COUNT, CLASSES, LEEWAY = 24, 10, 1e-3  # of float32 pixels
EPSILON = {"linf": 1.5, "l2": 60.5}


@functools.cache
def model(name: str):
    return load_defense(name) if name.endswith("_lgd") else load_target(name)


@functools.cache
def fashion() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_fashion_mnist().test.head(COUNT)
    return np.asarray(images, np.float32), np.asarray(labels)


def lengths(offsets: np.ndarray, norm: str) -> np.ndarray:
    flat = offsets.reshape(len(offsets), -1).astype(np.float64)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.sqrt((flat**2).sum(axis=1))


def answers(name: str, images: np.ndarray) -> np.ndarray:
    return model(name)(tf.constant(images))["logits"].numpy().argmax(axis=1)


def numpy_losses(z: np.ndarray, y: int, t: int) -> dict[str, float]:
    """Of one image's logits."""
    first, _, third, fourth = np.sort(z)[::-1][:4]
    log_sum = np.log(np.exp(z).sum())
    return {
        "cross_entropy": log_sum - z[y],
        "targeted_cross_entropy": z[t] - log_sum,
        "margin": np.delete(z, y).max() - z[y],
        "targeted_margin": z[t] - np.delete(z, t).max(),
        "dlr": (np.delete(z, y).max() - z[y]) / (first - third),
        "targeted_dlr": (z[t] - z[y]) / (first - (third + fourth) / 2),
    }


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_hand(name):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (20, 7)), rng.integers(0, 7, 20)
    targets = (labels + rng.integers(1, 7, 20)) % 7
    expected = [numpy_losses(z, y, t)[name] for z, y, t in zip(logits, labels, targets)]
    actual = LOSSES[name](tf.constant(logits, tf.float32), tf.constant(labels), tf.constant(targets))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "classes"), [("dlr", 2), ("targeted_dlr", 3)])
def test_losses_of_too_few_classes_say_so(name, classes):
    with pytest.raises(ValueError, match=f"'{name}' needs at least {classes + 1} classes, received .* {classes}"):
        LOSSES[name](tf.zeros((2, classes)), tf.constant([0, 1]), tf.constant([1, 0]))


WAYS = [
    {"norm": "linf", "rule": "pgd", "momentum": 1.0},
    {"norm": "l2", "rule": "pgd", "rounding": True},
    {"norm": "linf", "rule": "apgd", "loss": "targeted_dlr", "targets": 2, "rounding": True},
    {"norm": "l2", "rule": "apgd", "loss": "dlr", "restarts": 2, "early_stop": True},
]


@functools.cache
def attack(name: str, way: int, steps: int = 4) -> GradientAttack:
    return GradientAttack(model(name), steps=steps, **WAYS[way])


OF_WAY = ("mini_inception", "mini_inception_lgd", "mini_inception_lgd", "mini_inception")


@pytest.mark.parametrize(("way", "name"), enumerate(OF_WAY))
def test_results_are_in_the_ball_and_the_range_and_what_they_are_said_to_be(way, name):
    images, labels = fashion()
    found = attack(name, way)
    epsilon = np.linspace(0, EPSILON[found.norm], COUNT)
    done = []
    result = found(images, labels, epsilon, batch_size=10, on_batch=done.append)
    assert np.all(lengths(result.images - images, found.norm) <= epsilon + LEEWAY)
    assert result.images.min() >= 0 and result.images.max() <= 255 and sum(done) == COUNT
    np.testing.assert_array_equal(answers(name, result.images) != labels, result.fooled)
    if found.rounding:
        assert np.array_equal(result.images, np.round(result.images))
    missed = answers(name, images) != labels
    runs = found.restarts * max(found.targets, 1)
    assert np.all(result.gradients[missed] == 0) and np.all(result.queries[missed] == 1)
    assert np.all(result.gradients[~result.fooled] == 5 * runs)
    assert np.all(result.queries[~result.fooled] == 1 + (5 + found.rounding) * runs)
    assert 0 < result.fooled.mean() < 1 and result.losses.shape == (5,)
    assert result.losses[1:].max() > result.losses[0]


@pytest.mark.parametrize("way", [0, 3])
def test_an_image_is_attacked_alike_in_any_batch(way):
    images, labels = fashion()
    epsilon, numbers = EPSILON[WAYS[way]["norm"]], np.arange(COUNT) + 100
    found = attack(OF_WAY[way], way)
    whole = found(images, labels, epsilon, seed=3, numbers=numbers)
    some = np.arange(COUNT)[::-3]
    again = found(images[some], labels[some], epsilon, seed=3, numbers=numbers[some], batch_size=3)
    assert (np.abs(again.images - whole.images[some]) < 0.01).mean() > 0.999
    np.testing.assert_array_equal(again.fooled, whole.fooled[some])
    other = found(images, labels, epsilon, seed=4, numbers=numbers)
    assert np.abs(other.images - whole.images).max() > 0.1


@pytest.mark.parametrize("rule", ["pgd", "apgd"])
def test_stopped_early_the_same_images_are_fooled_by_fewer_steps(rule):
    images, labels = fashion()
    whole, early = (
        GradientAttack(model("mini_inception"), rule=rule, steps=12, step=0.25, early_stop=stop)(images, labels, 4.0)
        for stop in (False, True)
    )
    np.testing.assert_array_equal(early.fooled, whole.fooled)
    np.testing.assert_array_equal(early.gradients[~early.fooled], 13)
    attacked = early.fooled & (early.gradients > 0)
    assert attacked.sum() >= 5 and early.gradients[attacked].mean() < 9 and early.gradients[attacked].min() >= 1
    np.testing.assert_array_equal(answers("mini_inception", early.images) != labels, early.fooled)
    assert early.losses[-1] < whole.losses[-1] and np.all(np.isfinite(early.losses))


@pytest.mark.parametrize(("norm", "order", "alike"), [("linf", np.inf, 0.999), ("l2", 2, 0.9)])
def test_projected_gradient_descent_is_cleverhans(norm, order, alike):
    """Its iterates after 0, 1, … steps: their mean losses, and of each image the one to keep.

    Signs absorb the rounding errors of gradients, L2 steps carry them on.
    """
    images, labels = fashion()
    right = answers("mini_vgg", images) == labels
    images, labels, epsilon, steps = images[right], labels[right], EPSILON[norm], 3
    result = GradientAttack(model("mini_vgg"), norm=norm, steps=steps, step=0.4, random_start=False)(
        images, labels, epsilon
    )

    def logits(points):
        return model("mini_vgg")(points)["logits"]

    bounds = {"clip_min": 0.0, "clip_max": 255.0, "y": labels, "rand_init": False, "sanity_checks": False}
    iterates = [images] + [
        projected_gradient_descent(logits, images, epsilon, 0.4 * epsilon, n, order, **bounds).numpy()
        for n in range(1, steps + 1)
    ]
    answered = np.stack([logits(tf.constant(points)).numpy() for points in iterates])
    losses = np.stack([LOSSES["cross_entropy"](z, labels).numpy() for z in answered])
    np.testing.assert_allclose(result.losses, losses.mean(axis=1), rtol=1e-3)
    kept = (losses + 1e3 * (answered.argmax(axis=-1) != labels)).argmax(axis=0)
    expected = np.stack(iterates)[kept, np.arange(len(images))]
    assert (np.abs(result.images - expected) < 0.1).mean() > alike


def linear_model(weights: np.ndarray):
    return lambda images: {"logits": tf.reshape(images, (-1, weights.shape[0])) @ weights.astype(np.float32) / 50}


def numpy_apgd(weights, image, label: int, epsilon: float, steps: int, norm: str) -> list[float]:
    """Losses along Auto-PGD's iterates on one flat image, from the paper's text, without a random start."""

    def evaluate(x):
        z = x @ weights / 50
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return -np.log(p[label]), weights @ (p - np.eye(len(z))[label]) / 50

    def into_ball(x):
        offset = x.clip(0, 255) - image
        if norm == "linf":
            offset = offset.clip(-epsilon, epsilon)
        else:
            offset = offset * min(1, epsilon / max(np.linalg.norm(offset), 1e-12))
        return image + offset

    def unit(g):
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    now, before, step, window = image, image, 2 * epsilon, max(int(0.22 * steps), 1)
    loss, gradient = evaluate(now)
    best, best_loss, best_gradient = now, loss, gradient
    losses, check_at, at_check, halved = [loss], window, loss, True
    for i in range(steps):
        ahead = into_ball(now + step * unit(gradient))
        alpha = 0.75 if i else 1.0
        now, before = into_ball(now + alpha * (ahead - now) + (1 - alpha) * (now - before)), now
        loss, gradient = evaluate(now)
        losses.append(loss)
        if loss > best_loss:
            best, best_loss, best_gradient = now, loss, gradient
        if i + 1 == check_at:
            rises = np.sum(np.diff(losses[-window - 1 :]) > 0)
            halved = rises <= 0.75 * window or (not halved and at_check >= best_loss)
            if halved:
                step, now, gradient = step / 2, best, best_gradient
            at_check = best_loss
            window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
            check_at += window
    return losses


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_auto_pgd_is_its_numpy_model(norm):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 5))
    images = rng.uniform(0, 255, (6, 16))
    labels = (images.astype(np.float32) @ weights).argmax(axis=1)
    epsilon = {"linf": 30.0, "l2": 90.0}[norm]
    expected = [numpy_apgd(weights, x, y, epsilon, 40, norm) for x, y in zip(images, labels)]
    found = GradientAttack(linear_model(weights), norm=norm, rule="apgd", steps=40, random_start=False)
    for i, losses in enumerate(expected):
        result = found(images[i].reshape(1, 4, 4, 1), labels[i : i + 1], epsilon)
        np.testing.assert_allclose(result.losses, losses, rtol=2e-3, atol=1e-4)


def test_checkpoints_are_auto_attacks():
    lengths = checkpoints(100)
    assert list(np.flatnonzero(lengths) + 1) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(lengths[lengths > 0]) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert checkpoints(1).tolist() == [1]


@pytest.mark.slow
def test_more_steps_and_targets_are_stronger():
    images, labels = fashion()

    def loss_and_fooled(**options) -> tuple[float, int]:
        result = GradientAttack(model("mini_vgg"), random_start=False, **options)(images, labels, 1.5)
        logits = model("mini_vgg")(tf.constant(result.images))["logits"]
        return float(tf.reduce_mean(LOSSES["margin"](logits, labels))), int(result.fooled.sum())

    one = loss_and_fooled(steps=1, step=1.0)
    ten = loss_and_fooled(steps=10, rule="apgd")
    assert one[0] < ten[0] and one[1] <= ten[1]
    assert loss_and_fooled(steps=10, rule="apgd", loss="targeted_dlr", targets=4)[1] >= ten[1] - 1


def test_the_gradient_of_a_random_model_is_a_mean():
    """Noise of every call hides a small slope, which the mean of many shows."""
    weights = np.repeat([[1.0, -1.0]], 16, axis=0)

    def noisy(images):
        noise = tf.random.normal((16, 2), stddev=6.0)
        return {"logits": tf.reshape(images, (-1, 16)) @ (tf.constant(weights, tf.float32) + noise) / 50}

    images, labels = np.full((8, 4, 4, 1), 128.0), np.zeros(8, int)
    tf.random.set_seed(1)
    moved = [
        np.mean(
            (GradientAttack(noisy, loss="margin", steps=1, random_start=False, expectation=count)
             (images, labels, 8.0)).images < 128
        )
        for count in (1, 400)
    ]  # fmt: skip
    assert moved[1] > moved[0]


BAD = [
    ({"loss": "hinge"}, "loss must be one of"),
    ({"norm": "l1"}, "norm must be one of"),
    ({"rule": "fgsm"}, "rule must be one of"),
    ({"steps": 0}, "steps must be an integer of at least 1, received 0"),
    ({"targets": 2}, "targeted losses go with targets"),
    ({"loss": "targeted_margin"}, "targeted losses go with targets"),
    ({"restarts": 2, "random_start": False}, "received restarts=2"),
    ({"momentum": 0.5, "rule": "apgd"}, "received momentum=0.5"),
    ({"step": -1.0}, "step must be positive"),
    ({"rounding": True, "early_stop": True}, "rounding may undo what early_stop ends with"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GradientAttack(linear_model(np.ones((4, 3))), **options)


BAD_CALLS = [
    ({"epsilon": -1.0}, "epsilon must be at least 0"),
    ({"epsilon": [1.0, 2.0]}, r"received shape \(2,\)"),
    ({"labels": [0]}, "labels must be 3 integers"),
    ({"labels": [0, 1, 3]}, r"labels must be in \[0, 3\)"),
    ({"images": np.zeros((3, 4))}, "images must be"),
    ({"images": np.full((3, 2, 2, 1), 0.5)}, "needs images of integer pixels"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_CALLS)
@pytest.mark.filterwarnings("ignore:expected images")
def test_bad_arguments_are_named(changed, message):
    arguments = {"images": np.zeros((3, 2, 2, 1)), "labels": [0, 1, 2], "epsilon": 1.0, **changed}
    with pytest.raises(ValueError, match=message):
        GradientAttack(linear_model(np.ones((4, 3))), rounding=True)(**arguments)


def test_of_no_images_nothing_is_attacked():
    result = GradientAttack(linear_model(np.ones((4, 3))))(np.zeros((0, 2, 2, 1)), np.zeros(0, int), 1.0)
    assert result.images.shape == (0, 2, 2, 1) and len(result.fooled) == 0
