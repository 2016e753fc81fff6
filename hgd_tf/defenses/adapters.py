"""A classifier as the attack libraries of the field take one: ART, Foolbox, and whatever attacks PyTorch modules.

All go through the denoisers, forwards and backwards: an attack through them is end to end. TensorFlow's libraries are
given pixels in [0, 255], as everything here is; PyTorch's take [0, 1] and no other range.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from hgd_tf.errors import HgdError
from hgd_tf.foundation.pixel_range import PIXEL_MAX, checks_pixels
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target

if TYPE_CHECKING:
    from hgd_tf.defenses.ensemble import Classifier


class Logits(tf.Module):
    """Images to logits, compiled; `identity` as in `art_estimator`."""

    def __init__(self, classifier: Classifier, identity: bool):
        super().__init__()
        passed = with_identity_backwards(classifier) if identity else classifier
        self._compiled = tf.function(passed.logits, reduce_retracing=True)  # one function for batches of any length

    @checks_pixels
    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(N, classes) float32, of images (N, H, W, C) in [0, 255]; `training` is ignored."""
        del training
        return self._compiled(tf.cast(images, tf.float32))


def art_estimator(classifier: Classifier, identity: bool = False) -> Any:
    """A `TensorFlowV2Classifier` of the Adversarial Robustness Toolbox.

    Args:
      classifier: its largest target's size is the estimator's `input_shape`.
      identity: whether gradients pass the denoisers as if each were the identity (BPDA, arXiv 1802.00420).

    Raises:
      HgdError: ART does not import.
    """
    return _imported("art.estimators.classification", "art").TensorFlowV2Classifier(
        model=Logits(classifier, identity),
        nb_classes=classifier.classes,
        input_shape=(classifier.sizes[-1], classifier.sizes[-1], classifier.channels),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, PIXEL_MAX),
    )


def foolbox_model(classifier: Classifier, identity: bool = False) -> Any:
    """Foolbox's `TensorFlowModel` of bounds (0, 255), which epsilons are of; `.transform_bounds((0, 1))` changes them.

    Raises:
      HgdError: Foolbox does not import.
    """
    return _imported("foolbox", "foolbox").TensorFlowModel(Logits(classifier, identity), bounds=(0.0, PIXEL_MAX))


def torch_module(classifier: Classifier, identity: bool = False) -> Any:
    """A `torch.nn.Module` of images (N, C, H, W) in [0, 1] that gives logits (N, classes), float32, by TensorFlow.

    Raises:
      HgdError: PyTorch does not import.
    """
    torch = _imported("torch", "torch")
    logits = Logits(classifier, identity)

    class Function(torch.autograd.Function):  # type: ignore[name-defined]
        @staticmethod
        def forward(context, pixels):
            context.images = tf.convert_to_tensor(pixels.detach().cpu().numpy())
            # Attacks differentiate one forward pass by several classes' logits.
            with tf.GradientTape(persistent=True) as context.tape:
                context.tape.watch(context.images)
                context.logits = logits(context.images)
            return torch.from_numpy(context.logits.numpy()).to(pixels.device)

        @staticmethod
        def backward(context, upstream):
            upstreams = tf.convert_to_tensor(upstream.cpu().numpy())
            gradient = context.tape.gradient(context.logits, context.images, output_gradients=upstreams)
            return torch.from_numpy(gradient.numpy()).to(upstream.device)

    class Module(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self):
            super().__init__()
            # Attacks ask a model's first parameter on which device it is.
            self.device_of = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

        def forward(self, images):
            return Function.apply(PIXEL_MAX * images.float().permute(0, 2, 3, 1).contiguous())

    return Module().eval()


def with_identity_backwards(classifier: Classifier) -> Classifier:
    """The same answers; gradients pass the denoisers as if each were the identity (BPDA, arXiv 1802.00420)."""
    return classifier.with_parts(_identity_backwards)


def _identity_backwards(part: Any) -> Any:
    return part if isinstance(part, Target) else _IdentityBackwards(part)


class _IdentityBackwards:
    """A denoiser whose gradient is the identity's."""

    def __init__(self, denoiser: keras.Model):
        self._denoiser = denoiser
        self.input_shape = denoiser.input_shape

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return _with_gradient_of(images, tf.stop_gradient(self._denoiser(images, training=training)))


@tf.custom_gradient
def _with_gradient_of(images: tf.Tensor, denoised: tf.Tensor):
    return tf.identity(denoised), lambda upstream: (upstream, None)


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise HgdError(
            f"expected the package {module.split('.')[0]} ({error}): pip install 'hgd-tf[{extra}]'"
        ) from None
