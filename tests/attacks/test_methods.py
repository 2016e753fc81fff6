"""Every method that has a name, in one list: what each must keep, and where it has an equal elsewhere."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
from typing import Optional

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from PIL import Image

from hgd_tf.attacks import METHODS, SignGradientAttack, draw_epsilon
from hgd_tf.attacks.methods import (
    FROM_UNIFORM,
    Schedule,
    adaptive_ifgsm,
    decayed_ifgsm,
    fgsm,
    ifgsm,
    linear_decay,
    momentum_ifgsm,
    no_op,
    projected_gradient_descent,
    sign_noise,
)
from hgd_tf.attacks.sign_gradient import TARGETED_LABELS, UNTARGETED_LABELS
from hgd_tf.crafting.shards import encode_png
from hgd_tf.data import load_fashion_mnist
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

EQUAL_PIXELS = 0.999
CONFORMANCE = (
    "no_op", "sign_noise", "fgsm", "ifgsm2", "ifgsm4", "ifgsm5", "ifgsm8", "ifgsm10", "ifgsm20",
    "momentum_ifgsm4", "momentum_ifgsm10", "diverse_ifgsm4", "invariant_ifgsm4",
    "diverse_invariant_momentum_ifgsm4", "diverse_invariant_momentum_ifgsm10", "difgsm4",
    "adaifgsm2", "adaifgsm3", "adaifgsm5", "pgd20", "pgd20_restarts5",
)  # fmt: skip
TRANSFERRING = (
    "nesterov_ifgsm10", "scale_momentum_ifgsm10", "scale_nesterov_ifgsm10", "scale_nesterov_diverse_invariant_ifgsm10",
    "admix_momentum_ifgsm10", "variance_momentum_ifgsm10", "variance_nesterov_ifgsm10",
)  # fmt: skip
DIVERSE = ("diverse_ifgsm4", "diverse_invariant_momentum_ifgsm4", "diverse_invariant_momentum_ifgsm10")
RANDOM = ("sign_noise", "pgd20", "pgd20_restarts5", *DIVERSE, *TRANSFERRING[3:])
COUNT = 16
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TRANSFERRING]  # by the gradients that each step takes
every_method = pytest.mark.parametrize("name", [*CONFORMANCE, *SLOW])
every_attack = pytest.mark.parametrize(
    "name", [*(name for name in CONFORMANCE if name not in ("no_op", "sign_noise")), *SLOW]
)


def test_every_named_method_is_in_the_list():
    assert {*CONFORMANCE, *TRANSFERRING} == set(METHODS)


@functools.cache
def network() -> keras.Model:
    return load_target("mini_vgg")


@functools.cache
def attack(label: str = "true") -> SignGradientAttack:
    """Each label compiles a loop of its own, so that the tests of every method share `true` and `given`."""
    return SignGradientAttack([network()], label)


@functools.cache
def batch():
    """As many images as epsilons, which are all of 1..16, and their classes."""
    part = load_fashion_mnist().test.head(COUNT)
    return part.images, np.arange(COUNT) + 1, part.labels


@functools.cache
def attacked_batch(name: str, seed: int = 1, batch_size: Optional[int] = None) -> tuple[np.ndarray, list[int]]:
    """What a method makes of the batch, and the numbers of images that it reported."""
    images, epsilon, _ = batch()
    done: list[int] = []
    options = {"seed": seed, "batch_size": batch_size, "on_batch": done.append}
    return attack()(images, epsilon, METHODS[name], answers(images), **options), done


def read_back(image: np.ndarray) -> np.ndarray:
    """What Pillow reads of the PNG file of an image."""
    pixels = np.asarray(Image.open(io.BytesIO(encode_png(image))))
    return pixels.reshape(image.shape)


@functools.cache
def compiled_network():
    loaded = network()  # not while the function is traced: weights are not read there
    return tf.function(lambda images: loaded(images)["logits"], reduce_retracing=True)


def logits_of(images: np.ndarray) -> np.ndarray:
    return compiled_network()(tf.constant(images)).numpy()


def mean_loss(images: np.ndarray, labels: np.ndarray) -> float:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits_of(images))
    return float(tf.reduce_mean(losses))


def answers(images: np.ndarray) -> np.ndarray:
    return logits_of(images).argmax(axis=1)


# --- properties of every method ---


@every_method
def test_the_png_stays_in_the_ball_of_each_image_and_reaches_its_surface(name):
    images, epsilon, _ = batch()
    attacked, _ = attacked_batch(name)
    files = np.stack([read_back(image) for image in attacked])
    assert files.dtype == np.uint8
    distance = np.abs(files.astype(int) - images).max(axis=(1, 2, 3))
    if name == "no_op":
        np.testing.assert_array_equal(files, images)
    elif name.startswith("adaifgsm"):  # IFGSM moves each pixel to and fro
        assert np.all(distance <= epsilon) and np.mean(distance == epsilon) > 0.8
    else:
        np.testing.assert_array_equal(distance, epsilon)


@every_method
def test_the_pixel_range_holds_at_both_ends(name):
    images, _, _ = batch()
    images = np.where(images < 128, 0, 255).astype(np.uint8)
    attacked = attack()(images, 16, METHODS[name], answers(images))
    assert attacked[images == 0].max() <= 16 and attacked[images == 255].min() >= 239


@every_method
def test_the_same_seed_gives_the_same_bytes_and_another_one_where_something_is_drawn_others(name):
    images, epsilon, _ = batch()
    first, other = (attacked_batch(name, seed)[0] for seed in (1, 2))
    np.testing.assert_array_equal(attack()(images, epsilon, METHODS[name], answers(images), seed=1), first)
    assert np.array_equal(first, other) == (name not in RANDOM)


@pytest.mark.numerics
@every_method
def test_the_batch_size_does_not_matter_and_every_image_is_returned_and_reported_once(name):
    whole, _ = attacked_batch(name)
    for size in (7, COUNT - 1):
        part, done = attacked_batch(name, batch_size=size)
        assert part.shape == whole.shape
        assert np.mean(part == whole) >= EQUAL_PIXELS
        assert sum(done) == COUNT


@every_attack
def test_an_untargeted_attack_raises_the_labels_loss(name):
    images, _, _ = batch()
    for label in UNTARGETED_LABELS:
        attacked = attack()(images, 16, METHODS[name], followed(label))
        # Of 28 pixels, a kernel of 15 and copies down to a sixteenth leave less of a gradient.
        least = 0.5 if name == "scale_nesterov_diverse_invariant_ifgsm10" else 1
        assert mean_loss(attacked, followed(label)) > mean_loss(images, followed(label)) + least, label


@every_attack
def test_a_targeted_attack_lowers_its_targets_loss(name):
    images, _, _ = batch()
    for label in TARGETED_LABELS:
        attacked = attack("given")(images, 16, METHODS[name], followed(label))
        assert mean_loss(attacked, followed(label)) < mean_loss(images, followed(label)) - 1, label


@pytest.mark.parametrize("label, alike", [("predicted", "true"), ("least_likely", "given"), ("random", "given")])
def test_what_a_label_follows_might_as_well_be_given(label, alike):
    images, _, _ = batch()
    received = attack(label)(images, 16, METHODS["ifgsm4"])
    assert np.mean(received == attack(alike)(images, 16, METHODS["ifgsm4"], followed(label))) >= EQUAL_PIXELS


@functools.cache
def followed(label: str) -> np.ndarray:
    """The classes of the batch that an attack of that label follows."""
    images, _, labels = batch()
    if label == "random":
        seeds = np.stack([np.zeros(COUNT, np.int64), np.arange(COUNT)], axis=1)
        return attack(label)._follow(tf.cast(images, tf.float32), labels, seeds)
    return {
        "predicted": answers(images),
        "true": labels,
        "least_likely": logits_of(images).argmin(axis=1),
        "given": (labels + 3) % 10,
    }[label]


def test_epsilon_from_1_to_16_reaches_both_ends():
    epsilon = draw_epsilon(400, 1, 16, 0)
    images = np.full((400, 28, 28, 1), 128, np.uint8)
    attacked = SignGradientAttack([])(images, epsilon, sign_noise())
    distance = np.abs(attacked.astype(int) - 128).max(axis=(1, 2, 3))
    assert set(distance) == set(range(1, 17))


# --- one by one ---


def test_sign_noise_is_plus_or_minus_epsilon_with_equal_chance():
    images = np.full((50, 20, 20, 3), 100, np.uint8)
    offsets = SignGradientAttack([])(images, 7, sign_noise()).astype(int) - 100
    assert set(np.unique(offsets)) == {-7, 7}
    assert abs(np.mean(offsets == 7) - 0.5) < 0.01  # standard deviation 0.002
    assert np.mean(offsets[0] == offsets[1]) < 0.6


def test_no_op_needs_no_model():
    images, _, _ = batch()
    np.testing.assert_array_equal(SignGradientAttack([])(images, 16, no_op()), images)


@pytest.mark.numerics
@pytest.mark.parametrize(("epsilon", "count", "decay"), [(16, 10, 0.5), (4, 3, 1.0)])
def test_momentum_is_cleverhans(epsilon, count, decay):
    images, _, _ = batch()
    expected = momentum_iterative_method(
        logits_of_the_network,
        tf.cast(images, tf.float32),
        eps=float(epsilon),
        eps_iter=epsilon / count,
        nb_iter=count,
        clip_min=0.0,
        clip_max=255.0,
        decay_factor=decay,
    )
    received = attack()(images, epsilon, momentum_ifgsm(count, decay), answers(images))
    assert np.mean(received == np.round(expected)) >= EQUAL_PIXELS
    assert np.mean(received == attack()(images, epsilon, ifgsm(count), answers(images))) < 0.99


def logits_of_the_network(images: tf.Tensor) -> tf.Tensor:
    """One function object, since cleverhans traces anew for every other one."""
    return network()(images)["logits"]


class TwoHeads:
    """A linear classifier with an auxiliary head."""

    def __init__(self, seed: int, auxiliary: bool):
        rng = np.random.default_rng(seed)
        self.kernels = {"logits": rng.normal(size=(12, 4)) * 1e-2, "aux_logits": rng.normal(size=(12, 4)) * 3e-2}
        if not auxiliary:
            del self.kernels["aux_logits"]

    def __call__(self, images):
        flat = tf.reshape(images, (-1, 12))
        return {key: flat @ tf.constant(kernel, tf.float32) for key, kernel in self.kernels.items()}


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def two_heads_gradient(models, images: np.ndarray, labels: np.ndarray, weight: float) -> np.ndarray:
    """By hand: that of the mean logits, plus `weight` times that of the mean auxiliary logits of those with a head."""
    total = np.zeros((len(images), 12))
    for key, factor in (("logits", 1.0), ("aux_logits", weight)):
        kernel = np.mean([model.kernels[key] for model in models if key in model.kernels], axis=0)
        probabilities = softmax(images.reshape(len(images), 12) @ kernel)
        total += factor * (probabilities - np.eye(4)[labels]) @ kernel.T
    return total.reshape(images.shape)


def test_auxiliary_heads_count_four_tenths():
    models = [TwoHeads(1, True), TwoHeads(2, False), TwoHeads(3, True)]
    images = np.random.default_rng(0).integers(30, 226, size=(40, 4, 3, 1)).astype(np.uint8)
    labels = np.arange(40) % 4
    received = SignGradientAttack(models, "true")(images, 9, fgsm(), labels).astype(int)

    def by_hand(weight):
        gradient = two_heads_gradient(models, images.astype(np.float64), labels, weight)
        return images + 9 * np.sign(gradient).astype(int)

    np.testing.assert_array_equal(received, by_hand(0.4))
    for weight in (0.0, 0.2, 1.0):
        assert np.mean(received == by_hand(weight)) < 0.999


class Counted:
    """A target that keeps the sizes of the batches it is evaluated on, in the graph too."""

    def __init__(self, model):
        self.model = model
        self.sizes: list[int] = []

    def __call__(self, images):
        tf.py_function(lambda size: self.sizes.append(int(size)), [tf.shape(images)[0]], [])
        return self.model(images)


def test_adaptive_ifgsm_leaves_alone_what_is_fooled():
    """Each image is what the first method that fooled the network made of it, and of the last where none did."""
    images, _, _ = batch()
    rungs = (fgsm(), ifgsm(2), ifgsm(8))
    clean_answers = answers(images)
    received = attack()(images, 4, adaptive_ifgsm(*rungs), clean_answers)
    alone = [attack()(images, 4, rung, clean_answers) for rung in rungs]
    fooled = np.stack([answers(result) != clean_answers for result in alone])
    rung = np.where(fooled.any(axis=0), fooled.argmax(axis=0), len(rungs) - 1)
    assert {0, 2} <= set(rung)
    expected = np.stack([alone[place][number] for number, place in enumerate(rung)])
    assert np.mean(received == expected) >= EQUAL_PIXELS


def test_adaptive_ifgsm_computes_no_image_again_that_is_done():
    images, _, _ = batch()
    counted = Counted(network())
    received = SignGradientAttack([counted])(images, 8, adaptive_ifgsm(fgsm(), ifgsm(4)), batch_size=10)
    left = int(np.sum(answers(attack()(images, 8, fgsm(), answers(images))) == answers(images)))
    assert 0 < left < COUNT and received.shape == images.shape
    # Labels, one step and the judgement of all; then four steps of those that were not fooled.
    assert sum(counted.sizes) == 3 * COUNT + 4 * left


def test_all_models_of_an_ensemble_must_be_fooled():
    images, _, _ = batch()
    other = load_target("mini_resnet")
    ensemble = SignGradientAttack([network(), other])
    first = ensemble(images, 8, fgsm())
    received = ensemble(images, 8, adaptive_ifgsm(fgsm(), ifgsm(10)))
    summed = sum(tf.nn.softmax(model(images)["logits"]) for model in (network(), other))
    label = summed.numpy().argmax(axis=1)
    fooled = np.stack([model(first)["logits"].numpy().argmax(axis=1) != label for model in (network(), other)])
    done, half_done = fooled.all(axis=0), fooled.any(axis=0) & ~fooled.all(axis=0)
    assert done.any() and half_done.any()
    np.testing.assert_array_equal(received[done], first[done])
    assert all(np.mean(received[number] == first[number]) < 0.9 for number in np.flatnonzero(half_done))


def test_restarts_start_elsewhere_and_fool_no_fewer():
    images, _, labels = batch()
    one, five = (attack()(images, 3, projected_gradient_descent(3, 0.5, count), labels) for count in (1, 5))
    fooled_by_one, fooled_by_five = (answers(attacked) != labels for attacked in (one, five))
    assert np.all(fooled_by_five >= fooled_by_one)
    np.testing.assert_array_equal(five[fooled_by_one], one[fooled_by_one])
    stubborn = ~fooled_by_five
    assert stubborn.any() and not np.any(np.all(five[stubborn] == one[stubborn], axis=(1, 2, 3)))
    start = (Schedule((0.0,), FROM_UNIFORM),)
    first, second = (attack()(images[:1], 16, start * count, answers(images[:1])) for count in (1, 2))
    assert np.mean(first == second) < 0.2


# --- schedules ---


@pytest.mark.parametrize("count", [1, 2, 4, 8, 20])
def test_ifgsm_is_k_steps_that_sum_to_epsilon(count):
    assert ifgsm(count) == (Schedule((1 / count,) * count, "image", 0.0, 0.0, 0),)


def test_the_other_schedules_by_hand():
    assert fgsm() == ifgsm(1)
    assert projected_gradient_descent(2, 0.25, 3) == (Schedule((0.25, 0.25), "uniform", 0.0, 0.0, 0),) * 3
    assert momentum_ifgsm(2, 0.9) == (Schedule((0.5, 0.5), "image", 0.9, 0.0, 0),)
    assert decayed_ifgsm([0.7, 0.3]) == (Schedule((0.7, 0.3), "image", 0.0, 0.0, 0),)
    assert adaptive_ifgsm(fgsm(), ifgsm(2)) == fgsm() + ifgsm(2)
    np.testing.assert_allclose(linear_decay(4), (0.4, 0.3, 0.2, 0.1))
    assert sum(linear_decay(10)) == pytest.approx(1.0)


def test_the_named_methods_that_transfer_are_their_authors_choices():
    quarters = ((0.25,) * 4, "image")
    assert METHODS["momentum_ifgsm4"] == momentum_ifgsm(4) == (Schedule(*quarters, 1.0, 0.0, 0),)
    assert METHODS["diverse_ifgsm4"] == (Schedule(*quarters, 0.0, 0.5, 0),)
    assert METHODS["invariant_ifgsm4"] == (Schedule(*quarters, 0.0, 0.0, 15),)
    assert METHODS["diverse_invariant_momentum_ifgsm4"] == (Schedule(*quarters, 1.0, 0.5, 15),)
    tenths = ((0.1,) * 10, "image", 1.0)
    assert METHODS["diverse_invariant_momentum_ifgsm10"] == (Schedule(*tenths, 0.5, 15),)
    for name, options in {
        "nesterov_ifgsm10": {"nesterov": True},
        "scale_momentum_ifgsm10": {"scales": 5},
        "scale_nesterov_ifgsm10": {"nesterov": True, "scales": 5},
        "scale_nesterov_diverse_invariant_ifgsm10": {
            "diversity": 0.5, "translation": 15, "nesterov": True, "scales": 5,
        },
        "admix_momentum_ifgsm10": {"scales": 5, "admix": 0.2, "admix_images": 3},
        "variance_momentum_ifgsm10": {"neighbours": 20, "neighbourhood": 1.5},
        "variance_nesterov_ifgsm10": {"nesterov": True, "neighbours": 20, "neighbourhood": 1.5},
    }.items():  # fmt: skip
        assert METHODS[name] == (Schedule(*tenths, **options),), name


@pytest.mark.parametrize(
    "options",
    [
        {"diversity": 1.5}, {"diversity": -0.1}, {"translation": 4}, {"translation": -1}, {"scales": 0},
        {"admix": -0.1}, {"admix_images": 0}, {"neighbours": -1}, {"neighbourhood": -1.0},
        {"momentum": 0.0, "nesterov": True},
    ],
)  # fmt: skip
def test_an_option_that_makes_no_method_is_an_error(options):
    with pytest.raises(ValueError, match=f"received {next(iter(options.values()))}"):
        ifgsm(4, **options)


def test_appendix_ds_methods_are_those_of_its_list():
    difgsm4, difgsm10 = decayed_ifgsm(linear_decay(4)), decayed_ifgsm(linear_decay(10))
    assert METHODS["difgsm4"] == difgsm4
    assert METHODS["adaifgsm2"] == difgsm4 + ifgsm(10)
    assert METHODS["adaifgsm3"] == difgsm4 + difgsm10 + ifgsm(20)
    assert METHODS["adaifgsm5"] == fgsm() + ifgsm(2) + ifgsm(4) + ifgsm(8) + ifgsm(20)


@pytest.mark.parametrize("method", [ifgsm, momentum_ifgsm, linear_decay, lambda n: projected_gradient_descent(n, 0.1)])
@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_step_is_an_error(method, count):
    with pytest.raises(ValueError, match=f"at least 1, received {count}"):
        method(count)


# --- several devices ---

ON_TWO_DEVICES = """
import json
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from hgd_tf.attacks import METHODS, SignGradientAttack
from hgd_tf.data import load_fashion_mnist
from hgd_tf.targets import load_target

images = load_fashion_mnist().test.images[:13]
equal = {}
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    shared = SignGradientAttack([load_target("mini_inception")])
alone = SignGradientAttack([load_target("mini_inception")])
names = ("ifgsm4", "diverse_invariant_momentum_ifgsm4", "adaifgsm2", "pgd20", "sign_noise")
for name in (*names, "admix_momentum_ifgsm10", "variance_nesterov_ifgsm10"):
    # The last batch holds one image, so that a replica gets none.
    pair = [attack(images, 8, METHODS[name], seed=3, batch_size=6) for attack in (shared, alone)]
    equal[name] = float(np.mean(pair[0] == pair[1]))
print(json.dumps([shared._strategy.num_replicas_in_sync, equal]))
"""


@pytest.mark.slow  # replicas take long to compile
def test_two_devices_give_what_one_gives():
    done = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    replicas, equal = json.loads(done.stdout.splitlines()[-1])
    assert replicas == 2
    # Differences of nearly equal gradients magnify what another order of sums rounds.
    assert equal.pop("variance_nesterov_ifgsm10") >= 0.99
    assert min(equal.values()) >= EQUAL_PIXELS, equal
