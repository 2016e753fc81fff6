"""Variables find their values by name or by order, all of them or none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from hgd_tf.checkpoints.assign import assign
from hgd_tf.checkpoints.names import KERAS, SLIM, TORCH
from hgd_tf.errors import CheckpointError
from hgd_tf.foundation.stack import keras

layers = keras.layers
CLASSES = 5


@pytest.fixture
def network() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, (3, 2), use_bias=False, name="block/conv")(images)
    x = layers.BatchNormalization(scale=False, name="block/conv/BatchNorm")(x)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="deep")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, {"logits": layers.Dense(CLASSES, name="head")(x)}, name="small")


def _values(classes: int = CLASSES) -> dict[str, np.ndarray]:
    """In TF-Slim's names and layout."""
    generator = np.random.default_rng(0)
    shapes = {
        "block/conv/weights": (3, 2, 3, 4),
        "block/conv/BatchNorm/beta": (4,),
        "block/conv/BatchNorm/moving_mean": (4,),
        "block/conv/BatchNorm/moving_variance": (4,),
        "deep/depthwise_kernel": (3, 3, 4, 1),
        "head/weights": (4, classes),
        "head/biases": (classes,),
    }
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _under(prefix: str, values: dict) -> dict:
    return {prefix + name: value for name, value in values.items()}


@pytest.mark.parametrize("prefix", ["", "InceptionV3/", "Ens3AdvInceptionV3/InceptionV3/"])
def test_every_variable_is_found_under_any_prefix(network, prefix):
    values = _values()
    extra = {"global_step": np.array(3), f"{prefix}block/conv/weights/Momentum": values["block/conv/weights"] + 1}
    assign(network, {**extra, **_under(prefix, values)}, SLIM, file="a.ckpt")
    np.testing.assert_array_equal(network.get_layer("block/conv").kernel, values["block/conv/weights"])
    norm = network.get_layer("block/conv/BatchNorm")
    np.testing.assert_array_equal(norm.beta, values["block/conv/BatchNorm/beta"])
    np.testing.assert_array_equal(norm.moving_mean, values["block/conv/BatchNorm/moving_mean"])
    np.testing.assert_array_equal(norm.moving_variance, values["block/conv/BatchNorm/moving_variance"])
    np.testing.assert_array_equal(network.get_layer("head").bias, values["head/biases"])


def test_what_the_file_has_beside_is_listed_at_debug_level(network, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "debug", lambda message, *arguments: lines.append(message % arguments))
    assign(network, {**_values(), "global_step": np.array(3), "a/Momentum": np.array(1)}, SLIM, file="a.ckpt")
    assert lines == ["a.ckpt: not in small: ['a/Momentum', 'global_step']"]


def test_the_background_class_is_dropped(network):
    values = _values(CLASSES + 1)
    assign(network, values, SLIM, file="a.ckpt", background_class=True)
    np.testing.assert_array_equal(network.get_layer("head").kernel, values["head/weights"][:, 1:])
    np.testing.assert_array_equal(network.get_layer("head").bias, values["head/biases"][1:])


@pytest.mark.parametrize("background_class, received", [(True, CLASSES), (False, CLASSES + 1)])
def test_another_number_of_classes_is_named(network, background_class, received):
    expected = CLASSES + background_class
    with pytest.raises(
        CheckpointError, match=rf"a.ckpt: head/weights: expected shape \(4, {expected}\), received \(4, {received}\)"
    ):
        assign(network, _values(received), SLIM, file="a.ckpt", background_class=background_class)


def test_a_missing_variable_is_named_and_nothing_changes(network):
    before = network.get_weights()
    values = _under("net/", _values())
    del values["net/head/biases"]
    with pytest.raises(
        CheckpointError, match=r"a.ckpt does not hold small: it lacks 1 of 7 variables, .*'net/head/biases'"
    ):
        assign(network, values, SLIM, file="a.ckpt")
    for weight, old in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_a_wrong_shape_at_the_end_changes_nothing(network):
    before = network.get_weights()
    with pytest.raises(CheckpointError, match=r"head/biases: expected shape \(5,\), received \(4,\)"):
        assign(network, {**_values(), "head/biases": np.zeros(4, np.float32)}, SLIM, file="a.ckpt")
    for weight, old in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_another_networks_file_is_named_with_what_it_holds(network):
    with pytest.raises(CheckpointError, match=r"a.ckpt has no 'block/conv/weights' under any prefix; it holds 'x/y'"):
        assign(network, {"x/y": np.zeros(3)}, SLIM, file="a.ckpt")


def test_two_networks_in_one_file_are_ambiguous(network):
    both = {**_under("first/", _values()), **_under("second/", _values())}
    with pytest.raises(CheckpointError, match=r"more than one such network, under 'first/', 'second/'"):
        assign(network, both, SLIM, file="a.ckpt")


def test_of_a_whole_network_and_a_part_the_whole_one_is_taken(network):
    whole = _values()
    part = {"a/block/conv/weights": whole["block/conv/weights"] + 1}
    assign(network, {**part, **_under("b/", whole)}, SLIM, file="a.ckpt")
    np.testing.assert_array_equal(network.get_layer("block/conv").kernel, whole["block/conv/weights"])


def _torch(classes: int = CLASSES) -> dict[str, np.ndarray]:
    """The same values in PyTorch's layout, under index keys in definition order, with a scale and a counter."""
    values = _values(classes)
    return {
        "0.weight": values["block/conv/weights"].transpose(3, 2, 0, 1),
        "1.weight": np.array([1, 2, -1, 0.5], np.float32),
        "1.bias": values["block/conv/BatchNorm/beta"],
        "1.running_mean": values["block/conv/BatchNorm/moving_mean"],
        "1.running_var": np.abs(values["block/conv/BatchNorm/moving_variance"]),
        "1.num_batches_tracked": np.array(7),
        "2.weight": values["deep/depthwise_kernel"].transpose(2, 3, 0, 1),
        "3.weight": values["head/weights"].T,
        "3.bias": values["head/biases"],
    }


@pytest.mark.parametrize("background", [False, True])
def test_index_keys_are_matched_by_order_and_the_scale_is_absorbed(network, background):
    tensors = _torch(CLASSES + background)
    assign(network, tensors, TORCH, file="a.pth", definition_order=list, background_class=background)
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    x = tf.nn.conv2d(images, tensors["0.weight"].transpose(2, 3, 1, 0), 1, "VALID").numpy()
    deviation = np.sqrt(tensors["1.running_var"] + 1e-3)
    x = tensors["1.weight"] * (x - tensors["1.running_mean"]) / deviation + tensors["1.bias"]
    x = tf.nn.depthwise_conv2d(x, tensors["2.weight"].transpose(2, 3, 0, 1), (1, 1, 1, 1), "VALID").numpy()
    expected = x.mean(axis=(1, 2)) @ tensors["3.weight"].T + tensors["3.bias"]
    logits = network(images, training=False)["logits"]
    np.testing.assert_allclose(logits, expected[:, int(background) :], rtol=1e-4, atol=1e-5)


def test_another_number_of_tensors_is_named(network):
    tensors = _torch()
    del tensors["3.bias"]
    with pytest.raises(CheckpointError, match=r"where 8 tensors were expected, 7 were received, such as '0.weight'"):
        assign(network, tensors, TORCH, file="a.pth", definition_order=list)


def test_another_order_is_named(network):
    tensors = dict(sorted(_torch().items(), key=lambda item: item[0] == "0.weight"))
    with pytest.raises(CheckpointError, match=r"a.pth: 1.weight: expected shape \(4, 3, 3, 2\), received \(4,\)"):
        assign(network, tensors, TORCH, file="a.pth", definition_order=list)


def test_kerass_own_names_are_the_variables(network):
    values = {
        f"{layer.name}/{v.name.rsplit('/', 1)[-1][:-2]}": v.numpy() + 1
        for layer in network.layers
        for v in layer.weights
    }
    assign(network, values, KERAS, file="a.keras")
    np.testing.assert_array_equal(network.get_layer("deep").depthwise_kernel, values["deep/depthwise_kernel"])
