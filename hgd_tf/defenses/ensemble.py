"""Several denoisers and targets as one defense (Appendix C)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import tensorflow as tf

from hgd_tf.defenses.defense import Defense
from hgd_tf.errors import TargetError
from hgd_tf.pixel_range import checks_pixels
from hgd_tf.stack import keras
from hgd_tf.targets import Target, resize_to

Call = Callable[[keras.Model, tf.Tensor], Any]


def plain_call(model: keras.Model, images: tf.Tensor) -> Any:
    """What a denoiser or target makes of images."""
    return model(images, training=False)


class Flow(tf.Module):
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
    """

    def __init__(
        self, denoisers: Sequence[keras.Model], targets: Sequence[Target], name: str, weight: Optional[float] = None
    ):
        super().__init__()
        _check_alike(targets, name)
        for denoiser, target in itertools.product(denoisers, targets):
            Defense(denoiser, target)  # which raises
        self.title = name
        self.weight = len(targets) if weight is None else weight
        self.denoisers = tuple(denoisers)
        self.targets = tuple(targets)
        self.channels = targets[0].channels
        self.image_size = targets[0].image_size

    @checks_pixels
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Mean logits of the targets, float32 (N, classes), for images (N, H, W, C) in [0, 255] of any size."""
        return self.of_sized({target.image_size: resize_to(images, target.image_size) for target in self.targets})

    def of_sized(self, images: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """The same for images that were resized already, by the sizes of the targets."""
        return self.denoise_and_classify(images)[1]

    def denoise_and_classify(
        self, images: Mapping[int, tf.Tensor], call: Call = plain_call
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the first target is given, (N, size, size, C) float32, unclipped; and the logits of `of_sized`.

        Args:
          images: as in `of_sized`.
          call: gives what a denoiser or target makes of a tensor; for who has it from elsewhere.
        """
        sizes = dict.fromkeys(target.image_size for target in self.targets)
        denoised = {size: self._denoised(images[size], call) for size in sizes}
        answers = [call(target, denoised[target.image_size])["logits"] for target in self.targets]
        return denoised[self.image_size], tf.reduce_mean(answers, axis=0)

    @checks_pixels
    def denoise(self, images: tf.Tensor) -> tf.Tensor:
        """What the first target is given."""
        return self._denoised(resize_to(images, self.image_size), plain_call)

    def _denoised(self, images: tf.Tensor, call: Call) -> tf.Tensor:
        if not self.denoisers:
            return images
        first, *others = (call(denoiser, images) for denoiser in self.denoisers)
        return tf.reduce_mean([first, *others], axis=0) if others else first


class Ensemble(tf.Module):
    """Flows whose logits are averaged, each with its weight: Σ w·logits / Σ w.

    Args:
      flows: at least one, of the same classes and channels.

    Raises:
      TargetError: there is no flow, or they do not fit together.
    """

    def __init__(self, flows: Sequence[Flow]):
        super().__init__()
        self.flows = tuple(flows)
        targets = [target for flow in flows for target in flow.targets]
        _check_alike(targets, "ensemble")
        self.channels = flows[0].channels
        self.sizes = tuple(sorted({target.image_size for target in targets}))

    @checks_pixels
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises and classifies.

        Args:
          images: as in `Defense`.

        Returns:
          `logits` and `probabilities` (N, classes) float32; `classes` (N,) int64, 0-based.
        """
        return self.of_sized(self.resized(images))

    @checks_pixels
    def resized(self, images: tf.Tensor) -> dict[int, tf.Tensor]:
        """Images (N, H, W, C) at each of the targets' sizes, float32, by the size."""
        return {size: resize_to(images, size) for size in self.sizes}

    def of_sized(self, images: Mapping[int, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same for images that were resized already, by the sizes of the targets."""
        return self.denoise_and_classify(images)[1]

    def denoise_and_classify(
        self, images: Mapping[int, tf.Tensor], call: Call = plain_call
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Of each flow what its first target is given, as in `Flow.denoise_and_classify`; and the `of_sized` dict."""
        denoised, answers = zip(*(flow.denoise_and_classify(images, call) for flow in self.flows))
        weights = [flow.weight for flow in self.flows]
        logits = sum(weight * answer for weight, answer in zip(weights, answers)) / sum(weights)
        outputs = {"logits": logits, "probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=-1)}
        return list(denoised), outputs


def as_ensemble(defense: Defense, name: str) -> Ensemble:
    """The ensemble of one flow that a defense is."""
    denoisers = [] if defense.denoiser is None else [defense.denoiser]
    return Ensemble([Flow(denoisers, [defense.target], name)])


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
