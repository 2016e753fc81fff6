"""What becomes of perturbations: levels by hand on every layer, the noise they are compared with, and slopes."""

from __future__ import annotations

import numpy as np
import pytest

from hgd_tf.evaluation import gaussian_noise_like, perturbation_levels, perturbation_slope
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    clean = rng.integers(20, 236, (3, 28, 28, 1)).astype(np.uint8)
    return clean, (clean + rng.integers(-9, 10, clean.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def target():
    return load_target("mini_resnet")


def test_levels_are_the_papers_by_hand(images, target):
    clean, perturbed = (batch.astype(np.float64) for batch in images)
    levels = perturbation_levels(target, *images)
    before, after = target(clean)["logits"].numpy(), target(perturbed)["logits"].numpy()
    expected = np.mean(np.abs(after - before).sum(axis=1) / np.abs(before).sum(axis=1))
    assert levels["logits"] == pytest.approx(expected, rel=1e-4)
    axes = (1, 2, 3)
    expected = np.mean(np.abs(perturbed - clean).sum(axis=axes) / clean.sum(axis=axes))
    assert levels["image"] == pytest.approx(expected, rel=1e-5)


def test_every_convolution_has_a_level_in_the_order_of_the_forward_pass(images, target):
    levels = perturbation_levels(target, *images)
    convolutions = [layer.name for layer in target.network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert list(levels) == ["image", *convolutions, "logits"]
    assert len(convolutions) > 5
    assert all(level > 0 for level in levels.values())


@pytest.mark.numerics
def test_an_image_is_no_perturbation_of_itself(images, target):
    """But for rounding: two rows of a batch may be summed in two orders."""
    terms = sum(np.prod(kernel.shape[:-1]) for kernel in target.network.weights if len(kernel.shape) > 1)
    levels = perturbation_levels(target, images[0], images[0])
    assert levels.pop("image") == 0.0
    assert max(levels.values()) < np.finfo(np.float32).eps * np.sqrt(terms)


def test_gaussian_noise_has_the_norm_of_each_perturbation_and_depends_on_the_seed(images):
    clean, perturbed = images
    noisy = gaussian_noise_like(clean, perturbed, seed=1)
    for one, other, start in zip(noisy, perturbed.astype(np.float32), clean.astype(np.float32)):
        assert np.linalg.norm(one - start) == pytest.approx(np.linalg.norm(other - start), rel=1e-5)
    assert np.array_equal(noisy, gaussian_noise_like(clean, perturbed, seed=1))
    assert not np.allclose(noisy, gaussian_noise_like(clean, perturbed, seed=2))


def test_the_slope_is_how_much_of_a_perturbation_a_denoiser_takes_away(images):
    clean, attacked = (batch.astype(np.float32) for batch in images)
    assert perturbation_slope(clean, attacked, attacked) == 0
    assert perturbation_slope(clean, attacked, clean) == pytest.approx(1)
    # A linear denoiser that takes 1.4 of it away, a constant, and noise of its own that does not depend on it.
    noise = np.random.default_rng(1).normal(0, 5, clean.shape)
    noise -= np.polyval(np.polyfit((attacked - clean).ravel(), noise.ravel(), 1), attacked - clean)
    assert perturbation_slope(*images, attacked - 1.4 * (attacked - clean) - 3 + noise) == pytest.approx(1.4, rel=1e-5)
    with pytest.raises(ValueError, match="needs a perturbation"):
        perturbation_slope(clean, clean, clean)
