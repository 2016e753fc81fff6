"""Training on Gaussian noise instead of attacks."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_set import FEW_CONVOLUTIONS

from hgd_tf.crafting import AttackedSet
from hgd_tf.data import load_fashion_mnist
from hgd_tf.defenses import load_defense
from hgd_tf.denoisers import dunet
from hgd_tf.errors import HgdError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.guidance import GuidedDenoiser
from hgd_tf.targets import load_target
from hgd_tf.training import TrainConfig, train_denoiser
from hgd_tf.training.noise import Noise
from hgd_tf.training.pairs import training_batches

CLEAN = load_fashion_mnist().train.head(40)
UNATTACKED = AttackedSet(CLEAN, ("no_op",), CLEAN.images[None], np.zeros((1, 40), np.int64))
NOISE = Noise(sigma=0.25, seed=3)
CONFIG = TrainConfig(
    ExperimentConfig("mini_vgg", members=("target",), holdout="target", ens_target=None),
    width=1 / 64,
    craft="noise",
    train_images=40,
    validation_images=20,
    batch_size=20,
    ema=0.9,
    epochs=2,
    steps_per_epoch=2,
    strategy="one_device",
)


def batches(noise: Noise = NOISE, first_step: int = 0) -> tf.data.Dataset:
    return noise.batches(lambda first: training_batches(UNATTACKED, 20, 0, first))(first_step)


def test_noise_is_new_in_each_step_and_depends_on_the_step_alone():
    steps = [batch.attacked.numpy() - batch.clean.numpy() for batch in batches().take(4)]
    # 15,680 draws a batch: 4 standard deviations of their deviation are 2.3 %.
    assert [noise.std() for noise in steps] == pytest.approx([63.75] * 4, rel=0.024)
    assert all(np.abs(one - other).max() > 63 for one, other in itertools.combinations(steps, 2))
    (again,) = batches(first_step=3).take(1)
    np.testing.assert_allclose(again.attacked - again.clean, steps[3], atol=1e-3)
    (seeded,) = batches(NOISE._replace(seed=4)).take(1)
    assert np.abs(seeded.attacked - seeded.clean - steps[0]).max() > 63
    assert seeded.attacked.shape == (20, 28, 28, 1) and np.min(seeded.attacked) < -100


def test_validation_has_noise_of_its_own():
    validated, again = NOISE.on(UNATTACKED), NOISE.on(UNATTACKED)
    np.testing.assert_array_equal(validated.attacked, again.attacked)
    noise = validated.attacked[0] - CLEAN.images
    assert noise.std() == pytest.approx(63.75, rel=0.017) and validated.names == ("noise",)
    assert validated.attacked.dtype == np.float32
    (sample,) = NOISE.sample(lambda step, count: [CLEAN.images] * count)(0, 1)
    assert np.abs(sample - validated.attacked[0]).max() > 63


@pytest.mark.parametrize("guidance", ["pixel", "feature", "logits", "label", "distillation"])
def test_every_guidance_is_trained_so(guidance):
    model = GuidedDenoiser(dunet(1 / 32, 1, **FEW_CONVOLUTIONS), load_target("mini_vgg"), guidance)
    model.compile("adam")
    before = model.denoiser.get_weights()
    history = model.fit(batches(), steps_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any(np.any(old != new) for old, new in zip(before, model.denoiser.get_weights()))


@pytest.mark.usefixtures("few_convolutions")
@pytest.mark.parametrize("images", ["embedded", "photographs"])
def test_a_run_on_noise_attacks_nothing(images, tmp_path):
    config = CONFIG
    if images == "photographs":
        rng = np.random.default_rng(0)
        (tmp_path / images).mkdir()
        for number in range(20):
            Image.fromarray(rng.integers(256, size=(36, 36), dtype=np.uint8)).save(tmp_path / images / f"{number}.png")
        experiment = dataclasses.replace(config.experiment, images=str(tmp_path / images))
        config = dataclasses.replace(config, experiment=experiment, crops="varied", batch_size=5)
    train_denoiser(config, tmp_path / "run", tmp_path / "sets")
    with open(tmp_path / "run" / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(np.isfinite(float(row["val_loss"])) for row in rows)
    assert [name for name in rows[0] if name.startswith("val_accuracy_")] == ["val_accuracy_noise"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["sigma"] == 0.25
    assert {path.name[:10] for path in (tmp_path / "sets").iterdir()} == {"no_attacks"}
    assert load_defense(tmp_path / "run").denoiser is not None
    assert config.defense_name == "logits_noise"


@pytest.mark.parametrize("field", [{"attack_sizes": (28,)}, {"transports": ("jpeg",)}])
def test_noise_is_of_no_other_size_and_not_transported(field):
    with pytest.raises(HgdError, match="is noise alone: expected no `attack_sizes` or `transports`"):
        dataclasses.replace(CONFIG, **field)
