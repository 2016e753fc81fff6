"""Muon against the singular value decomposition, PyTorch's Muon and Keras' Adam, and across save and load."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.foundation.stack import keras
from hgd_tf.training.muon import Muon, orthogonalized

RNG = np.random.default_rng(0)
SHAPES = {"tall": (90, 16), "wide": (12, 40), "square": (24, 24)}


def kernel(*shape: int) -> tf.Variable:
    return tf.Variable(RNG.normal(size=shape), dtype=tf.float32)


def gradients(variable: tf.Variable, count: int) -> list[np.ndarray]:
    return [RNG.normal(size=variable.shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_values_come_near_one(shape):
    left, _, right = np.linalg.svd(RNG.normal(size=SHAPES[shape]), full_matrices=False)
    values = np.geomspace(1, 0.1, len(right))
    matrix = 7.0 * left @ np.diag(values) @ right
    found = left.T @ orthogonalized(tf.constant(matrix, tf.float32)).numpy() @ right.T
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-5)
    assert np.all(np.abs(np.diag(found) - 1) < 0.35)


def test_values_are_those_of_the_published_polynomial():
    values = np.array([0.9, 0.3, 0.05])
    expected = values / np.linalg.norm(values)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    found = orthogonalized(tf.constant(np.diag(values), tf.float32)).numpy()
    np.testing.assert_allclose(found, np.diag(expected), atol=1e-5)


def test_no_gradient_moves_nothing():
    assert not np.any(orthogonalized(tf.zeros((6, 4))).numpy())


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 4, 24)])
def test_steps_are_pytorchs(shape):
    torch = pytest.importorskip("torch", reason="extra parity is not installed")
    ours = kernel(*shape)
    theirs = torch.nn.Parameter(torch.tensor(ours.numpy().reshape(-1, shape[-1])))
    optimizer = Muon(0.01)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    start = ours.numpy()
    for gradient in gradients(ours, 5):
        optimizer.apply_gradients([(tf.constant(gradient), ours)])
        theirs.grad = torch.tensor(gradient.reshape(-1, shape[-1]))
        reference.step()
    moved = (ours.numpy() - start).reshape(-1, shape[-1])
    expected = theirs.detach().numpy() - start.reshape(-1, shape[-1])
    # PyTorch iterates in bfloat16, whose relative precision is 2^-8.
    assert np.linalg.norm(moved - expected) < 0.02 * np.linalg.norm(expected)


def test_a_step_has_the_size_of_adams():
    variable = kernel(3, 3, 64, 64)
    before = variable.numpy()
    Muon(0.01).apply_gradients([(tf.constant(gradients(variable, 1)[0]), variable)])
    size = np.sqrt(np.mean((variable.numpy() - before) ** 2))
    assert size == pytest.approx(0.2 * 0.01, rel=0.35)


def test_other_variables_are_adams():
    ours = kernel(16)
    adams = tf.Variable(ours)
    other = kernel(3, 3, 2, 4)
    muon, adam = Muon(0.01), keras.optimizers.Adam(0.01)
    for gradient, kernels_gradient in zip(gradients(ours, 3), gradients(other, 3)):
        muon.apply_gradients([(tf.constant(gradient), ours), (tf.constant(kernels_gradient), other)])
        adam.apply_gradients([(tf.constant(gradient), adams)])
    np.testing.assert_array_equal(ours.numpy(), adams.numpy())


def test_saved_and_restored_it_goes_on_the_same(tmp_path):
    first = kernel(3, 3, 2, 4)
    optimizer = Muon(0.01)
    early, late = gradients(first, 2)
    optimizer.apply_gradients([(tf.constant(early), first)])
    saved = tf.train.Checkpoint(variable=first, optimizer=optimizer).write(str(tmp_path / "state"))
    second, other = tf.Variable(tf.zeros_like(first)), Muon(0.01)
    other.build([second])
    restored = tf.train.Checkpoint(variable=second, optimizer=other).read(saved)
    restored.assert_existing_objects_matched()
    for variable, its_optimizer in ((first, optimizer), (second, other)):
        its_optimizer.apply_gradients([(tf.constant(late), variable)])
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_its_configuration_makes_another():
    assert Muon.from_config(Muon(0.02, momentum=0.8, use_ema=True).get_config()).get_config()["momentum"] == 0.8
