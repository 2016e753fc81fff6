"""DUNET and DAE against Figure 3 of the paper, against NumPy, and as Keras models."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate2d
from small_set import FEW_CONVOLUTIONS

from hgd_tf.denoisers import DENOISERS, dunet, rescaled
from hgd_tf.denoisers.layers import AddNoise, UpsampleLike
from hgd_tf.foundation.stack import keras

SMALLEST = 1 / 64  # 1, 2, 4, 4 and 4 channels
HALF_RANGE = 127.5
# Figure 3: the stride of every 3x3 convolution of the feedforward path, block by block; the feedback blocks' lengths.
FEEDFORWARD_STRIDES = ((1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1))
FEEDBACK_LENGTHS = (3, 3, 3, 2)
both = pytest.mark.parametrize("build", DENOISERS.values(), ids=DENOISERS.keys())
both_names = pytest.mark.parametrize("name", DENOISERS)


def layers_of(model: keras.Model, kind: type) -> list:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights and batch statistics far from their initial values, under which ReLUs neither die nor explode."""
    rng = np.random.default_rng(seed)
    for layer in layers_of(model, keras.layers.Conv2D):
        shape = layer.kernel.shape
        layer.set_weights([rng.normal(0.1, 1.0, shape) / np.sqrt(np.prod(shape[:3]))])
    for layer in layers_of(model, keras.layers.BatchNormalization):
        count = layer.gamma.shape[0]
        ranges = ((0.5, 1.5), (0.2, 1.0), (-0.5, 0.5), (0.3, 3.0))  # gamma, beta, moving mean, moving variance
        layer.set_weights([rng.uniform(low, high, count) for low, high in ranges])
    return model


@functools.cache
def small(name: str, channels: int = 3) -> keras.Model:
    """The smallest denoiser with random weights, one for all tests; they leave it as it is."""
    return with_random_weights(DENOISERS[name](SMALLEST, channels))


@functools.cache
def shallow(name: str, **options) -> keras.Model:
    """The smallest of few convolutions, with the same random weights for all options."""
    return with_random_weights(DENOISERS[name](SMALLEST, **FEW_CONVOLUTIONS, **options))


def random_images(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


# --- a whole denoiser in NumPy ---


def numpy_convolution(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """3x3 correlation of x (H, W, C) with zeros on every side, then every `stride`-th pixel from the first."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    maps = [
        sum(correlate2d(padded[..., i], kernel[..., i, o], mode="valid") for i in range(kernel.shape[2]))
        for o in range(kernel.shape[3])
    ]
    return np.stack(maps, axis=-1)[::stride, ::stride]


def numpy_upsampled(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation of x (h, w, C) whose corner pixels stay corner pixels."""
    rows = np.linspace(0, x.shape[0] - 1, height)
    columns = np.linspace(0, x.shape[1] - 1, width)
    along_rows = np.stack([interpolated(x, row) for row in rows])
    return np.stack([interpolated(along_rows.swapaxes(0, 1), column) for column in columns], axis=1)


def interpolated(x: np.ndarray, position: float) -> np.ndarray:
    """x at a fractional index of its first axis."""
    before = int(np.floor(position))
    after = min(before + 1, len(x) - 1)
    weight = position - before
    return (1 - weight) * x[before] + weight * x[after]


class NumpyDenoiser:
    """Figure 3 for one image, in float64, with a Keras denoiser's weights in the order of its forward pass."""

    def __init__(self, model: keras.Model, lateral: bool):
        convolutions = layers_of(model, keras.layers.Conv2D)
        normalizations = layers_of(model, keras.layers.BatchNormalization)
        assert len(convolutions) - 1 == len(normalizations) == 25
        self.kernels = [layer.kernel.numpy().astype(np.float64) for layer in convolutions]
        self.statistics = [
            [weight.numpy() for weight in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
            for layer in normalizations
        ]
        self.lateral = lateral

    def noise(self, image: np.ndarray) -> np.ndarray:
        """The predicted negative noise of an image (H, W, C), in pixel units."""
        self.next = 0
        x = image.astype(np.float64) / HALF_RANGE - 1
        levels = []
        for strides in FEEDFORWARD_STRIDES:
            x = self.block(x, strides)
            levels.append(x)
        levels.pop()
        for length in FEEDBACK_LENGTHS:
            level = levels.pop()
            x = numpy_upsampled(x, *level.shape[:2])
            x = np.concatenate([x, level], axis=-1) if self.lateral else x
            x = self.block(x, (1,) * length)
        return HALF_RANGE * x @ self.kernels[-1][0, 0]

    def block(self, x: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
        for stride in strides:
            gamma, beta, mean, variance = self.statistics[self.next]
            x = numpy_convolution(x, self.kernels[self.next], stride)
            x = np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, 0)
            self.next += 1
        return x


@both_names
@pytest.mark.parametrize("shape", [(19, 23, 3), (32, 16, 1), (35, 18, 1)])
def test_denoiser_is_figure_3_in_numpy(name, shape):
    model = small(name, shape[-1])
    images = random_images(2, *shape)
    reference = NumpyDenoiser(model, lateral=name == "dunet")
    expected = np.stack([reference.noise(image) for image in images])
    assert expected.std(axis=(1, 2)).min() > 0.1  # pixels: the weights are no trivial ones
    np.testing.assert_allclose(model(images) - images, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# --- architecture ---


def test_full_width_dunet_has_the_papers_channels_and_number_of_trainable_parameters():
    model = dunet()
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 11_033_984
    filters = [layer.filters for layer in layers_of(model, keras.layers.Conv2D)]
    feedforward = [64] * 2 + [128] * 3 + [256] * 9
    feedback = [256] * 6 + [128] * 3 + [64] * 2
    assert filters == feedforward + feedback + [3]


def test_feedforward_output_sides_of_a_299_input_are_those_of_figure_3():
    model = small("dunet")
    normalized = [layer.output for layer in layers_of(model, keras.layers.ReLU)]
    ends = np.cumsum([len(strides) for strides in FEEDFORWARD_STRIDES] + list(FEEDBACK_LENGTHS)) - 1
    maps = keras.Model(model.input, [normalized[end] for end in ends])(np.zeros((1, 299, 299, 3), np.float32))
    assert [tuple(m.shape[1:3]) for m in maps] == [(s, s) for s in (299, 150, 75, 38, 19, 38, 75, 150, 299)]


@both_names
def test_no_layer_has_a_bias(name):
    model = small(name)
    assert not any(layer.use_bias for layer in layers_of(model, keras.layers.Conv2D))
    assert not [weight.name for weight in model.weights if "bias" in weight.name]


@both_names
def test_batch_normalization_has_the_authors_epsilon_and_momentum(name):
    normalizations = layers_of(small(name), keras.layers.BatchNormalization)
    assert len(normalizations) == 25
    assert {(layer.epsilon, layer.momentum) for layer in normalizations} == {(1e-5, 0.9)}


def test_head_is_not_zero_and_training_moves_the_running_mean_by_a_tenth():
    keras.utils.set_random_seed(0)
    model = dunet(SMALLEST, 1, **FEW_CONVOLUTIONS)
    images = 128 + random_images(3, 20, 18, 1) / 2
    assert np.abs(model.get_layer("head").kernel).max() > 0.1
    first = layers_of(model, keras.layers.Conv2D)[0]
    mean = np.mean(keras.Model(model.input, first.output)(images), axis=(0, 1, 2))
    model(images, training=True)
    moving_mean = layers_of(model, keras.layers.BatchNormalization)[0].moving_mean
    assert np.abs(mean).max() > 1e-3
    np.testing.assert_allclose(moving_mean, 0.1 * mean, rtol=1e-4)


def test_dae_is_dunet_without_lateral_connections():
    counts = {name: len(layers_of(small(name), keras.layers.Concatenate)) for name in DENOISERS}
    assert counts == {"dunet": 4, "dae": 0}
    removed = 9 * (4 * 4 + 4 * 4 + 2 * 2 + 1 * 1)  # the laterals' share of each feedback block's first C
    assert small("dae").count_params() == small("dunet").count_params() - removed


def test_width_multiplies_the_channels_but_the_images():
    for model, width in ((small("dunet"), SMALLEST), (dunet(0.25), 0.25)):
        convolutions = layers_of(model, keras.layers.Conv2D)
        assert {layer.filters for layer in convolutions[:-1]} == {64 * width, 128 * width, 256 * width}
        assert convolutions[-1].filters == 3


# --- shapes and values ---


@both_names
@pytest.mark.parametrize(
    ("size", "channels"),
    [((16, 16), 3), ((17, 17), 1), ((17, 17), 3), ((28, 28), 1), ((28, 28), 3), ((75, 75), 3), ((16, 75), 1)],
)
def test_output_has_the_shape_of_the_input(name, size, channels):
    model = small(name, channels)
    assert model.input_shape == model.output_shape == (None, None, None, channels)
    assert model(random_images(2, *size, channels)).shape == (2, *size, channels)


@both_names
def test_output_has_the_shape_of_a_299_input(name):
    output = small(name)(random_images(1, 299, 299, 3))
    assert output.shape == (1, 299, 299, 3) and output.dtype == tf.float32


@pytest.mark.numerics
@both_names
def test_bfloat16_is_close_to_float32_with_the_same_weights(name):
    exact, rounded = shallow(name), shallow(name, precision="bfloat16")
    assert_close_but_rounded(rounded, exact)


@pytest.mark.numerics
def test_bfloat16_is_close_to_float32_through_all_layers():
    rounded = dunet(SMALLEST, precision="bfloat16")
    rounded.set_weights(small("dunet").get_weights())
    assert_close_but_rounded(rounded, small("dunet"))


def assert_close_but_rounded(rounded: keras.Model, exact: keras.Model):
    images = random_images(2, 35, 42, 3)
    received, expected = (model(images) - images for model in (rounded, exact))
    largest = np.abs(expected).max()
    # A bfloat16 has 8 bits of precision: 25 layers round by 1/512 each.
    assert 1e-4 * largest < np.abs(received - expected).max() < 0.1 * largest
    assert np.corrcoef(np.ravel(received), np.ravel(expected))[0, 1] > 0.998


def test_bfloat16_computes_convolutions_in_it_and_keeps_float32_variables_and_images():
    model = shallow("dunet", precision="bfloat16")
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert {layer.output.dtype for layer in layers_of(model, keras.layers.Conv2D)} == {tf.bfloat16}
    assert (model.input.dtype, model.output.dtype) == (tf.float32, tf.float32)


@both
@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}], ids=str)
def test_zero_head_is_the_identity_also_outside_the_pixel_range(build, options):
    """Of four channels, to which the images need not keep."""
    model = build(SMALLEST, 4, zero_head=True, **FEW_CONVOLUTIONS, **options)
    images = random_images(2, 19, 17, 4) * 3 - 255
    assert images.min() < 0 and images.max() > 255
    np.testing.assert_array_equal(model(images), images)


@both_names
def test_output_scale_2_doubles_the_predicted_noise(name):
    images = random_images(2, 19, 23, 3)
    noise = shallow(name)(images) - images
    assert np.abs(noise).max() > 1
    np.testing.assert_allclose(shallow(name, output_scale=2.0)(images) - images, 2 * noise, rtol=1e-5, atol=1e-3)


@both_names
def test_rescaled_is_a_copy_with_that_output_scale_and_the_same_weights(name):
    model, images = shallow(name), random_images(2, 19, 23, 3)
    before = model(images).numpy()
    copy = rescaled(model, 2.0)
    np.testing.assert_allclose(copy(images), shallow(name, output_scale=2.0)(images), rtol=1e-6, atol=1e-4)
    copy.set_weights([np.zeros_like(weight) for weight in copy.get_weights()])
    np.testing.assert_allclose(model(images), before, rtol=1e-6, atol=1e-4)


@both_names
def test_every_trainable_weight_has_a_gradient(name):
    model, images = small(name), tf.constant(random_images(2, 35, 33, 3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images) - images))
    gradients = tape.gradient(loss, model.trainable_weights)
    assert len(gradients) == 25 * 3 + 1
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


# --- as Keras models ---


@both_names
def test_eager_equals_graph_for_unknown_batch_size_and_side(name):
    model = shallow(name)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    for shape in ((3, 19, 23, 3), (1, 32, 16, 3)):
        images = random_images(*shape)
        np.testing.assert_allclose(graph(images), model(images), rtol=1e-5, atol=1e-3)
    assert graph.experimental_get_tracing_count() == 1


def _rounding(noise) -> float:
    """How far two passes in bfloat16 through few convolutions may be apart: four and a sum round by 1/256 each."""
    return 5 / 256 * np.abs(noise).max()


@both_names
@pytest.mark.parametrize("options", [{}, {"output_scale": 2.0}, {"precision": "bfloat16"}], ids=str)
def test_saved_denoiser_is_loaded_equal(name, options, tmp_path):
    model, images = shallow(name, **options), random_images(2, 19, 23, 3)
    model.save(tmp_path / "denoiser.keras")
    loaded = keras.models.load_model(tmp_path / "denoiser.keras")
    assert loaded.name == name
    expected = model(images)
    tolerance = _rounding(expected - images) if "precision" in options else 1e-4
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-6, atol=tolerance)
    for weight, saved in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(weight, saved)
    convolutions = layers_of(loaded, keras.layers.Conv2D)
    assert {layer.compute_dtype for layer in convolutions} == {options.get("precision", "float32")}


def test_rescaled_keeps_bfloat16():
    model, images = shallow("dunet", precision="bfloat16"), random_images(2, 19, 23, 3)
    noise = model(images) - images
    received = rescaled(model, 2.0)(images) - images
    np.testing.assert_allclose(received, 2 * noise, atol=_rounding(2 * noise), rtol=0)


@both_names
def test_statistics_momentum_is_that_of_every_normalization(name):
    normalizations = layers_of(shallow(name, statistics_momentum=0.98), keras.layers.BatchNormalization)
    assert [layer.momentum for layer in normalizations] == [0.98] * 3


def test_rescaling_of_a_rescaled_denoiser_multiplies():
    images = random_images(2, 19, 23, 3)
    halved = rescaled(shallow("dunet", output_scale=2.0), 0.5)
    np.testing.assert_allclose(halved(images), shallow("dunet")(images), rtol=1e-6, atol=1e-4)


@both_names
def test_synchronized_normalization_has_the_same_weights_in_the_same_order(name):
    plain, synchronized = shallow(name), shallow(name, synchronized=True)
    assert [w.shape for w in synchronized.weights] == [w.shape for w in plain.weights]
    kinds = [[w.name.split("/")[-1] for w in model.weights] for model in (plain, synchronized)]
    assert kinds[0] == kinds[1]
    synchronized.set_weights(plain.get_weights())
    images = random_images(2, 19, 23, 3)
    np.testing.assert_allclose(synchronized(images), plain(images), rtol=1e-5, atol=1e-2)
    normalizations = [layers_of(model, keras.layers.BatchNormalization) for model in (plain, synchronized)]
    assert [{layer.fused for layer in layers} for layers in normalizations] == [{True}, {False}]


def test_model_carries_the_given_name():
    assert (small("dunet").name, small("dae").name) == ("dunet", "dae")
    assert dunet(SMALLEST, name="student", **FEW_CONVOLUTIONS).name == "student"


def test_blocks_are_an_argument():
    model = dunet(1 / 4, 2, feedforward=[(1, 8), (2, 16), (1, 32)], feedback=[(2, 16), (1, 12)], lateral=False)
    convolutions = layers_of(model, keras.layers.Conv2D)
    assert [layer.filters for layer in convolutions] == [2, 4, 4, 8, 4, 4, 3, 2]
    assert [layer.strides[0] for layer in convolutions] == [1, 2, 1, 2, 1, 1, 1, 1]
    assert model(random_images(1, 9, 6, 2)).shape == (1, 9, 6, 2)


# --- errors ---


def test_blocks_that_do_not_match_are_an_error():
    with pytest.raises(ValueError, match="expected a feedback block for each but one of 2, received 2"):
        dunet(feedforward=[(1, 8), (1, 8)], feedback=[(1, 8), (1, 8)])
    with pytest.raises(ValueError, match=r"width.*at least 1/8\), received 0.05"):
        dunet(0.05, feedforward=[(1, 8), (1, 16)], feedback=[(1, 8)])


@both
@pytest.mark.parametrize("width", [1 / 200, 0.0, -1.0])
def test_too_small_a_width_is_an_error_that_says_it(build, width):
    with pytest.raises(ValueError, match=f"width.*1/64.*received {width}"):
        build(width)


@both
@pytest.mark.parametrize("channels", [0, -3])
def test_no_channel_is_an_error_that_says_it(build, channels):
    with pytest.raises(ValueError, match=f"channels.*at least 1, received {channels}"):
        build(SMALLEST, channels)


@both
@pytest.mark.parametrize("output_scale", [0.0, -1.0])
def test_output_scale_that_is_not_positive_is_an_error(build, output_scale):
    with pytest.raises(ValueError, match=f"output_scale.*received {output_scale}"):
        build(SMALLEST, output_scale=output_scale)


@both
def test_unknown_precision_is_an_error_that_names_the_known(build):
    with pytest.raises(ValueError, match=r"precision must be one of float32, bfloat16, received 'float16'"):
        build(SMALLEST, precision="float16")


# --- layers ---


@pytest.mark.parametrize(
    ("source", "size"), [((19, 19), (38, 38)), ((2, 2), (4, 4)), ((4, 4), (7, 7)), ((1, 2), (2, 3)), ((5, 3), (9, 6))]
)
def test_upsample_like_is_bilinear_interpolation_with_aligned_corners(source, size):
    x, reference = random_images(2, *source, 3), np.zeros((2, *size, 5), np.float32)
    received = UpsampleLike()([x, reference]).numpy()
    expected = np.stack([numpy_upsampled(image, *size) for image in x])
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(received[:, 0, 0], x[:, 0, 0])
    np.testing.assert_allclose(received[:, -1, -1], x[:, -1, -1], rtol=1e-5)


def test_upsample_like_of_the_same_size_is_the_identity():
    x = random_images(2, 5, 4, 3)
    np.testing.assert_array_equal(UpsampleLike()([x, x]), x)


def test_upsample_like_knows_its_output_shape():
    x, reference = keras.Input((None, None, 3)), keras.Input((7, None, 5))
    assert UpsampleLike().compute_output_shape([x.shape, reference.shape]) == (None, 7, None, 3)


def test_add_noise_adds_the_scaled_prediction():
    images, prediction = random_images(2, 4, 3, 1), random_images(2, 4, 3, 1, seed=2) / 255
    layer = AddNoise.from_config(AddNoise(scale=-3.0, name="added").get_config())
    assert layer.name == "added"
    np.testing.assert_allclose(layer([images, prediction]), images - 3 * prediction, rtol=1e-6)
