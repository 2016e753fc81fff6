"""Convolutions with gradients of their own, against TensorFlow's, and the scaled sum by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.architectures.convolution import (
    InputGradientConv2D,
    InputGradientDepthwiseConv2D,
    convolution,
    frozen_depthwise,
)
from hgd_tf.architectures.residual import ScaledAdd
from hgd_tf.foundation.stack import keras

pytestmark = pytest.mark.numerics


def _dense_kernel(kernel: np.ndarray, groups: int) -> np.ndarray:
    """The kernel of the ungrouped convolution that does the same: zero between groups."""
    height, width, inputs, filters = kernel.shape
    dense = np.zeros((height, width, inputs * groups, filters), np.float32)
    for group in range(groups):
        outputs = slice(group * filters // groups, (group + 1) * filters // groups)
        dense[:, :, group * inputs : (group + 1) * inputs, outputs] = kernel[..., outputs]
    return dense


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("groups, size", [(4, (3, 3)), (1, (1, 1)), (1, (1, 7)), (2, (5, 3))])
@pytest.mark.parametrize("stride, padding, side", [(1, "SAME", 7), (2, "VALID", 9), (2, "VALID", 8), (3, "VALID", 11)])
def test_values_and_gradients_are_the_dense_convolutions(stride, padding, side, groups, size, compiled):
    generator = np.random.default_rng(0)
    inputs, filters = 3, 8
    images = tf.constant(generator.normal(size=(2, side, side + 1, groups * inputs)).astype(np.float32))
    kernel = tf.constant(generator.normal(size=(*size, inputs, filters)).astype(np.float32))

    def gradients(convolve, kernel):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = convolve(images, kernel)
            score = tf.reduce_sum(tf.sin(outputs))
        return outputs, *tape.gradient(score, [images, kernel])

    grouped = tf.function(gradients) if compiled else gradients
    outputs, by_images, by_kernel = grouped(lambda x, k: convolution(x, k, stride, padding), kernel)
    dense = tf.constant(_dense_kernel(kernel.numpy(), groups))
    expected = gradients(lambda x, k: tf.nn.conv2d(x, k, stride, padding), dense)
    np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_images, expected[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        _dense_kernel(by_kernel.numpy(), groups), expected[2].numpy() * (dense.numpy() != 0), rtol=1e-4, atol=1e-4
    )
    assert np.abs(by_kernel).min() > 0


@pytest.mark.parametrize("normalized", [False, True], ids=["bias", "batch normalization"])
def test_compiled_with_what_follows_it_answers_as_alone(normalized, relative_error):
    """TensorFlow would fuse these, and its fused kernel has no groups."""
    images = keras.Input((8, 8, 6))
    x = InputGradientConv2D(8, 3, padding="same", groups=2, use_bias=not normalized, bias_initializer="ones")(images)
    x = keras.layers.BatchNormalization()(x) if normalized else x
    model = keras.Model(images, keras.layers.ReLU()(x))
    inputs = tf.random.stateless_normal((2, 8, 8, 6), (0, 0))
    assert relative_error(tf.function(model)(inputs, training=False), model(inputs, training=False)) < 1e-5


def test_the_layer_keeps_kernel_bias_and_groups_through_saving(tmp_path):
    images = keras.Input((8, 8, 6))
    model = keras.Model(images, InputGradientConv2D(4, 3, padding="same", groups=2, bias_initializer="ones")(images))
    model.save(tmp_path / "grouped.keras")
    loaded = keras.models.load_model(tmp_path / "grouped.keras")
    assert [weight.shape for weight in loaded.get_weights()] == [(3, 3, 3, 4), (4,)]
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 6)).astype(np.float32)
    dense = tf.nn.conv2d(inputs, _dense_kernel(model.get_weights()[0], 2), 1, "SAME") + 1.0
    np.testing.assert_allclose(loaded(inputs), dense, rtol=1e-4, atol=1e-5)


# --- depthwise ---

DEPTHWISE_CASES = [
    (stride, kernel, padding, side)
    for stride in (1, 2, 3)
    for kernel in ((3, 3), (5, 5), (3, 5), (4, 4), (1, 1))
    for padding in ("same", "valid")
    for side in ((9, 8), (12, 11), (7, 7))
]


@pytest.mark.parametrize("stride, kernel, padding, side", DEPTHWISE_CASES)
def test_depthwise_values_and_input_gradients_are_tensorflows(stride, kernel, padding, side):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, *side, 3)).astype(np.float32))
    weights = tf.constant(generator.normal(size=(*kernel, 3, 1)).astype(np.float32))
    results = []
    for convolve in (
        lambda x: frozen_depthwise(x, weights, stride, padding),
        lambda x: tf.nn.depthwise_conv2d(x, weights, (1, stride, stride, 1), padding.upper()),
    ):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = convolve(images)
            score = tf.reduce_sum(tf.sin(outputs))
        results.append((outputs, tape.gradient(score, images)))
    for received, expected in zip(*results):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride, padding", [(1, "same"), (2, "same"), (2, "valid")])
def test_the_depthwise_layer_is_keras_own(stride, padding, tmp_path, relative_error):
    """Compiled, with a bias, for any batch size, and after saving."""
    images = keras.Input((9, 10, 4))
    options = {"strides": stride, "padding": padding, "bias_initializer": "ones"}
    layers = (InputGradientDepthwiseConv2D(3, **options), keras.layers.DepthwiseConv2D(3, **options))
    ours, reference = (keras.Model(images, layer(images)) for layer in layers)
    reference.set_weights(ours.get_weights())
    ours.save(tmp_path / "depthwise.keras")
    loaded = keras.models.load_model(tmp_path / "depthwise.keras")
    assert isinstance(loaded.layers[-1], InputGradientDepthwiseConv2D)
    inputs = tf.random.stateless_normal((3, 9, 10, 4), (0, 0))

    @tf.function(input_signature=[tf.TensorSpec((None, 9, 10, 4), tf.float32)])
    def answers(x):
        outputs = [model(x) for model in (ours, reference, loaded)]
        return outputs, [tf.gradients(tf.sin(output), x)[0] for output in outputs[:2]]

    outputs, gradients = answers(inputs)
    assert relative_error(outputs[0], outputs[1]) < 1e-5
    assert relative_error(outputs[2], outputs[1]) < 1e-5
    assert relative_error(*gradients) < 1e-5


def test_depthwise_gradients_in_bfloat16_are_close_to_float32s(relative_error):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 9, 8, 3)).astype(np.float32)
    weights = generator.normal(size=(5, 5, 3, 1)).astype(np.float32)
    gradients = []
    for dtype in (tf.bfloat16, tf.float32):
        x = tf.cast(images, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_sum(frozen_depthwise(x, tf.cast(weights, dtype), 2, "same") ** 2)
        gradients.append(tape.gradient(score, x))
    assert [gradient.dtype for gradient in gradients] == [tf.bfloat16, tf.float32]
    rounding = 4 * 2.0**-8 * np.sqrt(2 * 5 * 5)  # there and back, where a processor sums in bfloat16
    assert 0 < relative_error(tf.cast(gradients[0], tf.float32), gradients[1]) < rounding


def test_the_scaled_sum_is_by_hand():
    outputs = ScaledAdd(scale=0.2)([tf.constant([[1.0, 2.0]]), tf.constant([[10.0, -10.0]])])
    np.testing.assert_allclose(outputs, [[3.0, 0.0]])
