"""The small targets, whose weights ship, keep the contract of a target."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.defenses import load_defense
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import TARGETS, Target, build_target, class_name, load_target, shipped_weights

ENSEMBLE_TRAINED = "ens_mini_inception"
MINIS = ("mini_inception", "mini_inception_resnet", "mini_resnet", "mini_vgg", ENSEMBLE_TRAINED)


@pytest.fixture(params=MINIS)
def name(request) -> str:
    return request.param


@pytest.fixture
def target(name) -> Target:
    return _loaded(name)


@functools.cache
def _loaded(name: str) -> Target:
    return load_target(name)


@functools.cache
def _built(name: str) -> keras.Model:
    return build_target(name)


@functools.cache
def _test_images():
    return load_fashion_mnist().test


def _images(target: Target, count: int = 4) -> np.ndarray:
    shape = (count, target.image_size, target.image_size, target.channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def _weights_as_bytes(target: Target) -> list[bytes]:
    return [weight.tobytes() for weight in target.network.get_weights()]


def test_the_targets_whose_weights_ship_are_the_five_minis():
    assert tuple(name for name, spec in TARGETS.items() if spec.published is None) == MINIS


def test_every_target_builds_with_the_registered_shapes(name):
    spec = TARGETS[name]
    network = _built(name)
    assert network.input_shape == (None, spec.image_size, spec.image_size, spec.channels)
    assert network.output_shape["logits"] == (None, spec.classes)
    assert len(network.trainable_variables) > 0
    assert len(spec.class_names) in (0, spec.classes)


def test_shipped_weights_are_under_one_megabyte(name):
    assert 10_000 < shipped_weights(name).stat().st_size < 1_000_000


def test_a_loaded_target_holds_the_shipped_weights_and_says_what_it_is(name, target):
    spec = TARGETS[name]
    fresh = _built(name)
    fresh.load_weights(shipped_weights(name))
    assert _weights_as_bytes(target) == [weight.tobytes() for weight in fresh.get_weights()]
    assert (target.name, target.image_size, target.channels, target.classes) == (
        name,
        spec.image_size,
        spec.channels,
        spec.classes,
    )


def test_features_are_rectified_maps_and_logits_have_a_column_a_class(target):
    outputs = target(_images(target))
    assert set(outputs) >= {"features", "logits"}
    features, logits = outputs["features"].numpy(), outputs["logits"].numpy()
    assert features.ndim == 4 and features.dtype == np.float32
    assert features.shape[1] == features.shape[2] > 1
    assert features.min() == 0.0 < features.max()
    assert logits.shape == (4, target.classes) and logits.dtype == np.float32


def test_logits_depend_on_the_features_mean_alone(target):
    outputs = target(_images(target))
    kernel, bias = target.network.get_layer("logits").get_weights()
    by_hand = outputs["features"].numpy().mean(axis=(1, 2)) @ kernel + bias
    np.testing.assert_allclose(outputs["logits"], by_hand, rtol=1e-4, atol=1e-4)


def test_compiled_with_unknown_batch_size_it_answers_as_eagerly(target):
    images = _images(target, 5)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, *images.shape[1:]), tf.uint8)])
    def classify(batch):
        traces.append(batch.shape)
        return target(batch)["logits"]

    for count in (1, 5):
        expected = target(images[:count])["logits"]
        np.testing.assert_allclose(classify(images[:count]), expected, rtol=1e-4, atol=1e-4)
    assert len(traces) == 1 and traces[0][0] is None


def test_uint8_and_float32_pixels_give_the_same_answer(target):
    images = _images(target)
    as_bytes, as_floats = target(images), target(images.astype(np.float32))
    for key in ("features", "logits"):
        np.testing.assert_allclose(as_bytes[key], as_floats[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("key", ["features", "logits"])
def test_gradients_reach_every_image(target, key):
    images = tf.constant(_images(target), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        response = tf.reduce_sum(tf.square(target(images)[key]))
    gradient = tape.gradient(response, images).numpy()
    assert np.all(np.isfinite(gradient))
    assert np.all(np.count_nonzero(gradient, axis=(1, 2, 3)) > gradient[0].size / 2)


def test_gradients_flow_through_the_resize(target):
    side = 2 * target.image_size
    images = tf.random.stateless_uniform((2, side, side, target.channels), (0, 0), 0, 255)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.reduce_sum(target(images)["logits"][:, 0])
    gradient = tape.gradient(score, images).numpy()
    assert np.all(np.count_nonzero(gradient, axis=(1, 2, 3)) > gradient[0].size / 2)


def test_training_mode_changes_neither_answer_nor_weight(target):
    images = _images(target)
    before, expected = _weights_as_bytes(target), target(images)
    for _ in range(2):
        outputs = target(images, training=True)
        for key in ("features", "logits"):
            assert outputs[key].numpy().tobytes() == expected[key].numpy().tobytes()
    assert _weights_as_bytes(target) == before


def test_nothing_is_trainable(target):
    assert not target.trainable
    assert target.trainable_variables == []
    assert len(target.non_trainable_variables) == len(target.network.get_weights()) > 0
    assert not any(layer.trainable for layer in target.network.layers)


@pytest.mark.parametrize("factors", [(2, 2), (0.5, 0.5), (1.5, 0.75), (1, 2)])
def test_images_of_other_sizes_are_resized_with_antialiasing(target, factors):
    height, width = (round(target.image_size * factor) for factor in factors)
    images = np.random.default_rng(1).uniform(0, 255, (2, height, width, target.channels)).astype(np.float32)
    resized = tf.image.resize(images, (target.image_size, target.image_size), antialias=True)
    actual, expected = target(images), target.network(resized, training=False)
    for key in ("features", "logits"):
        np.testing.assert_allclose(actual[key], expected[key], rtol=1e-5, atol=1e-5)


def test_shrinking_without_antialiasing_would_give_another_answer(target):
    side = 3 * target.image_size
    images = np.random.default_rng(1).uniform(0, 255, (2, side, side, target.channels)).astype(np.float32)
    aliased = tf.image.resize(images, (target.image_size, target.image_size), antialias=False)
    assert np.abs(target(images)["logits"] - target(aliased)["logits"]).max() > 0.1


def test_another_image_size_can_be_chosen():
    target, larger = _loaded("mini_vgg"), load_target("mini_vgg", image_size=32)
    assert larger.image_size == 32
    assert _weights_as_bytes(larger) == _weights_as_bytes(target)
    images = _images(target)
    outputs = larger(images)
    expected = larger.network(tf.image.resize(tf.cast(images, tf.float32), (32, 32), antialias=True))
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
    assert outputs["features"].shape[1] == 8 > target(images)["features"].shape[1]


def test_clean_accuracy_is_that_of_the_registry(name, target):
    images, labels = _test_images()
    logits = np.concatenate([target(images[first : first + 500])["logits"] for first in range(0, len(images), 500)])
    accuracy = np.mean(np.argmax(logits, axis=-1) == labels)
    assert accuracy >= (0.88 if name == ENSEMBLE_TRAINED else 0.90)
    assert accuracy == pytest.approx(TARGETS[name].accuracy, abs=0.02)


def test_layer_outputs_give_every_named_map(target):
    images = _images(target, 2)
    maps, outputs = target.layer_outputs(images), target(images)
    assert list(maps) == [layer.name for layer in target.network.layers]
    np.testing.assert_array_equal(maps["images"], images.astype(np.float32))
    for key in ("features", "logits"):
        np.testing.assert_allclose(maps[key], outputs[key], rtol=1e-5, atol=1e-5)


def test_layer_outputs_give_only_what_is_named_in_that_order(target):
    maps = target.layer_outputs(_images(target, 2), ["logits", "features"])
    assert list(maps) == ["logits", "features"]


def test_layer_outputs_resize_as_the_target_does(target):
    images = np.repeat(np.repeat(_images(target, 2), 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(
        target.layer_outputs(images, ["logits"])["logits"], target(images)["logits"], rtol=1e-5, atol=1e-5
    )


def test_an_unknown_layer_is_refused_with_the_known_ones(target):
    with pytest.raises(TargetError, match=r"unknown layer 'nowhere'.*features.*logits"):
        target.layer_outputs(_images(target), ["features", "nowhere"])


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(TargetError) as caught:
        load_target("mini_lenet")
    assert "'mini_lenet'" in str(caught.value)
    assert all(name in str(caught.value) for name in TARGETS)


def test_an_unknown_name_cannot_be_built():
    with pytest.raises(TargetError, match="unknown target 'mini_lenet'"):
        build_target("mini_lenet")


def test_a_missing_checkpoint_is_named(tmp_path):
    checkpoint = tmp_path / "absent.weights.h5"
    with pytest.raises(TargetError, match=r"no weights file at .*absent.weights.h5"):
        load_target("mini_vgg", str(checkpoint))


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(tmp_path, kept):
    content = shipped_weights("mini_vgg").read_bytes()
    checkpoint = tmp_path / "truncated.weights.h5"
    checkpoint.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(TargetError, match=r"truncated.weights.h5 does not hold the weights of mini_vgg: \w"):
        load_target("mini_vgg", str(checkpoint))


def test_a_checkpoint_of_another_format_is_named(tmp_path):
    checkpoint = tmp_path / "text.weights.h5"
    checkpoint.write_text("these are no weights\n" * 100)
    with pytest.raises(TargetError, match=r"text.weights.h5 does not hold the weights of mini_vgg"):
        load_target("mini_vgg", str(checkpoint))


def test_a_checkpoint_with_a_damaged_index_is_named(tmp_path):
    content = bytearray(shipped_weights("mini_vgg").read_bytes())
    content[96:600] = b"\xff" * 504
    checkpoint = tmp_path / "damaged.weights.h5"
    checkpoint.write_bytes(content)
    with pytest.raises(TargetError, match=r"damaged.weights.h5 does not hold the weights of mini_vgg"):
        load_target("mini_vgg", str(checkpoint))


def test_weights_of_another_architecture_are_refused():
    other = shipped_weights("mini_inception_resnet")
    with pytest.raises(TargetError, match=r"does not hold the weights of mini_vgg: .*[Ss]hape"):
        load_target("mini_vgg", str(other))


def test_a_checkpoint_replaces_the_shipped_weights(tmp_path):
    network = build_target("mini_vgg")
    checkpoint = tmp_path / "own.weights.h5"
    network.save_weights(checkpoint)
    target = load_target("mini_vgg", str(checkpoint))
    assert _weights_as_bytes(target) == [weight.tobytes() for weight in network.get_weights()]
    assert target.source == ("mini_vgg", str(checkpoint), None)


def test_class_names_follow_the_registry():
    assert class_name("mini_vgg", 3) == "class 3 (Dress)"
    assert class_name("a model of the user's", 3) == "class 3"


@pytest.mark.parametrize("load", [load_target, load_defense])
def test_loading_while_a_graph_is_traced_is_refused(load):
    @tf.function
    def traced(images):
        return load("mini_inception_lgd" if load is load_defense else "mini_vgg")(images)["logits"]

    with pytest.raises(RuntimeError, match="before a graph is traced"):
        traced(tf.zeros((1, 28, 28, 1)))
