"""The epsilon ball around an image, cut by the pixel range: L-infinity and L2."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from hgd_tf.foundation.pixel_range import PIXEL_MAX

LINF, L2 = "linf", "l2"
NORMS = (LINF, L2)


def an_image(values: tf.Tensor) -> tf.Tensor:
    """(N,) as (N, 1, 1, 1), to go with images."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def project(points: tf.Tensor, images: tf.Tensor, radius: tf.Tensor, norm: str) -> tf.Tensor:
    """The points, (N, H, W, C), brought into the balls of those radii, (N,), around images, and into [0, 255]."""
    points, radius = tf.clip_by_value(points, 0.0, PIXEL_MAX), an_image(radius)
    # Images are in the range, and so is whatever lies between them and points of it.
    if norm == LINF:
        return tf.clip_by_value(points, tf.maximum(images - radius, 0.0), tf.minimum(images + radius, PIXEL_MAX))
    offsets = points - images
    points = images + offsets * tf.minimum(1.0, tf.math.divide_no_nan(radius, _lengths(offsets)))
    return tf.clip_by_value(points, 0.0, PIXEL_MAX)  # but for rounding errors


def direction(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """Of a step of length 1: the gradient's signs, or the gradient at unit length."""
    if norm == LINF:
        return tf.sign(gradient)
    # Squares of small gradients vanish in float32, those of gradients over their largest value do not.
    largest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
    gradient = tf.math.divide_no_nan(gradient, largest)
    return tf.math.divide_no_nan(gradient, _lengths(gradient))


def random_offsets(seeds: tf.Tensor, shape: tf.TensorShape, norm: str) -> tf.Tensor:
    """(N, *shape), in a ball of radius 1, each of its seed, (N, 2): uniform in L-infinity's, on the sphere of L2's."""
    draw = tf.random.stateless_uniform if norm == LINF else tf.random.stateless_normal
    drawn = tf.map_fn(lambda seed: draw(shape, seed), seeds, fn_output_signature=tf.TensorSpec(shape, tf.float32))
    return 2.0 * drawn - 1.0 if norm == LINF else drawn / _lengths(drawn)


def to_integers(points: np.ndarray, images: np.ndarray, radius: np.ndarray, norm: str) -> np.ndarray:
    """Integer pixels near points of the balls of those radii, (N,), around integer images: in the balls, too."""
    offsets = points - images
    nearest, toward = np.round(offsets), np.trunc(offsets)
    away = nearest != toward
    if norm == LINF:
        away &= np.abs(nearest) <= radius[:, None, None, None]
        return (images + np.where(away, nearest, toward)).astype(np.float32)
    for i in range(len(points)):  # as many are rounded away from the image as the ball has room for, nearest ones first
        first, part = toward[i].ravel().astype(np.float64), np.abs(offsets[i] - toward[i]).ravel()
        order = np.argsort(-part, kind="stable")
        order = order[away[i].ravel()[order]]
        squares = np.sum(first**2) + np.cumsum(2 * np.abs(first[order]) + 1)
        away[i].flat[order[squares > float(radius[i]) ** 2]] = False
    return (images + np.where(away, nearest, toward)).astype(np.float32)


def _lengths(offsets: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(offsets), axis=(1, 2, 3), keepdims=True))
