"""What a defence costs: float operations an image, as TensorFlow's own profiler counts them."""

from __future__ import annotations

import logging
from typing import Any, Callable

import tensorflow as tf

from hgd_tf.defenses.comparison import temporarily
from hgd_tf.defenses.ensemble import Classifier

GIGA = 1e9


def gflop_per_image(classifier: Classifier) -> float:
    """10⁹ float operations of denoisers and targets on one image that has their sizes already.

    A multiplication and an addition are two. Convolutions, matrix products and much of what is element-wise are
    counted; activations, batch normalizations, resizes and sorting (the median filter) are not, nor what a SavedModel
    hides in functions of its own. An auxiliary head, which answers nothing here, is: about a thousandth of Inception
    v3's.
    """
    specs = [tf.TensorSpec((1, size, size, classifier.channels), tf.float32) for size in classifier.sizes]

    def classify(*images):
        return classifier.of_sized(dict(zip(classifier.sizes, images)))["logits"]

    return float_operations(classify, *specs) / GIGA


def float_operations(function: Callable[..., Any], *specs: tf.TensorSpec) -> int:
    """Float operations of a function in TensorFlow's operations.

    Args:
      function: from tensors; it is traced anew, and not run.
      specs: of its arguments, of known shapes: nothing is counted where a shape is unknown.
    """
    # The profiler does not look into functions that a graph calls, such as filters and Keras' grouped convolutions.
    inlined = temporarily(tf.config.run_functions_eagerly, True, tf.config.functions_run_eagerly())
    logger = tf.get_logger()  # the profiler uses what TensorFlow itself deprecates
    with inlined, temporarily(logger.setLevel, logging.ERROR, logger.level):
        graph = tf.function(function).get_concrete_function(*specs).graph
        options = tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        ).with_empty_output()
        return tf.compat.v1.profiler.profile(graph, cmd="op", options=options.build()).total_float_ops
