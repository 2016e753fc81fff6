"""What classifies: denoisers before targets, on one way of an image through them, or on several (Appendix C)."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import tensorflow as tf

from hgd_tf.defenses import adapters
from hgd_tf.denoisers import MIN_IMAGE_SIZE
from hgd_tf.errors import TargetError
from hgd_tf.foundation.pixel_range import checks_pixels
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, resize_to

Images = Mapping[int, tf.Tensor]  # float32 (N, size, size, C) in [0, 255], by their size


class Classifier(tf.Module, abc.ABC):
    """A `Defense`, an `Ensemble`, or any `Flow`: what `load_defense` loads and every command takes.

    Outside graphs, a `PixelRangeWarning` tells of images whose pixels are not in [0, 255].

    Attributes:
      channels: of its targets, how many.
      classes: of its targets, how many.
      sizes: of its targets, in pixels, increasing.
    """

    def __init__(self, targets: Sequence[Target], name: str):
        super().__init__()
        _check_alike(targets, name)
        self.channels = targets[0].channels
        self.classes = targets[0].classes
        self.sizes = tuple(sorted({target.image_size for target in targets}))

    @property
    @abc.abstractmethod
    def flows(self) -> tuple[Flow, ...]:
        """The ways through it, by whose weights their logits are averaged."""

    @checks_pixels
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises and classifies.

        Args:
          images: (N, H, W, C) in [0, 255], uint8 or float32, of any size: they are resized to the targets' first.

        Returns:
          `logits` and `probabilities` (N, classes) float32; `classes` (N,) int64, 0-based; of a `Flow` also `denoised`
          (N, size, size, C) float32, unclipped: what its first target is given.
        """
        return self.of_sized({size: resize_to(images, size) for size in self.sizes})

    @abc.abstractmethod
    def of_sized(self, images: Images) -> dict[str, tf.Tensor]:
        """The same for images that were resized already, by the sizes of the targets."""

    def with_parts(self, part: Callable[[Any], Any]) -> Ensemble:
        """The ensemble of these flows through what `part` makes of each denoiser and target."""
        sides = [([*map(part, flow.denoisers)], [*map(part, flow.targets)]) for flow in self.flows]
        return Ensemble([Flow(*side, flow.title, flow.weight) for side, flow in zip(sides, self.flows)])

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """`logits` alone, (N, classes): the `model_fn` of cleverhans' attacks on images in [0, 255]."""
        return self(images)["logits"]

    def as_art(self, identity: bool = False) -> Any:
        """Of the Adversarial Robustness Toolbox, of pixels in [0, 255]: `adapters.art_estimator`."""
        return adapters.art_estimator(self, identity)

    def as_foolbox(self, identity: bool = False) -> Any:
        """Of Foolbox, of bounds (0, 255): `adapters.foolbox_model`."""
        return adapters.foolbox_model(self, identity)

    def as_torch(self, identity: bool = False) -> Any:
        """Of PyTorch, of images (N, C, H, W) in [0, 1]: `adapters.torch_module`."""
        return adapters.torch_module(self, identity)


class Flow(Classifier):
    """An image's way through denoisers to targets: `A&B→X&Y`, in the paper's signs.

    The denoised images are averaged, and every target is given their average. A defense resizes to its target's size
    first and denoises there: targets of one size share the denoised images, those of another are denoised for anew.

    Args:
      denoisers: none: the targets are undefended.
      targets: at least one, of the same classes and channels.
      name: for messages.
      weight: of its mean logits in an ensemble's; None: the number of its targets, so that all targets weigh the same.

    Raises:
      TargetError: there is no target, or targets and denoisers do not fit together.
      ValueError: the weight is no positive number.
    """

    def __init__(
        self, denoisers: Sequence[keras.Model], targets: Sequence[Target], name: str, weight: Optional[float] = None
    ):
        super().__init__(targets, name)
        for denoiser, target in itertools.product(denoisers, targets):
            check_fits(denoiser, target.image_size, target.channels, target.name)
        self.title = name
        self.weight = len(targets) if weight is None else weight
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"{name}: weight: expected a positive number, received {weight!r}")
        self.denoisers = tuple(denoisers)
        self.targets = tuple(targets)
        self.image_size = targets[0].image_size

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Itself."""
        return (self,)

    def of_sized(self, images: Images) -> dict[str, tf.Tensor]:
        """As in `Classifier`, from the mean logits of the targets."""
        denoised = {size: self._denoised(images[size]) for size in self.sizes}
        answers = [target(denoised[target.image_size], training=False)["logits"] for target in self.targets]
        return {"denoised": denoised[self.image_size], **_outputs(tf.reduce_mean(answers, axis=0))}

    @checks_pixels
    def denoise(self, images: tf.Tensor) -> tf.Tensor:
        """What the first target is given: images resized to its size and denoised, float32, unclipped."""
        return self._denoised(resize_to(images, self.image_size))

    def _denoised(self, images: tf.Tensor) -> tf.Tensor:
        if not self.denoisers:
            return images
        first, *others = (denoiser(images, training=False) for denoiser in self.denoisers)
        return tf.reduce_mean([first, *others], axis=0) if others else first


class Defense(Flow):
    """Classifies denoised images: the `Classifier` of one denoiser and one target.

    Outside graphs, a `PixelRangeWarning` tells of images whose pixels are not in [0, 255].

    Args:
      denoiser: images to images of the same shape, float32 in pixel units; None: no denoiser, the undefended target.
      target: the frozen classifier.

    Raises:
      TargetError: the denoiser and the target take images of different channels, or the target's are too small.
    """

    def __init__(self, denoiser: Optional[keras.Model], target: Target):
        super().__init__([] if denoiser is None else [denoiser], [target], target.name)
        self.denoiser = denoiser
        self.target = target


class Ensemble(Classifier):
    """Flows whose logits are averaged, each with its weight: Σ w·logits / Σ w.

    Args:
      flows: at least one, of the same classes and channels.

    Raises:
      TargetError: there is no flow, or they do not fit together.
    """

    flows: tuple[Flow, ...] = ()

    def __init__(self, flows: Sequence[Flow]):
        super().__init__([target for flow in flows for target in flow.targets], "ensemble")
        self.flows = tuple(flows)

    def of_sized(self, images: Images) -> dict[str, tf.Tensor]:
        """As in `Classifier`."""
        return self.mean([flow.of_sized(images) for flow in self.flows])

    def mean(self, answers: Sequence[Mapping[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """What it answers where its flows answer so."""
        weights = [flow.weight for flow in self.flows]
        logits = sum(weight * answer["logits"] for weight, answer in zip(weights, answers)) / sum(weights)
        return _outputs(logits)


def check_fits(denoiser: keras.Model, image_size: int, channels: int, name: str) -> None:
    """That a denoiser can stand before a classifier of that name, of images of that side and channels.

    Raises:
      TargetError: it cannot.
    """
    if image_size < MIN_IMAGE_SIZE:
        raise TargetError(
            f"a denoiser needs images of at least {MIN_IMAGE_SIZE} pixels a side, {name}'s are {image_size}"
        )
    if denoiser.input_shape[-1] != channels:
        raise TargetError(f"the denoiser takes {denoiser.input_shape[-1]} channels, {name} takes {channels}")


def _outputs(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"logits": logits, "probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=-1)}


def _check_alike(targets: Sequence[Target], name: str) -> None:
    if not targets:
        raise TargetError(f"{name}: expected at least one target, received none")
    for what in ("classes", "channels"):
        first, *others = (getattr(target, what) for target in targets)
        for target, other in zip(targets[1:], others):
            if other != first:
                raise TargetError(
                    f"{name}: expected targets of as many {what}, received {targets[0].name} with {first} and "
                    f"{target.name} with {other}"
                )
