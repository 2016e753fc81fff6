"""Defenses in other attack libraries: the same logits and gradients as here, and attacks that are as strong as ours."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent as cleverhans_pgd

from hgd_tf.attacks import SignGradientAttack, decayed_ifgsm
from hgd_tf.data import load_fashion_mnist
from hgd_tf.defenses import Defense, load_defense
from hgd_tf.defenses.ensemble import Ensemble
from hgd_tf.errors import HgdError

EPSILON, STEP, STEPS = 8, 1, 20  # of pixels


@pytest.fixture(scope="module")
def defense() -> Defense:
    return load_defense("mini_inception_lgd")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_fashion_mnist().test.images[:100].astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return load_fashion_mnist().test.labels[:100].astype(np.int64)


@pytest.fixture(scope="module")
def ours(defense, images, labels) -> np.ndarray:
    steps = decayed_ifgsm((STEP / EPSILON,) * STEPS)
    return SignGradientAttack([defense], label="true")(images, EPSILON, steps, labels)


def loss_gradient(logits, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """That of the sum of the cross-entropies."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits(images)))
    return tape.gradient(loss, images).numpy()


def through_identity(defense: Defense, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient at the denoised images of the target alone, which an identity passes on."""
    return loss_gradient(
        lambda seen: defense.target.network(seen, training=False)["logits"], defense.denoise(images).numpy(), labels
    )


def accuracy(defense: Defense, images: np.ndarray, labels: np.ndarray) -> float:
    """In percent."""
    return 100 * np.mean(defense(images)["classes"].numpy() == labels)


def assert_as_strong_as_ours(attacked, ours, defense, images, labels) -> None:
    assert attacked.shape == images.shape
    assert np.abs(attacked - images).max() == pytest.approx(EPSILON, abs=1e-3)
    assert attacked.min() >= 0 and attacked.max() <= 255
    left = accuracy(defense, ours, labels)
    assert left < accuracy(defense, images, labels) - 20
    assert abs(accuracy(defense, attacked, labels) - left) <= 1


def test_cleverhans_attacks_as_strongly(defense, images, labels, ours):
    options = {"clip_min": 0.0, "clip_max": 255.0, "y": tf.constant(labels), "rand_init": False}
    attacked = cleverhans_pgd(defense.logits, tf.constant(images), EPSILON, STEP, STEPS, np.inf, **options).numpy()
    np.testing.assert_array_equal(defense.logits(images), defense(images)["logits"])
    assert_as_strong_as_ours(attacked, ours, defense, images, labels)


@pytest.mark.parametrize("adapter, extra", [("as_art", "art"), ("as_foolbox", "foolbox"), ("as_torch", "torch")])
def test_a_library_that_is_absent_is_named_with_what_installs_it(defense, monkeypatch, adapter, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(HgdError, match=rf"expected the package {extra} .*pip install 'hgd-tf\[{extra}\]'$"):
        getattr(defense, adapter)()


@pytest.mark.slow
def test_art_has_our_logits_gradients_and_strength(defense, images, labels, ours, relative_error):
    evasion = pytest.importorskip("art.attacks.evasion")
    estimator, one_hot = defense.as_art(), np.eye(10, dtype=np.float32)[labels]
    assert relative_error(estimator.predict(images), defense.logits(images)) < 1e-5
    # Its loss is the mean over the images.
    gradient = len(images) * estimator.loss_gradient(images, one_hot)
    assert relative_error(gradient, loss_gradient(defense.logits, images, labels)) < 1e-5
    attack = evasion.ProjectedGradientDescent(
        estimator, np.inf, EPSILON, STEP, max_iter=STEPS, batch_size=100, verbose=False
    )
    assert_as_strong_as_ours(attack.generate(images, one_hot), ours, defense, images, labels)


@pytest.mark.slow
def test_art_passes_the_identity_instead_of_the_denoiser(defense, images, labels, relative_error):
    pytest.importorskip("art")
    one_hot = np.eye(10, dtype=np.float32)[labels]
    straight = through_identity(defense, images, labels)
    for classifier in (defense, Ensemble([defense])):
        estimator = classifier.as_art(identity=True)
        assert relative_error(estimator.predict(images), defense.logits(images)) < 1e-5
        assert relative_error(len(images) * estimator.loss_gradient(images, one_hot), straight) < 1e-5
    assert relative_error(straight, loss_gradient(defense.logits, images, labels)) > 0.1


@pytest.mark.slow
def test_foolbox_has_our_logits_gradients_and_strength(defense, images, labels, ours, relative_error):
    foolbox = pytest.importorskip("foolbox")
    model = defense.as_foolbox()
    assert relative_error(model(tf.constant(images)), defense.logits(images)) < 1e-5
    assert relative_error(loss_gradient(model, images, labels), loss_gradient(defense.logits, images, labels)) < 1e-5
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    attacked = attack(model, tf.constant(images), tf.constant(labels), epsilons=EPSILON)[1].numpy()
    assert_as_strong_as_ours(attacked, ours, defense, images, labels)
    assert relative_error(model.transform_bounds((0, 1))(tf.constant(images / 255)), defense.logits(images)) < 1e-5


@pytest.mark.slow
def test_torch_has_our_logits_gradients_and_strength(defense, images, labels, ours, relative_error):
    torch = pytest.importorskip("torch")
    torchattacks = pytest.importorskip("torchattacks")
    module = defense.as_torch()
    inputs = torch.from_numpy(images / 255).permute(0, 3, 1, 2).requires_grad_()
    loss = torch.nn.functional.cross_entropy(module(inputs), torch.from_numpy(labels), reduction="sum")
    assert relative_error(module(inputs).detach(), defense.logits(images)) < 1e-5
    expected = 255 * loss_gradient(defense.logits, images, labels).transpose(0, 3, 1, 2)
    for _ in range(2):  # one forward pass, differentiated twice
        (gradient,) = torch.autograd.grad(loss, inputs, retain_graph=True)
        assert relative_error(gradient, expected) < 1e-5
    attack = torchattacks.PGD(module, EPSILON / 255, STEP / 255, STEPS, random_start=False)
    attacked = 255 * attack(inputs.detach(), torch.from_numpy(labels)).permute(0, 2, 3, 1).numpy()
    assert_as_strong_as_ours(attacked, ours, defense, images, labels)
