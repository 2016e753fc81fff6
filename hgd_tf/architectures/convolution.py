"""Convolutions whose gradient by the input is a convolution itself."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.foundation.stack import keras

PACKAGE = "hgd_tf"


@keras.saving.register_keras_serializable(PACKAGE)
class InputGradientConv2D(keras.layers.Conv2D):
    """Keras' `Conv2D`, grouped or not, with a quicker gradient by the input on the CPU.

    TensorFlow has no gradient of grouped convolutions on the CPU (Keras compiles them with XLA instead, which takes
    hundreds of times as long backwards), and that of others takes up to three times as long as a convolution.

    Padding is `valid`, or at stride 1 `same` with a kernel of odd height and width.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = convolution(inputs, tf.convert_to_tensor(self.kernel), self.strides[0], self.padding.upper())
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs


@keras.saving.register_keras_serializable(PACKAGE)
class InputGradientDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' `DepthwiseConv2D` of a frozen network, with a quicker gradient by the input in bfloat16 on the CPU.

    oneDNN's own takes seven times as long there (in float32 it is the quicker one). There is no gradient by the kernel.
    One filter a channel, no dilation, no activation, height and width of the input known.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = frozen_depthwise(inputs, tf.convert_to_tensor(self.depthwise_kernel), self.strides[0], self.padding)
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs


def frozen_depthwise(images: tf.Tensor, kernel: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    """Depthwise convolution with a gradient by the images alone.

    Args:
      images: (N, H, W, C); H and W are known.
      kernel: (height, width, C, 1).
      stride: of both axes.
      padding: "same" or "valid".

    Returns:
      (N, h, w, C).
    """

    @tf.custom_gradient
    def convolve(images):
        def gradient(upstream):
            turned = kernel[::-1, ::-1]
            if stride == 1 and padding == "same" and kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1:
                return _depthwise(upstream, turned, 1, "same")
            spread = _spread(upstream, stride) if stride > 1 else upstream
            margins = [(0, 0), *(_margins(images, spread, kernel, stride, padding, axis) for axis in (1, 2)), (0, 0)]
            return _depthwise(tf.pad(spread, margins), turned, 1, "valid")

        return _depthwise(images, kernel, stride, padding), gradient

    return convolve(images)


def _depthwise(images, kernel, stride: int, padding: str):
    return tf.nn.depthwise_conv2d(images, kernel, (1, stride, stride, 1), padding.upper())


def _margins(images, spread, kernel, stride: int, padding: str, axis: int) -> tuple[int, int]:
    """Zeros before and after the upstream gradient, so that its full convolution is as long as the input."""
    size, taps = images.shape[axis], kernel.shape[axis - 1]
    total = max((-(-size // stride) - 1) * stride + taps - size, 0) if padding == "same" else 0
    before = taps - 1 - total // 2
    return before, size + taps - 1 - before - spread.shape[axis]


def convolution(images: tf.Tensor, kernel: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    """Convolution with gradients by images and kernel.

    Args:
      images: (N, H, W, C) float32; H and W are known.
      kernel: (height, width, C / groups, D).
      stride: 1 where the padding is "SAME".
      padding: as in `tf.nn.conv2d`; "SAME" with odd height and width of the kernel.

    Returns:
      (N, h, w, D).
    """

    @tf.custom_gradient
    def convolve(images, kernel):
        outputs = tf.nn.conv2d(images, kernel, stride, padding)
        if kernel.shape[2] < images.shape[-1]:
            # Keeps what follows apart: fused with a bias or a batch normalization, the CPU's kernel has no groups.
            outputs = tf.ensure_shape(outputs, outputs.shape)

        def gradients(upstream):
            return (
                _input_gradient(upstream, images, kernel, stride, padding),
                _kernel_gradient(upstream, images, kernel, stride, padding),
            )

        return outputs, gradients

    return convolve(images, kernel)


def _input_gradient(upstream, images, kernel, stride: int, padding: str):
    """The upstream gradient, spread out by the stride and convolved with the kernel turned around in each group."""
    height, width, group_inputs, filters = kernel.shape
    groups = images.shape[-1] // group_inputs
    turned = tf.reshape(kernel[::-1, ::-1], (height, width, group_inputs, groups, filters // groups))
    turned = tf.reshape(tf.transpose(turned, (0, 1, 4, 3, 2)), (height, width, filters // groups, images.shape[-1]))
    if stride > 1:
        upstream = _spread(upstream, stride)
    if padding == "SAME":
        return tf.nn.conv2d(upstream, turned, 1, "SAME")
    below, right = (images.shape[axis] - upstream.shape[axis] for axis in (1, 2))
    upstream = tf.pad(upstream, ((0, 0), (height - 1, below), (width - 1, right), (0, 0)))
    return tf.nn.conv2d(upstream, turned, 1, "VALID")


def _spread(maps, stride: int):
    """Zeros between the values: (N, h, w, C) to (N, (h - 1) * stride + 1, (w - 1) * stride + 1, C)."""
    _, height, width, channels = maps.shape
    spaced = tf.pad(maps[:, :, None, :, None], ((0, 0), (0, 0), (0, stride - 1), (0, 0), (0, stride - 1), (0, 0)))
    spaced = tf.reshape(spaced, (-1, height * stride, width * stride, channels))
    return spaced[:, : (height - 1) * stride + 1, : (width - 1) * stride + 1]


def _kernel_gradient(upstream, images, kernel, stride: int, padding: str):
    """Every patch of the input times the gradient of what it became, group by group."""
    height, width, group_inputs, filters = kernel.shape
    groups = images.shape[-1] // group_inputs
    patches = tf.image.extract_patches(images, (1, height, width, 1), (1, stride, stride, 1), (1, 1, 1, 1), padding)
    patches = tf.reshape(patches, (-1, height * width, groups, group_inputs))
    upstream = tf.reshape(upstream, (-1, groups, filters // groups))
    return tf.reshape(tf.einsum("pkgi,pgo->kigo", patches, upstream), kernel.shape)
