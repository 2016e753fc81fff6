"""The attack loop against cleverhans, against a NumPy model of it, and the properties that every attack must have."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from hgd_tf.attacks import SignGradientAttack, draw_epsilon
from hgd_tf.attacks.methods import FROM_IMAGE, FROM_UNIFORM, Method, Schedule, decayed_ifgsm, fgsm, ifgsm
from hgd_tf.attacks.sign_gradient import LABELS, TARGETED_LABELS
from hgd_tf.data import LabeledImages, load_fashion_mnist
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

CLASSES = 10
EQUAL_PIXELS = 0.999  # eager and compiled graphs, and other batch sizes, may flip the sign of a gradient near 0
METHODS = {
    "fgsm": fgsm(),
    "ifgsm4": ifgsm(4),
    "beyond epsilon": decayed_ifgsm((0.5,) * 5),
    "decaying": decayed_ifgsm((0.4, 0.3, 0.2, 0.1)),
}
MODES = [(label, start) for label in LABELS for start in (FROM_IMAGE, FROM_UNIFORM)]
every_mode = pytest.mark.parametrize(("label", "start"), MODES)
every_schedule = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def started(method: Method, start: str) -> Method:
    return tuple(schedule._replace(start=start) for schedule in method)


@pytest.fixture(scope="module")
def mini_vgg():
    return load_target("mini_vgg")


@pytest.fixture(scope="module")
def mini_resnet():
    return load_target("mini_resnet")


@pytest.fixture(scope="module")
def fashion() -> LabeledImages:
    return load_fashion_mnist().test.head(24)


@functools.cache
def small_network() -> keras.Model:
    """A random convolutional classifier of 9x7 images of 2 channels."""
    keras.utils.set_random_seed(3)
    images = keras.Input((9, 7, 2))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(images)
    x = keras.layers.Conv2D(8, 3, activation="tanh", kernel_initializer="he_normal")(x)
    x = keras.layers.Conv2D(8, 3, activation="tanh", kernel_initializer="he_normal")(x)
    logits = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(x))
    return keras.Model(images, {"logits": logits})


@functools.cache
def small_attack(label: str) -> SignGradientAttack:
    """One object a mode, so that every test of the mode shares its compiled loop."""
    return SignGradientAttack([small_network()], label)


class Batch(NamedTuple):
    """Arguments of an attack on `small_network`."""

    images: np.ndarray
    epsilon: np.ndarray
    labels: np.ndarray


@functools.cache
def small_batch(count: int = 11) -> Batch:
    """Noise in which both ends of the pixel range are frequent, with every epsilon from 0 on."""
    rng = np.random.default_rng(5)
    images = np.clip(rng.integers(-60, 316, size=(count, 9, 7, 2)), 0, 255).astype(np.uint8)
    return Batch(images, np.arange(count), rng.integers(CLASSES, size=count))


class LinearClassifier:
    """logits = x W + b, with the kernel and bias at hand."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray):
        self.kernel, self.bias = kernel, bias

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        flat = tf.reshape(images, (-1, len(self.kernel)))
        return {"logits": flat @ tf.constant(self.kernel, tf.float32) + tf.constant(self.bias, tf.float32)}

    def logits(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float64) @ self.kernel + self.bias


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def mean_logit_gradient(models, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the cross-entropy of the mean logits by hand: (softmax(z) - onehot) W^T of the mean classifier."""
    probabilities = softmax(np.mean([model.logits(images) for model in models], axis=0))
    kernel = np.mean([model.kernel for model in models], axis=0)
    return ((probabilities - np.eye(kernel.shape[1])[labels]) @ kernel.T).reshape(images.shape)


def mean_loss_gradient(models, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the mean of the models' own cross-entropies: what an ensemble attack must not follow."""
    return np.mean([mean_logit_gradient([model], images, labels) for model in models], axis=0)


def numpy_attack(gradient, images, labels, epsilon, steps, sign: int = 1) -> np.ndarray:
    """The loop of section 2.1 in NumPy; positions in float32, as the library has them."""
    images = images.astype(np.float32)
    radius = np.asarray(epsilon, np.float32).reshape(-1, 1, 1, 1)
    lowest, highest = np.maximum(images - radius, 0), np.minimum(images + radius, 255)
    attacked = images
    for step in steps:
        direction = sign * np.sign(gradient(attacked, labels)).astype(np.float32)
        attacked = np.clip(attacked + np.float32(step) * radius * direction, lowest, highest)
    return np.round(attacked).astype(np.uint8)


def linear_models(count: int) -> list[LinearClassifier]:
    """Random linear classifiers of 4x3 images, each much steeper than the last."""
    rng = np.random.default_rng(count)
    return [
        LinearClassifier(rng.normal(size=(12, 4)) * 2e-3 * 3.0**number, rng.normal(size=4) * 0.2)
        for number in range(count)
    ]


def linear_images(count: int = 18) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    images = np.clip(rng.integers(-50, 306, size=(count, 4, 3, 1)), 0, 255).astype(np.uint8)
    return images, np.arange(count) % 17


def stripes_classifier() -> LinearClassifier:
    """The logit of class c is the mean of row c of a 10x4 image, over 20: the rows tell which class was followed."""
    return LinearClassifier(np.kron(np.eye(CLASSES), np.ones((4, 1))) / 80, np.zeros(CLASSES))


def stripes_images(count: int) -> np.ndarray:
    """10x4 images whose rows are constant, in random order, 20 apart, far from both ends of the pixel range."""
    rng = np.random.default_rng(count)
    rows = np.stack([rng.permutation(CLASSES) for _ in range(count)]) * 20 + 30
    return np.broadcast_to(rows[:, :, np.newaxis, np.newaxis], (count, CLASSES, 4, 1)).astype(np.uint8)


def rows_of(images: np.ndarray) -> np.ndarray:
    return images.astype(int).mean(axis=(2, 3))


def row_moved_alone(images: np.ndarray, attacked: np.ndarray, direction: int) -> np.ndarray:
    """The class whose row moved in `direction` while every other row moved the other way, of each image."""
    moves = np.sign(rows_of(attacked) - rows_of(images)) * direction
    assert np.all(np.sum(moves == 1, axis=1) == 1)
    assert np.all(np.sum(moves == -1, axis=1) == CLASSES - 1)
    return moves.argmax(axis=1)


def equal_fraction(first, second) -> float:
    return float(np.mean(np.asarray(first) == np.asarray(second)))


def cross_entropy(model, images: np.ndarray, labels: np.ndarray) -> float:
    logits = model(tf.cast(images, tf.float32))["logits"]
    return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)))


# --- cleverhans ---


def cleverhans_fgsm(model_fn, images, epsilon: int, **labels) -> np.ndarray:
    attacked = fast_gradient_method(
        model_fn, images.astype(np.float32), float(epsilon), np.inf, clip_min=0.0, clip_max=255.0, **labels
    )
    return np.round(attacked).astype(np.uint8)


def cleverhans_ifgsm(model_fn, images, epsilon: int, count: int, **labels) -> np.ndarray:
    attacked = projected_gradient_descent(
        model_fn,
        tf.cast(images, tf.float32),
        float(epsilon),
        epsilon / count,
        count,
        np.inf,
        clip_min=0.0,
        clip_max=255.0,
        rand_init=False,
        **labels,
    )
    return np.round(attacked).astype(np.uint8)


@pytest.fixture(scope="module")
def predicted_attack(mini_vgg):
    return SignGradientAttack([mini_vgg])


@pytest.fixture(scope="module")
def mini_logits(mini_vgg):
    """One function object, since cleverhans traces anew for every other one."""
    return lambda images: mini_vgg(images)["logits"]


@pytest.mark.numerics
@pytest.mark.parametrize("epsilon", [1, 4, 16])
def test_fgsm_is_cleverhans_fast_gradient_method(predicted_attack, mini_logits, fashion, epsilon):
    expected = cleverhans_fgsm(mini_logits, fashion.images, epsilon)
    received = predicted_attack(fashion.images, epsilon)
    assert equal_fraction(received, expected) >= EQUAL_PIXELS
    assert equal_fraction(received, fashion.images) < 0.9


@pytest.mark.numerics
@pytest.mark.parametrize(("epsilon", "count"), [(16, 4), (4, 2), (1, 8), (10, 3)])
def test_ifgsm_is_cleverhans_projected_gradient_descent(predicted_attack, mini_logits, fashion, epsilon, count):
    expected = cleverhans_ifgsm(mini_logits, fashion.images, epsilon, count)
    received = predicted_attack(fashion.images, epsilon, ifgsm(count))
    assert equal_fraction(received, expected) >= EQUAL_PIXELS
    assert equal_fraction(received, fashion.images) < 0.95


@pytest.mark.numerics
@pytest.mark.parametrize("targeted", [False, True])
def test_with_labels_the_attack_is_cleverhans_with_y(mini_vgg, mini_logits, fashion, targeted):
    labels = (fashion.labels + targeted) % CLASSES
    attack = SignGradientAttack([mini_vgg], "given" if targeted else "true")
    one_step = cleverhans_fgsm(mini_logits, fashion.images, 8, y=labels, targeted=targeted)
    four_steps = cleverhans_ifgsm(mini_logits, fashion.images, 16, 4, y=labels, targeted=targeted)
    assert equal_fraction(attack(fashion.images, 8, labels=labels), one_step) >= EQUAL_PIXELS
    assert equal_fraction(attack(fashion.images, 16, ifgsm(4), labels), four_steps) >= EQUAL_PIXELS


@pytest.mark.numerics
def test_ensemble_is_cleverhans_on_the_mean_logits(mini_vgg, mini_resnet, fashion):
    models = [mini_vgg, mini_resnet]
    attack = SignGradientAttack(models, "true")

    def mean_logits(images):
        return (models[0](images)["logits"] + models[1](images)["logits"]) / 2

    expected = cleverhans_ifgsm(mean_logits, fashion.images, 8, 2, y=fashion.labels)
    assert equal_fraction(attack(fashion.images, 8, ifgsm(2), fashion.labels), expected) >= EQUAL_PIXELS


# --- NumPy ---


@pytest.mark.numerics
@pytest.mark.parametrize("member_count", [1, 3])
@pytest.mark.parametrize("targeted", [False, True])
def test_loop_is_the_numpy_model_of_it_exactly(member_count, targeted):
    models = linear_models(member_count)
    images, epsilon = linear_images()
    labels = np.arange(len(images)) % 4
    attack = SignGradientAttack(models, "given" if targeted else "true")
    gradient = functools.partial(mean_logit_gradient, models)
    for name, method in METHODS.items():
        expected = numpy_attack(gradient, images, labels, epsilon, method[0].steps, sign=-1 if targeted else 1)
        np.testing.assert_array_equal(attack(images, epsilon, method, labels), expected, err_msg=name)


@pytest.mark.numerics
def test_loss_of_an_ensemble_is_that_of_the_mean_logits_and_not_the_mean_of_losses():
    models = linear_models(3)
    images, epsilon = linear_images()
    labels = np.arange(len(images)) % 4
    received = SignGradientAttack(models, "true")(images, epsilon, fgsm(), labels)
    of_mean_logits, of_mean_losses = (
        numpy_attack(functools.partial(gradient, models), images, labels, epsilon, (1.0,))
        for gradient in (mean_logit_gradient, mean_loss_gradient)
    )
    np.testing.assert_array_equal(received, of_mean_logits)
    assert equal_fraction(of_mean_logits, of_mean_losses) < 0.95


def vote_of_three() -> list[LinearClassifier]:
    """One model is sure of class 0, two lean to class 1: probabilities sum highest for 1, logits for 0."""
    kernel = np.random.default_rng(1).normal(size=(12, 3)) * 1e-5
    biases = ([30.0, 0.0, -4.0], [0.0, 2.0, -4.0], [0.0, 2.0, -4.0])
    return [LinearClassifier(kernel, np.array(bias)) for bias in biases]


def test_predicted_label_is_the_argmax_of_summed_probabilities_and_not_of_summed_logits():
    models = vote_of_three()
    images, _ = linear_images()
    logits = [model.logits(images) for model in models]
    assert np.all(np.sum(logits, axis=0).argmax(axis=1) == 0)
    assert np.all(np.sum([softmax(z) for z in logits], axis=0).argmax(axis=1) == 1)
    of_class = [
        numpy_attack(functools.partial(mean_logit_gradient, models), images, np.full(len(images), k), 7, (1.0,))
        for k in range(2)
    ]
    np.testing.assert_array_equal(SignGradientAttack(models)(images, 7), of_class[1])
    assert equal_fraction(of_class[0], of_class[1]) < 0.1


def test_least_likely_label_is_the_argmin_of_summed_probabilities_and_not_of_summed_logits():
    """Class 0 is certain to one model and impossible to two; class 2 is the lowest by probabilities alone."""
    kernel = np.random.default_rng(1).normal(size=(12, 3)) * 1e-5
    models = [LinearClassifier(kernel, np.array(bias)) for bias in ([9.0, 0.0, 0.0], [-20.0, 3.0, 0.0])]
    images, _ = linear_images()
    labels = np.full(len(images), 2)
    expected = numpy_attack(functools.partial(mean_logit_gradient, models), images, labels, 7, (1.0,), sign=-1)
    assert np.all(np.sum([model.logits(images) for model in models], axis=0).argmin(axis=1) == 0)
    np.testing.assert_array_equal(SignGradientAttack(models, "least_likely")(images, 7), expected)


# --- labels ---


def test_predicted_label_is_that_of_the_clean_image_in_every_step():
    """With a step of the whole radius the lead changes hands; the followed class does not."""
    images = stripes_images(12)
    attacked = SignGradientAttack([stripes_classifier()])(images, 16, decayed_ifgsm((1.0,) * 4))
    assert np.all(rows_of(attacked).argmax(axis=1) != rows_of(images).argmax(axis=1))
    np.testing.assert_array_equal(row_moved_alone(images, attacked, -1), rows_of(images).argmax(axis=1))


def test_true_label_is_lowered_and_given_label_is_raised():
    images, labels = stripes_images(CLASSES), np.arange(CLASSES)
    for label, direction in (("true", -1), ("given", 1)):
        attacked = SignGradientAttack([stripes_classifier()], label)(images, 3, fgsm(), labels)
        np.testing.assert_array_equal(row_moved_alone(images, attacked, direction), labels)


def test_least_likely_label_is_the_argmin():
    images = stripes_images(30)
    attacked = SignGradientAttack([stripes_classifier()], "least_likely")(images, 3)
    np.testing.assert_array_equal(row_moved_alone(images, attacked, 1), rows_of(images).argmin(axis=1))


def test_random_label_is_any_class_but_the_predicted_one():
    images = stripes_images(720)
    attacked = SignGradientAttack([stripes_classifier()], "random")(images, 3)
    shift = (row_moved_alone(images, attacked, 1) - rows_of(images).argmax(axis=1)) % CLASSES
    counts = np.bincount(shift, minlength=CLASSES)
    assert counts[0] == 0
    assert counts[1:].min() > 45 and counts[1:].max() < 120  # 80 expected, standard deviation 8.4


def test_random_label_depends_on_seed_and_image_number():
    images = np.repeat(stripes_images(1), 40, axis=0)
    attack = SignGradientAttack([stripes_classifier()], "random")
    targets = [row_moved_alone(images, attack(images, 3, seed=seed), 1) for seed in (0, 1)]
    assert len(set(targets[0])) > 5
    assert equal_fraction(*targets) < 0.5
    later = attack(images[:10], 3, numbers=np.arange(30, 40))
    np.testing.assert_array_equal(row_moved_alone(images[:10], later, 1), targets[0][30:])


# --- properties of every attack ---


@every_mode
@every_schedule
def test_result_is_uint8_in_the_ball_of_each_image_and_reaches_its_surface(label, start, method):
    images, epsilon, labels = small_batch()
    attacked = small_attack(label)(images, epsilon, started(method, start), labels)
    assert attacked.dtype == np.uint8 and attacked.shape == images.shape
    distance = np.abs(attacked.astype(int) - images).max(axis=(1, 2, 3))
    assert np.all(distance <= epsilon)
    if start == FROM_IMAGE:
        np.testing.assert_array_equal(distance, epsilon)
    assert np.all(distance[1:] > 0)


@every_mode
@every_schedule
def test_pixels_at_the_ends_of_the_range_do_not_wrap_around(label, start, method):
    images, _, labels = small_batch()
    images = np.where(images < 128, 0, 255).astype(np.uint8)
    attacked = small_attack(label)(images, 16, started(method, start), labels)
    assert np.all(attacked[images == 0] <= 16) and np.all(attacked[images == 255] >= 239)
    assert np.mean(attacked == images) > 0.2


@every_mode
def test_epsilon_0_leaves_the_images_unchanged(label, start):
    images, _, labels = small_batch()
    attacked = small_attack(label)(images, 0, started(ifgsm(4), start), labels)
    np.testing.assert_array_equal(attacked, images)


@pytest.mark.parametrize("label", LABELS)
def test_same_seed_gives_the_same_bytes_also_from_another_object(label):
    images, epsilon, labels = small_batch()
    other = SignGradientAttack([small_network()], label)
    for start in (FROM_IMAGE, FROM_UNIFORM):
        method = started(ifgsm(2), start)
        first, *again = (
            attack(images, epsilon, method, labels, seed=7)
            for attack in (small_attack(label), small_attack(label), other)
        )
        for attacked in again:
            np.testing.assert_array_equal(attacked, first, err_msg=start)


@every_mode
def test_another_seed_changes_the_result_where_something_is_drawn_and_only_there(label, start):
    images, _, labels = small_batch()
    attack = small_attack(label)
    first, second = (attack(images, 16, started(decayed_ifgsm([0.25]), start), labels, seed=seed) for seed in (1, 2))
    if start == FROM_UNIFORM or label == "random":
        assert equal_fraction(first, second) < 0.95
    else:
        np.testing.assert_array_equal(first, second)


def test_random_start_is_uniform_over_the_ball():
    """A step of length 0 leaves the start: integers of [-16, 16], the two ends at half the others' frequency."""
    images = np.full((60, 9, 7, 2), 128, np.uint8)
    offsets = small_attack("predicted")(images, 16, (Schedule((0.0,), FROM_UNIFORM),)).astype(int) - 128
    counts = np.bincount(offsets.ravel() + 16, minlength=33)
    assert len(counts) == 33
    np.testing.assert_allclose(counts[1:-1], offsets.size / 32, rtol=0.25)  # 236 expected, standard deviation 15
    np.testing.assert_allclose(counts[[0, -1]], offsets.size / 64, rtol=0.4)
    assert abs(offsets.mean()) < 0.4


def test_random_start_differs_between_equal_images_of_other_numbers():
    images = np.full((4, 9, 7, 2), 128, np.uint8)
    starts = small_attack("predicted")(images, 16, (Schedule((0.0,), FROM_UNIFORM),))
    assert max(equal_fraction(starts[i], starts[j]) for i in range(4) for j in range(i)) < 0.2


@pytest.mark.numerics
@every_mode
def test_result_does_not_depend_on_the_batch_size(label, start):
    images, epsilon, labels = small_batch()
    attack = small_attack(label)
    whole, *parts = (
        attack(images, epsilon, started(ifgsm(4), start), labels, seed=5, batch_size=size) for size in (None, 11, 4, 1)
    )
    assert min(equal_fraction(whole, part) for part in parts) >= EQUAL_PIXELS


@pytest.mark.numerics
def test_batch_size_does_not_matter_on_a_real_target(predicted_attack, fashion):
    epsilon = draw_epsilon(len(fashion.labels), 1, 16, 0)
    whole, parts = (predicted_attack(fashion.images, epsilon, batch_size=size) for size in (24, 7))
    assert equal_fraction(whole, parts) >= EQUAL_PIXELS


def test_each_image_has_its_own_epsilon_and_label_over_a_partial_last_batch():
    images, labels = stripes_images(CLASSES), np.arange(CLASSES)
    epsilon = np.arange(1, CLASSES + 1)
    done = []
    attack = SignGradientAttack([stripes_classifier()], "given")
    attacked = attack(images, epsilon, fgsm(), labels, batch_size=4, on_batch=done.append)
    assert done == [4, 4, 2]
    assert attacked.dtype == np.uint8
    expected = rows_of(images) + np.where(np.eye(CLASSES) == 1, 1, -1) * epsilon[:, np.newaxis]
    np.testing.assert_array_equal(rows_of(attacked), expected)


def test_attack_on_no_image_is_empty():
    attacked = small_attack("predicted")(np.zeros((0, 9, 7, 2), np.uint8), 4)
    assert attacked.shape == (0, 9, 7, 2)


def test_float_images_give_what_their_uint8_does():
    images, epsilon, _ = small_batch()
    attack = small_attack("predicted")
    np.testing.assert_array_equal(attack(images.astype(np.float32), epsilon), attack(images, epsilon))
    np.testing.assert_array_equal(attack(tf.constant(images), tf.constant(epsilon)), attack(images, epsilon))


def test_one_attack_takes_images_of_several_sizes(predicted_attack, fashion):
    larger = tf.cast(tf.round(tf.image.resize(fashion.images[:3], (40, 33))), tf.uint8).numpy()
    attacked = predicted_attack(larger, 8)
    assert attacked.shape == (3, 40, 33, 1)
    assert np.abs(attacked.astype(int) - larger).max() == 8
    assert predicted_attack(fashion.images[:3], 8).shape == (3, 28, 28, 1)


@every_schedule
@pytest.mark.parametrize("label", ["predicted", "true"])
def test_untargeted_attack_raises_the_cross_entropy_of_the_label(mini_vgg, mini_attacks, fashion, label, method):
    attacked = mini_attacks(label)(fashion.images, 8, method, fashion.labels)
    labels = predictions(mini_vgg, fashion.images) if label == "predicted" else fashion.labels
    before, after = (cross_entropy(mini_vgg, images, labels) for images in (fashion.images, attacked))
    assert after > before + 1


@every_schedule
@pytest.mark.parametrize("label", ["given", "least_likely"])
def test_targeted_attack_lowers_the_cross_entropy_of_its_target(mini_vgg, mini_attacks, fashion, label, method):
    given = (fashion.labels + 5) % CLASSES
    attacked = mini_attacks(label)(fashion.images, 8, method, given)
    least_likely = mini_vgg(fashion.images)["logits"].numpy().argmin(axis=1)
    labels = given if label == "given" else least_likely
    before, after = (cross_entropy(mini_vgg, images, labels) for images in (fashion.images, attacked))
    assert after < before - 1


@pytest.fixture(scope="module")
def mini_attacks(mini_vgg):
    return functools.cache(lambda label: SignGradientAttack([mini_vgg], label))


def predictions(model, images: np.ndarray) -> np.ndarray:
    return model(images)["logits"].numpy().argmax(axis=1)


def test_attack_leaves_the_model_as_it_was():
    before = [weight.copy() for weight in small_network().get_weights()]
    small_attack("random")(*small_batch()[:2])
    for old, new in zip(before, small_network().get_weights()):
        np.testing.assert_array_equal(old, new)


# --- errors ---


def test_steps_without_a_model_are_an_error():
    with pytest.raises(ValueError, match="at least one model"):
        SignGradientAttack([])(small_batch().images, 4)


def test_unknown_label_is_an_error_that_names_it_and_the_known_ones():
    with pytest.raises(ValueError, match=r"least_likely.*received 'least'"):
        SignGradientAttack([small_network()], "least")


@pytest.mark.parametrize("label", ["true", "given"])
def test_missing_labels_are_an_error(label):
    with pytest.raises(ValueError, match=f"'{label}' needs labels"):
        small_attack(label)(small_batch().images, 4)


@pytest.mark.parametrize("epsilon", [0.5, -1, np.nan, np.array([4] * 10 + [-4]), np.array([1.0] * 10 + [1.5])])
def test_fractional_or_negative_epsilon_is_an_error(epsilon):
    with pytest.raises(ValueError, match="epsilon must be integers of at least 0"):
        small_attack("predicted")(small_batch().images, epsilon)


def test_epsilon_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        small_attack("predicted")(small_batch().images, np.arange(3))


def test_labels_are_split_into_targeted_and_untargeted():
    targeted = {label for label in LABELS if SignGradientAttack([small_network()], label).targeted}
    assert targeted == set(TARGETED_LABELS) == {"least_likely", "random", "given"}


# --- draw_epsilon ---


def test_draw_epsilon_is_uniform_from_1_to_16_inclusive():
    epsilon = draw_epsilon(16_000, 1, 16, 0)
    counts = np.bincount(epsilon, minlength=17)
    assert epsilon.dtype == np.int64 and epsilon.shape == (16_000,)
    assert counts[0] == 0 and len(counts) == 17
    np.testing.assert_allclose(counts[1:], 1000, atol=150)  # standard deviation 31


def test_draw_epsilon_depends_on_the_seed_alone():
    np.testing.assert_array_equal(draw_epsilon(100, 1, 16, (3, 1)), draw_epsilon(100, 1, 16, (3, 1)))
    for other in ((3, 2), (4, 1)):
        assert equal_fraction(draw_epsilon(100, 1, 16, (3, 1)), draw_epsilon(100, 1, 16, other)) < 0.3


def test_draw_epsilon_of_one_value_is_that_value():
    np.testing.assert_array_equal(draw_epsilon(50, 4, 4, 0), np.full(50, 4))
