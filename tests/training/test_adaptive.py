"""Training under attacks on the defence itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.data import load_fashion_mnist
from hgd_tf.defenses import Defense
from hgd_tf.denoisers import dunet
from hgd_tf.guidance import Batch
from hgd_tf.targets import load_target
from hgd_tf.training.adaptive import AdaptiveAttack, AdaptiveDenoiser

IMAGES, LABELS = load_fashion_mnist().train.head(40)
TARGET = load_target("mini_vgg")
HOW = AdaptiveAttack(share=0.5, clean_share=0.25, steps=3, lowest=2.0, highest=16.0, ramp=10, seed=3)


def _model(how: AdaptiveAttack = HOW, guidance: str = "label") -> AdaptiveDenoiser:
    model = AdaptiveDenoiser(dunet(width=1 / 32, channels=1, zero_head=True), TARGET, guidance, adaptive=how)
    model.compile("adam")
    return model


def _attacked(model: AdaptiveDenoiser) -> np.ndarray:
    images = tf.constant(IMAGES, tf.float32)
    return model.attack(images, tf.constant(LABELS, tf.int64)).numpy()


def test_the_radius_is_each_images_own_and_its_bound_rises():
    model = _model()
    for iteration, highest in ((0, 3.4), (4, 9.0), (99, 16.0)):
        model.optimizer.iterations.assign(iteration)
        attacked = _attacked(model)
        radius = np.abs(attacked - IMAGES).max(axis=(1, 2, 3))
        assert attacked.min() >= 0 and attacked.max() <= 255
        assert radius.max() <= highest + 1e-3 and radius.max() > 2 + 0.8 * (highest - 2)
        assert radius.min() < 2 + 0.3 * (highest - 2)


def test_attacks_depend_on_the_seed_and_the_step_alone():
    first, again, other = _model(), _model(), _model(HOW._replace(seed=4))
    np.testing.assert_array_equal(_attacked(first), _attacked(again))
    assert np.any(_attacked(first) != _attacked(other))
    first.optimizer.iterations.assign(1)
    assert np.any(_attacked(first) != _attacked(again))


def test_the_attack_lowers_the_defences_accuracy_more_than_noise():
    model = _model(HOW._replace(lowest=15.9, ramp=0))
    defense = Defense(model.denoiser, TARGET)
    attacked = _attacked(model)
    noise = IMAGES + 16.0 * np.sign(np.random.default_rng(0).normal(size=IMAGES.shape))
    right = {
        name: np.mean(defense(np.clip(images, 0, 255).astype(np.float32))["classes"].numpy() == LABELS)
        for name, images in (("attacked", attacked), ("noise", noise))
    }
    assert right["attacked"] < 0.2 and right["noise"] > right["attacked"] + 0.2


def test_a_step_sees_attacked_then_clean_then_stored_images(monkeypatch):
    seen = []
    denoiser = dunet(width=1 / 32, channels=1, zero_head=True)

    class Watched(AdaptiveDenoiser):
        def prepared(self, data):
            batch = super().prepared(data)
            seen.append(batch)
            return batch

    model = Watched(denoiser, TARGET, "label", adaptive=HOW)
    model.compile("adam", run_eagerly=True)
    stored = np.full(IMAGES.shape, 7.0, np.float32)
    model.train_step(
        Batch(tf.constant(stored), tf.constant(IMAGES, tf.float32), tf.constant(LABELS), tf.constant(LABELS))
    )
    attacked = seen[-1].attacked.numpy()
    np.testing.assert_array_equal(attacked[20:30], IMAGES[20:30])
    np.testing.assert_array_equal(attacked[30:], stored[30:])
    moved = np.abs(attacked[:20] - IMAGES[:20]).max(axis=(1, 2, 3))
    assert moved.min() > 0.0 and moved.max() <= 16.0


@pytest.mark.parametrize("guidance", ["pixel", "feature", "logits", "label", "distillation"])
def test_every_guidance_is_trained_so(guidance):
    model = _model(guidance=guidance)
    before = [weights.copy() for weights in model.denoiser.get_weights()]
    history = model.fit(IMAGES.astype(np.float32), (IMAGES.astype(np.float32), LABELS), batch_size=20, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any(np.any(old != new) for old, new in zip(before, model.denoiser.get_weights()))
