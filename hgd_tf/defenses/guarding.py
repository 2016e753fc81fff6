"""A defence inside the user's own Keras classifier: one more model of the kind that it is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Optional, Union

import tensorflow as tf

from hgd_tf.defenses.ensemble import check_fits
from hgd_tf.defenses.saving import load_denoiser
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import has_keras_3, is_keras_3_model, keras
from hgd_tf.targets import TARGETS, load_target, resize_to
from hgd_tf.targets.graph import Place, exposing, is_graph, scope_name
from hgd_tf.targets.keras3 import OUTPUT, calls_of, functional, keras_3, reason
from hgd_tf.targets.keras3_user import built_shape
from hgd_tf.targets.user import PIXELS, image_shape

if has_keras_3():
    with contextlib.suppress(ImportError):  # of what it computes with; `keras_3` says so where that is needed
        from hgd_tf.defenses import keras3_guarding

DENOISING = "hgd_denoising"


def guard(
    model: Any,
    denoiser: Union[str, Path, keras.Model],
    *,
    input_range: tuple[float, float] = PIXELS,
    image_size: Optional[int] = None,
) -> Any:
    """A classifier behind a denoiser, as a Keras model that is compiled, evaluated and saved as the classifier is.

    It takes what the classifier takes, of any height and width: images are resized to the classifier's size first and
    denoised there, as in `Defense`. It gives what the classifier gives, be that logits, probabilities or a dict. It
    shares the classifier's layers, which stay as they are; the denoiser is frozen.

    What its `save` wrote is read by the same Keras' `load_model` where this package is installed. Keras 3, and an `.h5`
    file, need `from hgd_tf import guard` before, which registers what is in it; a `.keras` file of Keras 2 does not.
    It is no defence against an attack that knows of the denoiser.

    Args:
      model: functional or Sequential, of Keras 2 or 3, or a subclass of Keras 3 that was called on images; from images
        (N, H, W, C) or (N, C, H, W). Or the name of a registered target, which gives logits.
      denoiser: a shipped defence's name or a run's folder, as in `load_defense`; or a denoiser, such as `median(3)`.
      input_range: what the model expects black and white to be, such as (-1, 1) or (0, 1); the denoiser is given pixels
        in [0, 255] whatever it is. Of images in another range, nothing warns.
      image_size: side of the model's input, needed where the model leaves it open.

    Returns:
      A model of the Keras that the classifier is of, not compiled.

    Raises:
      TargetError: the model or the denoiser is none, they do not fit each other, or the model was not built.
      RunError: there is no denoiser of that name.
    """
    denoiser = _denoiser(denoiser)
    if isinstance(model, str) and model in TARGETS:
        network = load_target(model, image_size=image_size).network
        model = keras.Model(network.input, network.output["logits"], name=model)
    try:
        if is_keras_3_model(model):
            return _guarded_keras_3(model, denoiser, input_range, image_size)
        return _guarded_keras_2(model, denoiser, input_range, image_size)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise TargetError(f"{model.name} cannot be put behind {denoiser.name}: {reason(error)}") from error


@keras.saving.register_keras_serializable("hgd_tf")
class GuardedClassifier(keras.Model):
    """A functional model whose file names this module, which Keras 2 imports then, and with it the layers inside."""


keras.utils.get_custom_objects()[GuardedClassifier.__name__] = GuardedClassifier  # by which an .h5 file has it


@keras.saving.register_keras_serializable("hgd_tf")
class ResizeTo(keras.layers.Layer):
    """Images (N, H, W, C) as float32 (N, image_size, image_size, C), as a target resizes them."""

    def __init__(self, *, image_size: int, **kwargs):
        super().__init__(**kwargs)
        self.image_size = image_size

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return resize_to(images, self.image_size)

    def get_config(self):
        return {**super().get_config(), "image_size": self.image_size}


def _denoiser(denoiser: Any) -> keras.Model:
    if isinstance(denoiser, (str, Path)):
        return load_denoiser(denoiser)
    if not is_graph(denoiser) or len(denoiser.inputs) != 1 or len(denoiser.inputs[0].shape) != 4:
        raise TargetError(
            "denoiser: expected the name of a shipped defence, the folder of a run, or a functional model of "
            f"hgd_tf.foundation.stack.keras from images to images, received {type(denoiser).__name__}"
        )
    return denoiser


def _guarded_keras_2(model: Any, denoiser: keras.Model, input_range, image_size: Optional[int]) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise TargetError(f"expected a Keras model or the name of a registered target, received {model!r}")
    if not is_graph(model):
        raise TargetError(f"{model.name}: expected a built functional or Sequential model, received one without inputs")
    expected, shape = model.inputs[0], image_shape(model, image_size, model.name)
    denoising = _denoising(denoiser, expected.dtype, input_range, shape, model.name)
    images = keras.Input(denoising.input_shape[1:], dtype=expected.dtype, name="images")
    if _takes_any_floats(expected):
        answers = model(denoising(images))
    else:
        wanted = [Place((), tensor) for tensor in tf.nest.flatten(model.output)]
        on_floats = exposing(model, wanted, [keras.Input(denoising.output_shape[1:])], name=model.name)
        answers = tf.nest.pack_sequence_as(model.output, tf.nest.flatten(on_floats(denoising(images))))
    return GuardedClassifier(images, answers, name=f"guarded_{scope_name(model.name)}")


def _guarded_keras_3(model: Any, denoiser: keras.Model, input_range, image_size: Optional[int]) -> Any:
    module = keras_3(model.name)
    graph = model
    if not getattr(model, "inputs", None):
        images = module.Input(built_shape(model, model.name)[1:])
        graph = module.Model(images, model(images))
    expected, shape = graph.inputs[0], image_shape(graph, image_size, model.name)
    denoising = _denoising(denoiser, expected.dtype, input_range, shape, model.name)
    images = module.Input(denoising.input_shape[1:], dtype=expected.dtype, name="images")
    denoised = keras3_guarding.Keras2Layer(denoising, name=DENOISING)(images)
    if _takes_any_floats(expected):
        answers = model(denoised)
    else:
        _, outputs = calls_of(functional(graph) if isinstance(graph, module.Sequential) else graph, denoised)
        answers = outputs.get(OUTPUT, outputs)
    return keras3_guarding.GuardedClassifier(images, answers, name=f"guarded_{scope_name(model.name)}")


def _takes_any_floats(images: Any) -> bool:
    """Whether a model's symbolic input takes any number of denoised images, unrounded."""
    return tf.as_dtype(images.dtype).is_floating and images.shape[0] is None


def _denoising(
    denoiser: keras.Model, dtype: Any, input_range: tuple[float, float], shape: tuple[int, int, bool], name: str
) -> keras.Model:
    """From a classifier's images of any side to denoised ones of its own, both as it expects them."""
    size, channels, channels_first = shape
    check_fits(denoiser, size, channels, name)
    layers = keras.layers
    low, width = _offset_and_width(input_range)
    images = keras.Input((channels, None, None) if channels_first else (None, None, channels), dtype=dtype)
    x = layers.Permute((2, 3, 1), dtype=dtype)(images) if channels_first else images
    x = layers.Rescaling(255.0 / width, offset=-low * 255.0 / width, dtype="float32", name="pixels")(x)
    x = ResizeTo(image_size=size, dtype="float32")(x)
    x = denoiser(x, training=False)
    x = layers.Reshape((size, size, channels), dtype="float32")(x)  # which a denoiser may leave open
    x = layers.Rescaling(width / 255.0, offset=low, dtype="float32", name="scaled")(x)
    x = layers.Permute((3, 1, 2), dtype="float32")(x) if channels_first else x
    denoising = keras.Model(images, x, name=DENOISING)
    denoising.trainable = False
    return denoising


def _offset_and_width(input_range: Any) -> tuple[float, float]:
    try:
        low, high = map(float, input_range)
    except (TypeError, ValueError) as error:
        raise TargetError(f"input_range: expected two numbers, black and white, received {input_range!r}") from error
    if low == high:
        raise TargetError(f"input_range: expected two numbers that differ, received {input_range!r}")
    return low, high - low
