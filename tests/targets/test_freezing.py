"""Folded networks answer as before, with fewer normalizations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.targets.convolution import InputGradientConv2D
from hgd_tf.targets.freezing import frozen_copy

layers = tf.keras.layers


def _network() -> tf.keras.Model:
    """Every case: with and without bias and scale, depthwise, grouped, and three that cannot be folded."""
    images = tf.keras.Input((12, 12, 4))
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
    return tf.keras.Model(images, {"features": response, "logits": logits})


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
        assert relative_error(after, before) < 1e-5


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
    images = tf.keras.Input((1, 1, 1))
    x = layers.Conv2D(1, 1, name="conv")(images)
    network = tf.keras.Model(images, layers.BatchNormalization(epsilon=0.0, name="norm")(x))
    network.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 6.0), np.array([5.0])])
    network.get_layer("norm").set_weights([np.array([2.0]), np.array([3.0]), np.array([1.0]), np.array([4.0])])
    kernel, bias = frozen_copy(network).get_layer("conv").get_weights()
    assert kernel.item() == 6.0  # 6 * 2 / sqrt(4)
    assert bias.item() == 7.0  # 3 + (5 - 1) * 2 / sqrt(4)
