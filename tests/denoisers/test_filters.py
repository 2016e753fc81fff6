"""Median and Gaussian filters against SciPy, and as Keras models."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from hgd_tf.denoisers import gaussian, median
from hgd_tf.foundation.stack import keras

FILTERS = {"median": median, "gaussian": gaussian}
every_filter = pytest.mark.parametrize("name", FILTERS)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(0, 255, shape).astype(np.float32)


def each_channel(function, images: np.ndarray) -> np.ndarray:
    """`function` of every (H, W) map of images (N, H, W, C)."""
    maps = [[function(image[..., channel]) for channel in range(image.shape[-1])] for image in images]
    return np.moveaxis(np.array(maps), 1, -1)


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """Values of the Gaussian at the window's pixels, whose sum is 1."""
    offsets = np.arange(size) - size // 2
    kernel = np.exp(-(offsets[:, np.newaxis] ** 2 + offsets**2) / (2 * sigma**2))
    return kernel / kernel.sum()


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (2, 13, 20, 3)])
def test_median_is_scipys_with_mirrored_border(size, shape):
    images = random_images(*shape)
    expected = each_channel(lambda x: scipy.ndimage.median_filter(x, size, mode="mirror"), images)
    np.testing.assert_array_equal(median(shape[-1], size)(images), expected)


@pytest.mark.parametrize(("size", "sigma"), [(3, 1.0), (3, 0.4), (5, 1.0), (7, 2.5)])
@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (2, 13, 20, 3)])
def test_gaussian_is_scipys_correlation_with_mirrored_border(size, sigma, shape):
    images, kernel = random_images(*shape).astype(np.float64), gaussian_kernel(size, sigma)
    expected = each_channel(lambda x: scipy.ndimage.correlate(x, kernel, mode="mirror"), images)
    received = gaussian(shape[-1], size, sigma)(images.astype(np.float32))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-3)


def test_window_is_3x3_and_sigma_1_by_default():
    images = random_images(1, 12, 12, 1)
    np.testing.assert_array_equal(median(1)(images), median(1, 3)(images))
    np.testing.assert_allclose(gaussian(1)(images), gaussian(1, 3, 1.0)(images), rtol=1e-5)


def test_median_removes_a_lone_pixel_and_gaussian_spreads_it():
    images = np.full((1, 9, 9, 1), 100, np.float32)
    images[0, 4, 4] = 255
    np.testing.assert_array_equal(median(1)(images), np.full_like(images, 100))
    spread = gaussian(1)(images)[0, 3:6, 3:6, 0]
    np.testing.assert_allclose(spread, 100 + 155 * gaussian_kernel(3, 1.0), rtol=1e-5)


@every_filter
def test_constant_image_is_left_as_it_is(name):
    for value in (0.0, 255.0):
        images = np.full((1, 10, 11, 3), value, np.float32)
        np.testing.assert_allclose(FILTERS[name](3)(images), images, rtol=1e-6)


@every_filter
def test_channels_and_images_do_not_mix(name):
    model, images = FILTERS[name](3), random_images(2, 12, 10, 3)
    changed = images.copy()
    changed[1, ..., 2] = 0
    before, after = model(images).numpy(), model(changed).numpy()
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5)
    np.testing.assert_allclose(after[1, ..., :2], before[1, ..., :2], rtol=1e-5)
    assert np.all(after[1, ..., 2] == 0)


@every_filter
def test_filter_has_no_weights_and_keeps_the_shape(name):
    model = FILTERS[name](1)
    assert model.name == name and model.count_params() == 0
    assert model.input_shape == model.output_shape == (None, None, None, 1)
    assert model(random_images(3, 17, 28, 1)).shape == (3, 17, 28, 1)


def input_gradient(model: keras.Model, images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(weights * model(images))
    return tape.gradient(total, images).numpy()


def test_gradient_of_median_goes_to_the_median_pixel_of_each_window():
    images, weights = random_images(1, 11, 12, 1), random_images(1, 11, 12, 1)[:, ::-1].copy()
    gradient = input_gradient(median(1), images, weights)
    output = median(1)(images).numpy()
    expected = [weights[output == value].sum() for value in images.ravel()]  # all pixels are of different values
    np.testing.assert_allclose(gradient.ravel(), expected, rtol=1e-5)


def test_gradient_of_gaussian_is_the_mirrored_correlation_of_the_weights():
    images = random_images(1, 11, 12, 1)
    weights = np.zeros_like(images)
    weights[0, 5, 6] = 2.0
    expected = np.zeros_like(images)
    expected[0, 4:7, 5:8, 0] = 2 * gaussian_kernel(3, 1.0)
    np.testing.assert_allclose(input_gradient(gaussian(1), images, weights), expected, rtol=1e-5)


@every_filter
def test_eager_equals_graph_for_unknown_batch_size_and_side(name):
    model = FILTERS[name](3)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    for shape in ((3, 19, 23, 3), (1, 8, 9, 3)):
        images = random_images(*shape)
        np.testing.assert_allclose(graph(images), model(images), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name, options", [("median", (1, 5)), ("gaussian", (1, 5, 0.7))])
def test_saved_filter_is_loaded_equal(name, options, tmp_path):
    model = FILTERS[name](*options)
    images = random_images(2, 14, 13, 1)
    model.save(tmp_path / "filter.keras")
    loaded = keras.models.load_model(tmp_path / "filter.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5)
    assert loaded.name == model.name


def test_filters_and_their_gradients_are_tensorflow_addons():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its end of life
        image = pytest.importorskip("tensorflow_addons.image")
    images, weights = random_images(2, 9, 8, 3), random_images(2, 9, 8, 3)[:, ::-1].copy()
    for size in (2, 3, 5):
        pairs = (
            (median(3, size), lambda x, size=size: image.median_filter2d(x, size)),
            (gaussian(3, size, 0.8), lambda x, size=size: image.gaussian_filter2d(x, size, 0.8)),
        )
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-6)
            gradients = [input_gradient(function, images, weights) for function in (ours, theirs)]
            np.testing.assert_allclose(*gradients, rtol=1e-5)
