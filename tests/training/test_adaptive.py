"""Training under attacks on the defence itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_set import FEW_CONVOLUTIONS, small_target

from hgd_tf.attacks import GradientAttack
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.labeled_files import UNKNOWN
from hgd_tf.defenses import Defense
from hgd_tf.denoisers import dunet
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import Batch, GuidedDenoiser
from hgd_tf.targets import load_target, resize_to
from hgd_tf.training.adaptive import AdaptiveAttack, AdaptiveDenoiser

TARGET = small_target("target", 1)
COUNT = 40
IMAGES = np.random.default_rng(0).integers(256, size=(COUNT, 6, 6, 1)).astype(np.float32)
LABELS = TARGET.network.predict(IMAGES, verbose=0)["logits"].argmax(axis=-1)
STORED = np.full(IMAGES.shape, 7.0, np.float32)
HOW = AdaptiveAttack(share=0.5, clean_weight=0.5, steps=3, lowest=2.0, highest=16.0, seed=3)


# Logical devices must be configured before TensorFlow starts, hence a process of its own.
REPLICAS = """
import json

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from test_adaptive import HOW, IMAGES, LABELS, STORED, TARGET, _denoiser
from hgd_tf.training.adaptive import AdaptiveDenoiser

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = AdaptiveDenoiser(_denoiser(synchronized=True), TARGET, "label", HOW)
    model.compile("adam")
# 13 validation images in batches of 12: a replica gets none of the last.
first = (STORED[:13], (IMAGES[:13], LABELS[:13]))
pairs = {"x": STORED, "y": (IMAGES, LABELS), "batch_size": 20, "verbose": 0}
history = model.fit(**pairs, validation_data=first, validation_batch_size=12)
print(json.dumps({name: value for name, (value,) in history.history.items()}))
"""


def _denoiser(synchronized: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 1))
    x = keras.layers.BatchNormalization(synchronized=synchronized)(
        keras.layers.Conv2D(4, 3, padding="same")(images / 255.0)
    )
    noise = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.ReLU()(x))
    return keras.Model(images, images - 20.0 * noise)


def _model(how: AdaptiveAttack = HOW, guidance: str = "label", kind: type = AdaptiveDenoiser) -> AdaptiveDenoiser:
    model = kind(_denoiser(), TARGET, guidance, how)
    model.compile("adam", run_eagerly=kind is not AdaptiveDenoiser)
    return model


def _attacked(model: AdaptiveDenoiser, number: int = 0, highest: float = 16.0) -> np.ndarray:
    attack = tf.function(model.attack)
    return attack(tf.constant(IMAGES), tf.constant(LABELS), tf.constant(number, tf.int64), highest).numpy()


def _logits(model: AdaptiveDenoiser, images: np.ndarray) -> np.ndarray:
    return TARGET(model.denoiser(images, training=False))["logits"].numpy()


class Watched(AdaptiveDenoiser):
    """Notes what it is shown, and the losses of its parts."""

    def prepared(self, data):
        self.shown = super().prepared(data)
        return self.shown

    def compute_loss(self, **arguments):
        loss = super().compute_loss(**arguments)
        self.losses_of_parts = [*getattr(self, "losses_of_parts", []), float(loss)]
        return loss


def test_the_radius_is_each_images_own():
    model = _model()
    for highest in (4.0, 16.0):
        attacked = _attacked(model, highest=highest)
        radius = np.abs(attacked - IMAGES).max(axis=(1, 2, 3))
        assert attacked.min() >= 0 and attacked.max() <= 255
        assert radius.max() <= highest + 1e-3 and radius.max() > 2 + 0.8 * (highest - 2)
        assert radius.min() < 2 + 0.3 * (highest - 2)


def test_the_highest_radius_rises():
    model = _model(HOW._replace(ramp=10))
    highest = []
    for iterations in (0, 4, 9, 99):
        model.optimizer.iterations.assign(iterations)
        highest.append(float(model.highest_radius()))
    assert highest == pytest.approx([3.4, 9.0, 16.0, 16.0])
    assert float(_model().highest_radius()) == 16.0


def test_attacks_depend_on_the_seed_and_the_number_alone():
    first, again, other = _model(), _model(), _model(HOW._replace(seed=4))
    np.testing.assert_allclose(_attacked(first), _attacked(again), atol=1e-3)
    for different in (_attacked(other), _attacked(first, number=1)):
        assert np.mean(np.abs(_attacked(first) - different)) > 1


@pytest.mark.parametrize("steps", [1, 3])
def test_the_attack_raises_the_defences_loss_more_than_noise(steps):
    model = _model(HOW._replace(lowest=16.0, steps=steps))
    noise = np.clip(IMAGES + 16.0 * np.sign(np.random.default_rng(0).normal(size=IMAGES.shape)), 0, 255)
    clean, attacked, noisy = (
        keras.losses.sparse_categorical_crossentropy(LABELS, _logits(model, images), from_logits=True).numpy()
        for images in (IMAGES, _attacked(model), noise.astype(np.float32))
    )
    assert np.all(attacked > clean)
    assert np.mean(attacked - clean) > 3 * np.mean(np.abs(noisy - clean))


def test_a_step_sees_attacked_then_stored_images_and_the_clean_ones_beside():
    model = _model(kind=Watched)
    model.train_step(Batch(tf.constant(STORED), tf.constant(IMAGES), tf.constant(LABELS), tf.constant(LABELS)))
    attacked = model.shown.attacked.numpy()
    moved = np.abs(attacked[:20] - IMAGES[:20]).max(axis=(1, 2, 3))
    assert moved.min() > 0.0 and moved.max() <= 16.0 + 1e-3
    np.testing.assert_array_equal(attacked[20:40], STORED[20:])
    np.testing.assert_array_equal(attacked[40:], IMAGES)
    np.testing.assert_array_equal(model.shown.clean, np.tile(IMAGES, (2, 1, 1, 1)))
    np.testing.assert_array_equal(model.shown.label, np.tile(LABELS, 2))


def test_the_loss_is_that_on_attacked_images_and_a_share_of_that_on_clean_ones():
    model = _model(HOW._replace(clean_weight=0.25), kind=Watched)
    loss = float(model.train_step((tf.constant(STORED), (tf.constant(IMAGES), tf.constant(LABELS))))["loss"])
    attacked, clean = model.losses_of_parts
    assert attacked != pytest.approx(clean, rel=1e-3)
    assert loss == pytest.approx(attacked + 0.25 * clean)


def test_validation_attacks_the_clean_images_always_alike():
    model = _model()
    pairs = (STORED, (IMAGES, LABELS))
    first, again = (model.evaluate(*pairs, batch_size=16, verbose=0, return_dict=True) for _ in range(2))
    assert first == pytest.approx(again, rel=1e-5)
    assert first.keys() == {"loss", "accuracy", "accuracy_adaptive", "accuracy_clean"}
    assert first["accuracy"] == pytest.approx((first["accuracy_adaptive"] + first["accuracy_clean"]) / 2)
    assert first["accuracy_clean"] == pytest.approx(np.mean(_logits(model, IMAGES).argmax(axis=-1) == LABELS))
    model.optimizer.iterations.assign(5)
    assert model.evaluate(*pairs, batch_size=16, verbose=0) == pytest.approx(list(first.values()), rel=1e-5)


@pytest.mark.slow
def test_replicas_attack_each_their_share_of_a_batch():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", REPLICAS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = json.loads(done.stdout.splitlines()[-1])
    assert 0 < history["loss"] < 10 and 0 < history["val_loss"] < 10
    assert history["val_accuracy_adaptive"] <= history["val_accuracy_clean"]
    both = history["val_accuracy_adaptive"] + history["val_accuracy_clean"]
    assert history["val_accuracy"] == pytest.approx(both / 2)


@pytest.mark.parametrize("guidance", ["pixel", "feature", "logits", "distillation", "label+distillation"])
def test_every_guidance_is_trained_so(guidance):
    model = _model(guidance=guidance)
    before = model.denoiser.get_weights()
    known = np.arange(COUNT) != (COUNT if model.guidance.uses_labels else 3)
    history = model.fit(STORED, (IMAGES, np.where(known, LABELS, UNKNOWN)), batch_size=20, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any(np.any(old != new) for old, new in zip(before, model.denoiser.get_weights()))


@pytest.mark.slow
def test_what_was_attacked_in_training_holds_better_when_attacked_end_to_end():
    """After 360 steps of 20 images, right of 100 images under 10 steps at epsilon 8: 49; without attacks 24."""
    target, data = load_target("mini_vgg"), load_fashion_mnist()
    (images, labels), validation = data.train.head(1200), data.validation.head(100)
    images = images.astype(np.float32)
    adaptive = AdaptiveAttack(lowest=8.0, highest=8.0)
    held = []
    for attacks in ((), (adaptive,)):
        keras.utils.set_random_seed(0)
        denoiser = dunet(width=1 / 8, channels=1, zero_head=True, **FEW_CONVOLUTIONS)
        model = (AdaptiveDenoiser if attacks else GuidedDenoiser)(denoiser, target, "label", *attacks)
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit(images, (images, labels), batch_size=20, epochs=6, shuffle=False, verbose=0)
        attack = GradientAttack(Defense(denoiser, target), steps=10)
        held.append(1 - np.mean(attack(validation.images.astype(np.float32), validation.labels, 8.0).fooled))
    assert held[1] > held[0] + 0.1


def test_attacks_are_made_at_a_drawn_side_through_the_resize():
    sides = (3, 12)
    model = _model(HOW._replace(lowest=15.9, highest=16.0, sides=sides))
    larger = tf.constant(np.kron(IMAGES, np.ones((1, 2, 2, 1), np.float32)))
    numbers = tf.constant(range(8), tf.int64)
    seen = [model._attack_at_a_side(larger, tf.constant(LABELS), number).numpy() for number in numbers]
    clean = [resize_to(tf.round(resize_to(larger, side)), 6).numpy() for side in sides]
    drawn = [int(np.argmin([np.abs(attacked - one).mean() for one in clean])) for attacked in seen]
    assert set(drawn) == {0, 1}
    for attacked, place in zip(seen, drawn):
        moved = np.abs(attacked - clean[place])
        assert attacked.shape == IMAGES.shape and moved.mean() > 2.0 and moved.max() <= 16.0 + 1e-3
