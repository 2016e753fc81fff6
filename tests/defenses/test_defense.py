"""Defenses: a denoiser and a target as one, and their files."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from small_set import FEW_CONVOLUTIONS

from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.defenses.saving import check_saving
from hgd_tf.denoisers import dunet
from hgd_tf.denoisers.layers import AddNoise
from hgd_tf.errors import RunError, TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, load_target, shipped_weights

OUTPUTS = {"denoised", "logits", "probabilities", "classes"}


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("mini_vgg")


@pytest.fixture(scope="module")
def denoiser() -> keras.Model:
    return _denoiser()


@pytest.fixture(scope="module")
def defense(denoiser, target) -> Defense:
    return Defense(denoiser, target)


@pytest.fixture
def folder(tmp_path, defense):
    save_defense(defense, tmp_path / "saved")
    return tmp_path / "saved"


def _denoiser(channels: int = 1) -> keras.Model:
    """A denoiser as small as can be: moving statistics and a random convolution."""
    images = keras.Input((None, None, channels))
    x = keras.layers.BatchNormalization()(images)
    return keras.Model(images, keras.layers.Conv2D(channels, 3, padding="same")(x), name="small")


def _images(height: int = 28, width: int = 28, channels: int = 1, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def _users_target() -> Target:
    model = keras.Sequential(
        [
            keras.Input((20, 20, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="top"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(6, activation="softmax", bias_initializer="random_normal"),
        ],
        name="users_own",
    )
    return load_target(model, feature_layer="top", input_range=(-1, 1))


def _assert_same_answers(one: Defense, other: Defense, images: np.ndarray):
    ones, others = one(images), other(images)
    for key in OUTPUTS:
        np.testing.assert_allclose(ones[key], others[key], rtol=1e-4, atol=1e-4, err_msg=key)


def test_a_defense_is_the_target_after_the_denoiser(defense, denoiser, target):
    images = _images().astype(np.float32)
    denoised = denoiser(images, training=False)
    assert np.abs(denoised - images).max() > 1
    outputs = defense(images)
    np.testing.assert_allclose(outputs["denoised"], denoised, rtol=1e-5, atol=1e-3)
    expected = target.network(denoised, training=False)["logits"]
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(outputs["logits"] - target(images)["logits"]).max() > 0.01


def test_its_outputs_have_their_keys_shapes_and_types(defense):
    outputs = defense(_images())
    assert set(outputs) == OUTPUTS
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in outputs.items()}
    assert shapes == {
        "denoised": ((3, 28, 28, 1), tf.float32),
        "logits": ((3, 10), tf.float32),
        "probabilities": ((3, 10), tf.float32),
        "classes": ((3,), tf.int64),
    }


def test_probabilities_and_classes_follow_from_the_logits(defense):
    outputs = {key: value.numpy() for key, value in defense(_images(count=20)).items()}
    powers = np.exp(outputs["logits"] - outputs["logits"].max(axis=-1, keepdims=True))
    np.testing.assert_allclose(outputs["probabilities"], powers / powers.sum(axis=-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"], outputs["logits"].argmax(axis=-1))


@pytest.mark.parametrize(("height", "width"), [(56, 56), (20, 33)])
def test_images_of_other_sizes_are_resized_before_they_are_denoised(defense, denoiser, height, width):
    images = _images(height, width)
    resized = tf.image.resize(tf.cast(images, tf.float32), (28, 28), antialias=True)
    outputs = defense(images)
    np.testing.assert_allclose(outputs["denoised"], denoiser(resized, training=False), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(defense.denoise(images), outputs["denoised"], rtol=1e-5, atol=1e-3)


def test_without_a_denoiser_it_is_the_target_alone(target):
    images = _images(40, 40)
    outputs = Defense(None, target)(images)
    np.testing.assert_allclose(outputs["logits"], target(images)["logits"], rtol=1e-5, atol=1e-5)
    expected = tf.image.resize(tf.cast(images, tf.float32), (28, 28), antialias=True)
    np.testing.assert_array_equal(outputs["denoised"], expected)


def test_it_denoises_in_inference_mode(defense, denoiser):
    before = [weight.tobytes() for weight in denoiser.get_weights()]
    images = _images()
    alone = defense(images[:1])["denoised"].numpy()
    np.testing.assert_allclose(defense(images)["denoised"][:1], alone, rtol=1e-4, atol=1e-2)
    assert [weight.tobytes() for weight in denoiser.get_weights()] == before


def test_compiled_with_unknown_batch_size_it_answers_as_eagerly(defense):
    compiled = tf.function(defense, input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.uint8)])
    for count in (1, 3):
        expected = defense(_images()[:count])
        actual = compiled(_images()[:count])
        np.testing.assert_allclose(actual["logits"], expected["logits"], rtol=1e-3, atol=1e-3)


def test_a_denoiser_of_other_channels_is_refused(target):
    with pytest.raises(TargetError, match="denoiser takes 3 channels, mini_vgg takes 1"):
        Defense(_denoiser(channels=3), target)


def test_a_target_too_small_for_a_denoiser_is_refused(denoiser):
    small = load_target("mini_vgg", image_size=15)
    with pytest.raises(TargetError, match="at least 16 pixels a side, mini_vgg's are 15"):
        Defense(denoiser, small)
    assert Defense(None, small)(_images())["classes"].shape == (3,)


def test_a_target_of_the_smallest_size_is_defended(denoiser):
    defense = Defense(denoiser, load_target("mini_vgg", image_size=16))
    assert defense(_images())["denoised"].shape == (3, 16, 16, 1)


def test_a_saved_defense_answers_as_before(folder, defense):
    loaded = load_defense(folder)
    _assert_same_answers(loaded, defense, _images(36, 36))
    assert loaded.target.name == "mini_vgg"
    assert {path.name for path in folder.iterdir()} == {"denoiser.keras", "defense.json"}


def test_a_defense_with_a_dunet_answers_as_before(tmp_path, target):
    defense = Defense(dunet(0.02, channels=1, **FEW_CONVOLUTIONS), target)
    save_defense(defense, tmp_path)
    _assert_same_answers(load_defense(tmp_path), defense, _images())


def test_a_saved_defense_keeps_the_image_size(tmp_path, denoiser):
    defense = Defense(denoiser, load_target("mini_vgg", image_size=32))
    save_defense(defense, str(tmp_path / "new" / "folder"))
    loaded = load_defense(str(tmp_path / "new" / "folder"))
    assert loaded.target.image_size == 32
    assert loaded(_images())["denoised"].shape == (3, 32, 32, 1)
    _assert_same_answers(loaded, defense, _images())


def test_a_saved_defense_keeps_the_checkpoint(tmp_path, denoiser):
    network = load_target("mini_vgg").network
    network.set_weights([0.5 * weight for weight in network.get_weights()])
    network.save_weights(tmp_path / "own.weights.h5")
    defense = Defense(denoiser, load_target("mini_vgg", str(tmp_path / "own.weights.h5")))
    save_defense(defense, tmp_path / "saved")
    _assert_same_answers(load_defense(tmp_path / "saved"), defense, _images())


def test_a_users_target_is_saved_whole(tmp_path):
    defense = Defense(_denoiser(channels=3), _users_target())
    save_defense(defense, tmp_path)
    assert (tmp_path / "target.keras").is_file()
    loaded = load_defense(tmp_path)
    _assert_same_answers(loaded, defense, _images(20, 20, 3))
    _assert_same_answers(loaded, defense, _images(31, 24, 3))
    assert (loaded.target.name, loaded.target.image_size, loaded.target.classes) == ("users_own", 20, 6)
    assert loaded.target.trainable_variables == []


def test_saving_again_replaces_the_former_defense(folder, target):
    other = Defense(_denoiser(), target)
    save_defense(other, folder)
    _assert_same_answers(load_defense(folder), other, _images())


def test_a_target_without_denoiser_cannot_be_saved(tmp_path, target):
    with pytest.raises(ValueError, match="expected a Keras model as denoiser, received NoneType"):
        save_defense(Defense(None, target), tmp_path)
    assert list(tmp_path.iterdir()) == []


def _rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def _damage_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 40 + content[middle + 40 :]


DAMAGES = {
    "no folder": shutil.rmtree,
    "no denoiser": lambda folder: (folder / "denoiser.keras").unlink(),
    "no description": lambda folder: (folder / "defense.json").unlink(),
    "empty denoiser": lambda folder: _rewrite(folder / "denoiser.keras", lambda content: b""),
    "truncated denoiser": lambda folder: _rewrite(folder / "denoiser.keras", lambda content: content[:-200]),
    "damaged denoiser": lambda folder: _rewrite(folder / "denoiser.keras", _damage_middle),
    "empty description": lambda folder: (folder / "defense.json").write_text(""),
    "truncated description": lambda folder: _rewrite(folder / "defense.json", lambda content: content[:-20]),
    "description of other things": lambda folder: (folder / "defense.json").write_text('{"name": "lgd"}'),
    "description that is a list": lambda folder: (folder / "defense.json").write_text("[]"),
    "description that is no text": lambda folder: (folder / "defense.json").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_missing_or_damaged_defense_is_named(folder, damage):
    damage(folder)
    with pytest.raises(RunError) as caught:
        load_defense(folder)
    assert str(folder) in str(caught.value)


def test_a_denoiser_that_folds_pixels_is_refused(tmp_path, target):
    images = keras.Input((None, None, 1))
    save_defense(Defense(keras.Model(images, AddNoise(scale=1.0)([images, images])), target), tmp_path)
    with zipfile.ZipFile(tmp_path / "denoiser.keras") as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "denoiser.keras", "w") as file:
        for name, part in content.items():
            file.writestr(name, part.replace(b"AddNoise", b"SpaceToDepth"))
    with pytest.raises(RunError, match=r"cannot be read: denoisers that fold pixels .* no longer supported$") as caught:
        load_defense(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 300])
def test_a_damaged_users_target_is_named(tmp_path, kept):
    save_defense(Defense(_denoiser(channels=3), _users_target()), tmp_path)
    _rewrite(tmp_path / "target.keras", lambda content: content[:kept])
    with pytest.raises(RunError) as caught:
        load_defense(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_users_target_is_named(tmp_path):
    save_defense(Defense(_denoiser(channels=3), _users_target()), tmp_path)
    (tmp_path / "target.keras").unlink()
    with pytest.raises(RunError, match=r"target\.keras"):
        load_defense(tmp_path)


def test_a_checkpoint_that_has_gone_is_named(folder):
    description = json.loads((folder / "defense.json").read_text())
    description["registered_target"]["checkpoint"] = str(folder / "gone.weights.h5")
    (folder / "defense.json").write_text(json.dumps(description))
    with pytest.raises(TargetError, match=r"gone.weights.h5"):
        load_defense(folder)


def test_the_description_names_the_registered_target(folder):
    assert json.loads((folder / "defense.json").read_text()) == {
        "target_name": "mini_vgg",
        "registered_target": {"name": "mini_vgg", "checkpoint": None, "image_size": None},
    }
    assert shipped_weights("mini_vgg").is_file()


class Halve(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


def _target_with(layer, name="odd (1)") -> Target:
    images = keras.Input((20, 20, 3))
    scores = keras.layers.Dense(6)(keras.layers.Flatten()(layer(images)))
    return load_target(keras.Model(images, scores, name=name))


@pytest.mark.parametrize(
    ("layer", "asked", "reason"),
    [
        (lambda: keras.layers.Lambda(lambda x: x / 2), {"safe_mode": False}, "holds Python code.*`safe_mode=False`"),
        (Halve, {"custom_objects": {"Halve": Halve}}, r"needs code of yours \(.*\): `custom_objects=MODULE`"),
    ],
)
def test_a_target_that_needs_code_is_known_before_and_its_denoiser_never_lost(tmp_path, layer, asked, reason):
    target = _target_with(layer())
    with pytest.raises(TargetError, match=rf"odd \(1\) cannot be kept beside its denoiser: .*{reason}"):
        check_saving(target)
    defense = Defense(_denoiser(channels=3), target)
    save_defense(defense, tmp_path)
    with pytest.raises(RunError, match=rf"target\.keras.*{reason}.*load_defense\(DIR, target=…\)"):
        load_defense(tmp_path)
    for loaded in (load_defense(tmp_path, target=target), load_defense(tmp_path, **asked)):
        _assert_same_answers(loaded, defense, _images(20, 20, 3))
    check_saving(_users_target())


def test_the_module_of_a_users_layers_is_remembered(tmp_path, monkeypatch):
    (tmp_path / "layers_of_mine.py").write_text(
        "from hgd_tf.foundation.stack import keras\nclass Tripled(keras.layers.Layer):\n"
        "    def call(self, x):\n        return 3 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    objects = importlib.import_module("layers_of_mine")
    images = keras.Input((20, 20, 3))
    scores = keras.layers.Dense(6)(keras.layers.Flatten()(objects.Tripled()(images)))
    for file in ("my model (1).keras", "old.h5"):
        keras.Model(images, scores).save(tmp_path / file)
        with pytest.raises(TargetError, match=r"code of yours \(.*\): `custom_objects=MODULE`"):
            load_target(tmp_path / file)
        target = load_target(tmp_path / file, custom_objects="layers_of_mine")
        assert target.name == file.rpartition(".")[0]
        check_saving(target)
        save_defense(Defense(_denoiser(channels=3), target), tmp_path / "saved")
        loaded = load_defense(tmp_path / "saved").target
        assert (loaded.name, loaded.module) == (target.name, "layers_of_mine")
        np.testing.assert_allclose(
            loaded(_images(20, 20, 3))["logits"], target(_images(20, 20, 3))["logits"], rtol=1e-5
        )
    with pytest.raises(TargetError, match=r"`custom_objects=no_such`: expected a Python module"):
        load_target(tmp_path / "old.h5", custom_objects="no_such")


def test_code_inside_an_old_file_is_not_run(tmp_path):
    images = keras.Input((20, 20, 3))
    x = keras.layers.Lambda(lambda x: x / 2)(images)
    model = keras.Model(images, keras.layers.Dense(6)(keras.layers.Flatten()(x)))
    model.save(tmp_path / "lambda.h5")
    with pytest.raises(TargetError, match=r"holds Python code.*`safe_mode=False`"):
        load_target(tmp_path / "lambda.h5")
    trusted = load_target(tmp_path / "lambda.h5", safe_mode=False)
    pixels = _images(20, 20, 3)
    np.testing.assert_allclose(trusted(pixels)["logits"], model(pixels.astype(np.float32)), rtol=1e-4, atol=1e-4)
