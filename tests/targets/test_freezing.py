"""Folded networks answer as before, with fewer normalizations; bfloat16 copies about as before."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.architectures.convolution import InputGradientConv2D, InputGradientDepthwiseConv2D
from hgd_tf.data import load_fashion_mnist
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target
from hgd_tf.targets.freezing import bfloat16_copy, float32_copy, frozen_copy, inference_copy

layers = keras.layers

BFLOAT16 = 2.0**-8  # its relative rounding
ROUNDING = 3e-5  # of the largest value: sums of at most a hundred products in float32, a few after one another


def _network() -> keras.Model:
    """Every case: with and without bias and scale, depthwise, grouped, and three that cannot be folded."""
    images = keras.Input((12, 12, 4))
    x = layers.BatchNormalization(name="first")(images)  # no convolution before it
    x = layers.Conv2D(8, 3, use_bias=False, name="plain")(x)
    x = layers.BatchNormalization(name="plain_norm")(x)
    x = layers.Conv2D(8, 3, name="biased")(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, center=False, name="biased_norm")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="depthwise_norm")(x)
    x = InputGradientConv2D(8, 3, padding="same", groups=4, use_bias=False, name="grouped")(x)
    x = layers.BatchNormalization(name="grouped_norm")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="activated")(x)
    x = layers.BatchNormalization(name="activated_norm")(x)
    shared = layers.Conv2D(8, 1, name="shared")(x)
    features = layers.Add()([shared, layers.BatchNormalization(name="shared_norm")(shared)])
    response = layers.Conv2D(8, 1, name="response")(features)
    logits = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="response_norm")(response))
    return keras.Model(images, {"features": response, "logits": logits})


@pytest.mark.numerics
def test_answers_and_gradients_stay(randomize, relative_error):
    network = randomize(_network())
    folded = frozen_copy(network)
    images = tf.constant(np.random.default_rng(0).normal(size=(3, 12, 12, 4)).astype(np.float32))
    results = []
    for model in (network, folded):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=False)
            score = tf.reduce_sum(outputs["logits"] ** 2)
        results.append([outputs["features"], outputs["logits"], tape.gradient(score, images)])
    for before, after in zip(*results):
        assert relative_error(after, before) < ROUNDING


def test_only_what_follows_a_lone_convolution_is_folded(randomize):
    network = randomize(_network())
    before = [weight.copy() for weight in network.get_weights()]
    folded = frozen_copy(network)
    kept = {layer.name for layer in folded.layers if isinstance(layer, layers.BatchNormalization)}
    assert kept == {"first", "activated_norm", "shared_norm", "response_norm"}
    assert [layer.name for layer in folded.layers] == [layer.name for layer in network.layers]
    for weight, old in zip(network.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_a_fold_is_by_hand():
    images = keras.Input((1, 1, 1))
    x = layers.Conv2D(1, 1, name="conv")(images)
    network = keras.Model(images, layers.BatchNormalization(epsilon=0.0, name="norm")(x))
    network.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 6.0), np.array([5.0])])
    network.get_layer("norm").set_weights([np.array([2.0]), np.array([3.0]), np.array([1.0]), np.array([4.0])])
    kernel, bias = frozen_copy(network).get_layer("conv").get_weights()
    assert kernel.item() == 6.0  # 6 * 2 / sqrt(4)
    assert bias.item() == 7.0  # 3 + (5 - 1) * 2 / sqrt(4)


# --- what does not fold, or not as it seems ---


class Doubling(layers.Conv2D):
    """What a convolution of the user's own may do."""

    def call(self, inputs):
        return 2.0 * super().call(inputs) + 1.0


class DoublingNormalization(layers.BatchNormalization):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


class Block(layers.Layer):
    """Layers inside layers, whose weights change their order when they are frozen."""

    def __init__(self, depth: int = 1, **options):
        super().__init__(**options)
        self.depth = depth
        self.inner = Block(depth - 1) if depth else layers.BatchNormalization()
        self.norm = layers.BatchNormalization()

    def call(self, inputs):
        return self.norm(self.inner(inputs))

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


def _then_norm(layer: layers.Layer, **options):
    return lambda x: layers.BatchNormalization(**options)(layer(x))


class Wrapped(layers.Wrapper):
    """As spectral normalization does: the convolution is inside, and its answer another."""

    def call(self, inputs):
        return self.layer(inputs) / 3.0


def _convolution_twice(x):
    convolution = layers.Conv2D(4, 3, padding="same")
    return layers.BatchNormalization()(convolution(layers.BatchNormalization()(convolution(x))))


def _norm_twice(x):
    norm = layers.BatchNormalization()
    return norm(layers.Conv2D(4, 3)(norm(layers.Conv2D(4, 3)(x))))


def _also_added(x):
    response = layers.Conv2D(4, 3)(x)
    return layers.BatchNormalization()(response) + response


def _batch_statistics_inside(x):
    inside = keras.Sequential([keras.Input((9, 8, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()])
    return inside(x, training=True)


def _frozen_inside(x):
    inside = keras.Sequential([keras.Input((9, 8, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()])
    return inside(x, training=False)


KEPT = {  # how many normalizations stay
    "transposed": (_then_norm(layers.Conv2DTranspose(4, 3, strides=2)), 1),
    "transposed to other channels": (_then_norm(layers.Conv2DTranspose(6, 3)), 1),
    "depth multiplier": (_then_norm(layers.DepthwiseConv2D(3, depth_multiplier=2)), 0),
    "grouped": (_then_norm(InputGradientConv2D(8, 3, groups=2)), 0),
    "dilated": (_then_norm(layers.Conv2D(5, 3, dilation_rate=2), scale=False), 0),
    "constrained": (_then_norm(layers.Conv2D(5, 3, kernel_constraint="non_neg"), center=False), 0),
    "synchronized": (_then_norm(layers.Conv2D(5, 3), synchronized=True), 0),
    "another axis": (_then_norm(layers.Conv2D(7, 3), axis=1), 1),
    "two axes": (_then_norm(layers.Conv2D(7, 3), axis=[1, 3]), 1),
    "axis from the front": (_then_norm(layers.Conv2D(7, 3), axis=3), 0),
    "batch statistics": (lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=True), 1),
    "separable": (_then_norm(layers.SeparableConv2D(6, 3)), 1),
    "a subclass": (_then_norm(Doubling(4, 3)), 1),
    "a normalization's subclass": (lambda x: DoublingNormalization()(layers.Conv2D(4, 3)(x)), 1),
    "wrapped": (_then_norm(Wrapped(layers.Conv2D(4, 3))), 1),
    "a convolution twice": (_convolution_twice, 2),
    "a normalization twice": (_norm_twice, 1),
    "added to its own": (_also_added, 1),
    "batch statistics inside": (_batch_statistics_inside, 1),
    "frozen inside": (_frozen_inside, 0),
    "layers inside layers": (Block(), 3),
    "a constant added": (lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3)(x) + 1.0), 1),
}


def _normalizations(network: keras.Model) -> int:
    return sum(isinstance(module, layers.BatchNormalization) for module in network.submodules)


@pytest.mark.numerics
@pytest.mark.parametrize("case", KEPT)
def test_only_what_folds_exactly_is_folded(case, relative_error):
    make, kept = KEPT[case]
    keras.utils.set_random_seed(0)
    x = keras.Input((9, 8, 4))
    network = keras.Model(x, make(x))
    generator = np.random.default_rng(0)
    network.set_weights([weight + generator.uniform(0.1, 0.9, weight.shape) for weight in network.get_weights()])
    network.trainable = False
    images = generator.normal(size=(2, 9, 8, 4)).astype(np.float32)
    for copied, left in ((frozen_copy, kept), (inference_copy, kept), (float32_copy, _normalizations(network))):
        copy = copied(network)
        assert _normalizations(copy) == left
        assert relative_error(copy(images, training=False), network(images, training=False)) < ROUNDING


class Nameless(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs


def test_a_layer_that_cannot_be_made_anew_is_named():
    images = keras.Input((9, 8, 4))
    network = keras.Model(images, Nameless(np.float32(2))(images), name="own")
    with pytest.raises(TargetError, match=r"own: layer 'nameless\w*' \(Nameless\) cannot be made anew"):
        frozen_copy(network)


# --- bfloat16 ---


def answers(model, images: np.ndarray, label: int = 0):
    """Responses, and the gradient of a class's log-probability by the images."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=False)
        score = tf.reduce_sum(tf.nn.log_softmax(outputs["logits"])[:, label])
    return outputs["features"], outputs["logits"], tape.gradient(score, images)


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["mini_inception", "mini_resnet"])
def test_a_target_in_bfloat16_answers_about_the_same_in_float32(name, relative_error):
    target = load_target(name)
    rounded, images = target.in_bfloat16(), load_fashion_mnist().test.images[:40].astype(np.float32)
    received, expected = answers(rounded, images), answers(target, images)
    for one, other in zip(received[:2], expected[:2]):
        assert one.dtype == tf.float32
        assert 1e-4 < relative_error(one, other) < 0.05
    assert np.mean(np.argmax(received[1], axis=1) == np.argmax(expected[1], axis=1)) >= 0.95
    assert received[2].dtype == tf.float32
    assert np.corrcoef(np.ravel(received[2]), np.ravel(expected[2]))[0, 1] > 0.9
    assert {variable.dtype for variable in rounded.network.variables} == {tf.float32}
    assert (rounded.name, rounded.image_size, rounded.trainable) == (target.name, target.image_size, False)


def test_a_copy_computes_every_layer_in_bfloat16_with_the_same_weights(randomize, relative_error):
    network = randomize(_network())
    copy = bfloat16_copy(network)
    computing = [layer for layer in copy.layers if layer.weights]
    assert len(computing) > 10
    assert {layer.compute_dtype for layer in computing} == {"bfloat16"}
    assert list(copy.output) == list(network.output)
    assert {output.dtype for output in copy.output.values()} == {tf.float32}
    for weight, old in zip(copy.get_weights(), network.get_weights()):
        np.testing.assert_array_equal(weight, old)


def _depthwise(**options) -> keras.Model:
    images = keras.Input((12, 11, 4))
    features = layers.DepthwiseConv2D(5, strides=2, padding="same", name="depthwise", **options)(images)
    logits = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1)(features))
    return keras.Model(images, {"features": features, "logits": logits})


@pytest.mark.numerics
@pytest.mark.parametrize(
    "options, kind",
    [
        ({}, InputGradientDepthwiseConv2D),
        ({"use_bias": False}, InputGradientDepthwiseConv2D),
        ({"depth_multiplier": 2}, layers.DepthwiseConv2D),
        ({"activation": "tanh"}, layers.DepthwiseConv2D),  # smooth: where a ReLU has its kink, rounding decides
    ],
    ids=str,
)
def test_depthwise_convolutions_get_the_quick_gradient_where_it_fits(options, kind, randomize, relative_error):
    network = randomize(_depthwise(**options))
    copy = bfloat16_copy(network)
    assert type(copy.get_layer("depthwise")) is kind
    images = np.random.default_rng(0).normal(size=(3, 12, 11, 4)).astype(np.float32)
    terms = 2 * (5 * 5 + 4 + 6 * 6)  # depthwise, 1 x 1 and mean over the map, there and back; some processors sum in it
    for received, expected in zip(answers(copy, images), answers(network, images)):
        assert relative_error(received, expected) < 4 * BFLOAT16 * np.sqrt(terms)
