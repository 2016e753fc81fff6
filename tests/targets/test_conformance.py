"""Every registered target: its shapes, parameters and responses, in one list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import TARGETS, Target, build_target
from hgd_tf.targets.freezing import frozen_copy

tf_layers = keras.layers


class Expected(NamedTuple):
    """What is known of a target independently of its code.

    Attributes:
      features: shape of its map at the native size.
      published_parameters: with a scale in every batch normalization and without an auxiliary head, as the
        literature and PyTorch's ports count them.
      auxiliary: whether it has such a head at the native size.
      other_size: another side that it admits, the smallest tried where none is too small, and the map's there.
      last: the layer whose output is `features`.
      too_small: a side that it does not admit, where there is one.
      slow: whether it takes a minute.
    """

    features: tuple[int, int, int]
    published_parameters: int
    auxiliary: bool
    other_size: tuple[int, int]
    last: str
    too_small: int = 0
    slow: bool = True


INCEPTION_V3 = Expected((8, 8, 2048), 23_834_568, True, (224, 5), "Mixed_7c", 60)
INCEPTION_RESNET_V2 = Expected((8, 8, 1536), 55_843_464, True, (224, 5), "Conv2d_7b_1x1/Relu", 60)
CONFORMANCE = {
    "mini_inception": Expected((7, 7, 72), 63_030, False, (16, 4), "features", slow=False),
    "mini_inception_resnet": Expected((7, 7, 64), 58_842, False, (16, 4), "features", slow=False),
    "mini_resnet": Expected((7, 7, 40), 64_426, False, (16, 4), "features", slow=False),
    "mini_vgg": Expected((7, 7, 64), 70_330, False, (16, 4), "features", slow=False),
    "ens_mini_inception": Expected((7, 7, 72), 63_030, False, (16, 4), "features", slow=False),
    "inception_v3": INCEPTION_V3,
    "adv_inception_v3": INCEPTION_V3,
    "ens3_adv_inception_v3": INCEPTION_V3,
    "ens4_adv_inception_v3": INCEPTION_V3,
    "inception_v4": Expected((8, 8, 1536), 42_679_816, True, (224, 5), "Mixed_7d", 60),
    "inception_resnet_v2": INCEPTION_RESNET_V2,
    "ens_adv_inception_resnet_v2": INCEPTION_RESNET_V2,
    "resnet_v2_50": Expected((7, 7, 2048), 25_568_360, False, (299, 10), "postnorm/Relu"),
    "resnet_v2_101": Expected((7, 7, 2048), 44_577_896, False, (299, 10), "postnorm/Relu"),
    "resnet_v2_152": Expected((7, 7, 2048), 60_236_904, False, (299, 10), "postnorm/Relu"),
    "resnet_v1_152": Expected((7, 7, 2048), 60_192_808, False, (299, 10), "block4/unit_3/bottleneck_v1/Relu"),
    "resnet152": Expected((7, 7, 2048), 60_192_808, False, (299, 10), "layer4.2.relu"),
    "resnext101_32x4d": Expected((7, 7, 2048), 44_177_704, False, (299, 10), "layer4.2.relu"),
    "efficientnet_lite0": Expected((7, 7, 1280), 4_652_008, False, (16, 1), "bn1.relu6", slow=False),
    "efficientnet_lite1": Expected((8, 8, 1280), 5_416_680, False, (160, 5), "bn1.relu6"),
    "efficientnet_lite2": Expected((9, 9, 1280), 6_092_072, False, (224, 7), "bn1.relu6"),
}

# Whose family has a smaller one; of ResNeXt, whose grouped convolutions have tests of their own, a minute and a half.
LONG = (
    "inception_v4",
    "inception_resnet_v2",
    "resnet_v2_101",
    "resnet_v2_152",
    "resnet_v1_152",
    "resnet152",
    "resnext101_32x4d",
)


def _cases():
    """Targets of one architecture are one case under the first one's name."""
    seen = {}
    for name, expected in CONFORMANCE.items():
        if name in TARGETS and seen.setdefault(TARGETS[name].build, name) == name:
            marks = [pytest.mark.slow] * expected.slow + [pytest.mark.long] * (name in LONG)
            yield pytest.param(name, marks=marks)


@pytest.fixture(scope="module", params=_cases())
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name, randomize) -> keras.Model:
    return randomize(build_target(name))


def _images(name: str, count: int) -> np.ndarray:
    spec = TARGETS[name]
    shape = (count, spec.image_size, spec.image_size, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_every_target_is_in_the_list():
    assert list(CONFORMANCE) == list(TARGETS)


@pytest.mark.parametrize("name", list(TARGETS))
def test_targets_that_share_a_network_are_expected_alike(name):
    twins = [other for other in TARGETS if TARGETS[other].build is TARGETS[name].build]
    assert {CONFORMANCE[twin] for twin in twins} == {CONFORMANCE[name]}
    assert {TARGETS[twin].parameters for twin in twins} == {TARGETS[name].parameters}


def test_shapes_are_the_literatures(name, network):
    spec, expected = TARGETS[name], CONFORMANCE[name]
    shapes = {"features": (None, *expected.features), "logits": (None, spec.classes)}
    if expected.auxiliary:
        shapes["aux_logits"] = (None, spec.classes)
    assert network.output_shape == shapes
    assert network.input_shape == (None, spec.image_size, spec.image_size, spec.channels)


def test_parameters_are_as_listed_and_as_published(name, network):
    trainable = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    assert trainable == TARGETS[name].parameters
    head = [layer for layer in network.layers if layer.name.startswith("AuxLogits/")]
    norms = [layer for layer in network.layers if isinstance(layer, tf_layers.BatchNormalization) and layer not in head]
    scales = sum(layer.moving_mean.shape[0] for layer in norms if not layer.scale)
    in_head = sum(int(np.prod(variable.shape)) for layer in head for variable in layer.trainable_variables)
    assert trainable - in_head + scales == CONFORMANCE[name].published_parameters


@pytest.mark.numerics
def test_it_classifies_in_a_graph_of_unknown_batch_size_and_gradients_reach_the_images(name, network, relative_error):
    folded = frozen_copy(network)
    target = Target(folded, name=name)
    images = _images(name, 2)
    expected = network(tf.cast(images, tf.float32), training=False)

    @tf.function(input_signature=[tf.TensorSpec((None, *images.shape[1:]), tf.float32)])
    def responses(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            outputs = target(batch)
            score = tf.reduce_sum(outputs["logits"][:, 0]) + tf.reduce_sum(outputs.get("aux_logits", 0.0))
        return outputs, tape.gradient(score, batch)

    outputs, gradient = responses(tf.cast(images, tf.float32))
    for key, value in expected.items():
        assert relative_error(outputs[key], value) < 1e-4, key
        assert np.std(value) > 0.01
    assert np.all(np.isfinite(gradient))
    assert np.all(np.count_nonzero(gradient, axis=(1, 2, 3)) > 0.5 * gradient[0].shape.num_elements())
    assert not np.allclose(outputs["logits"][0], outputs["logits"][1], rtol=1e-3)
    first = responses(tf.cast(images[:1], tf.float32))[0]
    assert relative_error(first["logits"][0], outputs["logits"][0]) < 1e-4


@pytest.mark.numerics
def test_the_gradient_is_the_difference_quotient(name, network):
    """Along the direction of an attack, its sign: what an attack follows is what the network does.

    Short steps drown in rounding and long ones meet the network's curvature; one of them must do.
    """
    target = Target(network, name=name)
    images = tf.cast(_images(name, 1), tf.float32)
    weights = tf.random.stateless_normal((1, target.classes), (1, 1))

    def score(images):
        return tf.reduce_sum(target(images)["logits"] * weights)

    with tf.GradientTape() as tape:
        tape.watch(images)
        value = score(images)
    gradient = tape.gradient(value, images)
    slope = float(tf.reduce_sum(tf.abs(gradient)))
    quotients = []
    for length in (0.01, 0.1, 1.0):
        step = length * tf.sign(gradient)
        quotients.append(float(score(images + step) - score(images - step)) / (2 * length))
    assert min(abs(quotient - slope) for quotient in quotients) < 0.05 * slope


def test_features_are_the_named_layers_output_and_every_layer_can_be_seen(name, network):
    target = Target(network, name=name)
    images = _images(name, 1)
    last = CONFORMANCE[name].last
    maps = target.layer_outputs(images, [last, "features"])
    np.testing.assert_array_equal(maps[last], maps["features"])
    assert maps["features"].numpy().min() == 0  # after its activation
    assert {layer.name for layer in network.layers} <= set(target.layer_outputs(images))


def test_another_size_shares_the_weights_and_has_no_auxiliary_head(name, network):
    size, side = CONFORMANCE[name].other_size
    other = build_target(name, size)
    assert other.output_shape["features"] == (None, side, side, CONFORMANCE[name].features[-1])
    assert set(other.output) == {"features", "logits"}
    body = [layer for layer in network.layers if not layer.name.startswith("AuxLogits/")]
    assert [w.shape for layer in other.layers for w in layer.weights] == [
        w.shape for layer in body for w in layer.weights
    ]


@pytest.mark.parametrize("name", [case for case in _cases() if CONFORMANCE[case.values[0]].too_small])
def test_a_size_that_is_too_small_is_named(name):
    too_small = CONFORMANCE[name].too_small
    with pytest.raises(TargetError, match=f"{name} cannot be built for images of side {too_small}"):
        build_target(name, too_small)


def test_saved_and_loaded_it_answers_the_same(name, network, tmp_path, relative_error):
    network.save(tmp_path / f"{name}.keras")
    loaded = keras.models.load_model(tmp_path / f"{name}.keras", compile=False)
    images = tf.cast(_images(name, 1), tf.float32)
    expected, received = network(images, training=False), loaded(images, training=False)
    assert set(received) == set(expected)
    for key in expected:
        assert relative_error(received[key], expected[key]) < 1e-4, key
    for weight, saved in zip(loaded.get_weights(), network.get_weights()):
        np.testing.assert_array_equal(weight, saved)
