"""Muon: momentum whose kernel updates are orthogonalized (Jordan et al. 2024: kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.stack import keras

# The published coefficients: steep at 0, so that five iterations bring singular values near 1, within about 0.3.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
TINY = 1e-7
ADAMS_SIZE = 0.2  # the usual root mean square of Adam's updates, at a learning rate of 1 (Liu et al. 2025)
KERNEL_RANK = 4


class Muon(keras.optimizers.Adam):
    """Muon for the kernels of convolutions, Adam for all other variables, at one learning rate.

    A kernel (h, w, inputs, outputs) counts as a matrix (h w inputs, outputs). Its update has the root mean square that
    Adam's usually has, so that a learning rate which suits Adam suits Muon.

    Args:
      learning_rate: of both.
      momentum: Nesterov's, of the kernels.
      **kwargs: as for `keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate: float = 1e-3, *, momentum: float = 0.95, name: str = "muon", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = momentum

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "velocities"):
            kernels = [variable for variable in var_list if len(variable.shape) == KERNEL_RANK]
            self.velocities = [self.add_variable_from_reference(kernel, "velocity") for kernel in kernels]
            # Keras has no public key: `ref()` does not find a variable again under every strategy, as it says itself.
            self.place_of = {self._var_key(kernel): place for place, kernel in enumerate(kernels)}

    def update_step(self, gradient, variable):
        place = self.place_of.get(self._var_key(variable))
        if place is None:
            super().update_step(gradient, variable)
            return
        velocity = self.velocities[place]
        velocity.assign(self.momentum * velocity + gradient)
        ahead = tf.reshape(self.momentum * velocity + gradient, [-1, variable.shape[-1]])
        size = ADAMS_SIZE * max(ahead.shape) ** 0.5
        step = tf.cast(self.learning_rate, variable.dtype) * size
        variable.assign_sub(step * tf.reshape(orthogonalized(ahead), variable.shape))

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


def orthogonalized(matrix: tf.Tensor) -> tf.Tensor:
    """The matrix with all singular values near 1: Newton and Schulz's iteration, quintic; float32 (m, n).

    X ← X (a + b G + c G²) with G = XᵀX. The polynomials commute with G, so they are multiplied first, and of the large
    products only XᵀX and the last one are left.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return tf.transpose(orthogonalized(tf.transpose(matrix)))
    a, b, c = COEFFICIENTS
    matrix /= tf.norm(matrix) + TINY
    gram = tf.matmul(matrix, matrix, transpose_a=True)
    identity = tf.eye(matrix.shape[1])
    product = identity
    for iteration in range(ITERATIONS):
        polynomial = a * identity + b * gram + c * tf.matmul(gram, gram)
        product = tf.matmul(product, polynomial)
        if iteration + 1 < ITERATIONS:
            gram = tf.matmul(polynomial, tf.matmul(gram, polynomial))
    return tf.matmul(matrix, product)


OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": Muon}
