"""Layers of residual networks beyond Keras' own."""

from __future__ import annotations

import tensorflow as tf

layers = tf.keras.layers

PACKAGE = "hgd_tf"


@tf.keras.saving.register_keras_serializable(PACKAGE)
class ScaledAdd(tf.keras.layers.Layer):
    """Input: [x, residual] of one shape. Output: x + scale * residual."""

    def __init__(self, *, scale: float, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        x, residual = inputs
        return x + self.scale * residual

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@tf.keras.saving.register_keras_serializable(PACKAGE)
class GroupedConv2D(tf.keras.layers.Conv2D):
    """Keras' `Conv2D` with groups, whose gradients exist on the CPU and are quick there.

    TensorFlow has no gradient of grouped convolutions on the CPU; Keras compiles them with XLA instead, which takes
    hundreds of times as long backwards. Here the gradient by the input is a grouped convolution itself.

    Padding is `same` at stride 1 and `valid` at any other; the kernel is square and of odd size.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = grouped_convolution(inputs, tf.convert_to_tensor(self.kernel), self.strides[0], self.padding.upper())
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs


def grouped_convolution(images: tf.Tensor, kernel: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    """Grouped convolution with gradients.

    Args:
      images: (N, H, W, C) float32; H and W are known.
      kernel: (k, k, C / groups, D), k odd.
      stride: 1 with padding "SAME", or any with "VALID".
      padding: as in `tf.nn.conv2d`.

    Returns:
      (N, h, w, D).
    """

    @tf.custom_gradient
    def convolve(images, kernel):
        outputs = tf.nn.conv2d(images, kernel, stride, padding)

        def gradients(upstream):
            return (
                _input_gradient(upstream, images, kernel, stride, padding),
                _kernel_gradient(upstream, images, kernel, stride, padding),
            )

        return outputs, gradients

    return convolve(images, kernel)


def _input_gradient(upstream, images, kernel, stride: int, padding: str):
    """The upstream gradient, spread out by the stride and convolved with the kernel turned around in each group."""
    size, _, group_inputs, filters = kernel.shape
    groups = images.shape[-1] // group_inputs
    turned = tf.reshape(kernel[::-1, ::-1], (size, size, group_inputs, groups, filters // groups))
    turned = tf.reshape(tf.transpose(turned, (0, 1, 4, 3, 2)), (size, size, filters // groups, images.shape[-1]))
    if stride > 1:
        upstream = _spread(upstream, stride)
    if padding == "SAME":
        return tf.nn.conv2d(upstream, turned, 1, "SAME")
    before = size - 1
    height, width = (images.shape[axis] - upstream.shape[axis] for axis in (1, 2))
    upstream = tf.pad(upstream, ((0, 0), (before, height), (before, width), (0, 0)))
    return tf.nn.conv2d(upstream, turned, 1, "VALID")


def _spread(maps, stride: int):
    """Zeros between the values: (N, h, w, C) to (N, (h - 1) * stride + 1, (w - 1) * stride + 1, C)."""
    _, height, width, channels = maps.shape
    spaced = tf.pad(maps[:, :, None, :, None], ((0, 0), (0, 0), (0, stride - 1), (0, 0), (0, stride - 1), (0, 0)))
    spaced = tf.reshape(spaced, (-1, height * stride, width * stride, channels))
    return spaced[:, : (height - 1) * stride + 1, : (width - 1) * stride + 1]


def _kernel_gradient(upstream, images, kernel, stride: int, padding: str):
    """Every patch of the input times the gradient of what it became, group by group."""
    size, _, group_inputs, filters = kernel.shape
    groups = images.shape[-1] // group_inputs
    patches = tf.image.extract_patches(images, (1, size, size, 1), (1, stride, stride, 1), (1, 1, 1, 1), padding)
    patches = tf.reshape(patches, (-1, size * size, groups, group_inputs))
    upstream = tf.reshape(upstream, (-1, groups, filters // groups))
    return tf.reshape(tf.einsum("pkgi,pgo->kigo", patches, upstream), kernel.shape)
