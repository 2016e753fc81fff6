"""Several denoisers and targets as one defense (Appendix C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import tensorflow as tf

from hgd_tf.defenses.defense import Defense
from hgd_tf.errors import TargetError
from hgd_tf.targets import Target, resize_to


class Flow(tf.Module):
    """An image's way through denoisers to targets: `A&B→X&Y`, in the paper's signs.

    The denoised images are averaged, and every target is given their average. A defense resizes to its target's size
    first and denoises there: targets of one size share the denoised images, those of another are denoised for anew.

    Args:
      denoisers: none: the targets are undefended.
      targets: at least one, of the same classes and channels.
      name: for messages.

    Raises:
      TargetError: there is no target, or targets and denoisers do not fit together.
    """

    def __init__(self, denoisers: Sequence[tf.keras.Model], targets: Sequence[Target], name: str):
        super().__init__()
        _check_alike(targets, name)
        self.title = name
        self.targets = tuple(targets)
        self.channels = targets[0].channels
        self.image_size = targets[0].image_size
        denoiser = averaged(denoisers)
        self.defenses = tuple({target.image_size: Defense(denoiser, target) for target in targets}.values())

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Mean logits of the targets, float32 (N, classes), for images (N, H, W, C) in [0, 255] of any size."""
        return self.of_sized({defense.target.image_size: images for defense in self.defenses})

    def of_sized(self, images: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """The same for images that were resized already, by the sizes of the targets."""
        return self.denoise_and_classify(images)[1]

    def denoise_and_classify(self, images: Mapping[int, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """What the first target is given, (N, size, size, C) float32, unclipped; and the logits of `of_sized`."""
        sizes = [defense.target.image_size for defense in self.defenses]
        denoised = {size: defense.denoise(images[size]) for size, defense in zip(sizes, self.defenses)}
        logits = tf.reduce_mean([target(denoised[target.image_size])["logits"] for target in self.targets], axis=0)
        return denoised[self.image_size], logits

    def denoise(self, images: tf.Tensor) -> tf.Tensor:
        """What the first target is given."""
        return self.defenses[0].denoise(images)


class Ensemble(tf.Module):
    """Flows whose targets' logits are averaged, each target's with the same weight.

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

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises and classifies.

        Args:
          images: as in `Defense`.

        Returns:
          `logits` and `probabilities` (N, classes) float32; `classes` (N,) int64, 0-based.
        """
        return self.of_sized(self.resized(images))

    def resized(self, images: tf.Tensor) -> dict[int, tf.Tensor]:
        """Images (N, H, W, C) at each of the targets' sizes, float32, by the size."""
        return {size: resize_to(images, size) for size in self.sizes}

    def of_sized(self, images: Mapping[int, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same for images that were resized already, by the sizes of the targets."""
        return self.denoise_and_classify(images)[1]

    def denoise_and_classify(self, images: Mapping[int, tf.Tensor]) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Of each flow what its first target is given, as in `Flow.denoise_and_classify`; and the `of_sized` dict."""
        denoised, answers = zip(*(flow.denoise_and_classify(images) for flow in self.flows))
        weights = [len(flow.targets) for flow in self.flows]
        logits = sum(weight * answer for weight, answer in zip(weights, answers)) / sum(weights)
        outputs = {"logits": logits, "probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=-1)}
        return list(denoised), outputs


def as_ensemble(defense: Defense, name: str) -> Ensemble:
    """The ensemble of one flow that a defense is."""
    denoisers = [] if defense.denoiser is None else [defense.denoiser]
    return Ensemble([Flow(denoisers, [defense.target], name)])


def averaged(denoisers: Sequence[tf.keras.Model]) -> Optional[tf.keras.Model]:
    """One denoiser whose output is the mean of the given ones'; None for none.

    Raises:
      TargetError: they take images of different channels.
    """
    if len(denoisers) < 2:
        return next(iter(denoisers), None)
    channels = [denoiser.input_shape[-1] for denoiser in denoisers]
    if len(set(channels)) > 1:
        raise TargetError(f"expected denoisers of as many channels, received {' and '.join(map(str, channels))}")
    images = tf.keras.Input((None, None, channels[0]))
    # Keras wants names that differ, which those of one architecture have not.
    renamed = [
        tf.keras.Model(denoiser.inputs, denoiser.outputs[0], name=f"denoiser_{number}")
        for number, denoiser in enumerate(denoisers)
    ]
    return tf.keras.Model(images, tf.keras.layers.Average()([denoiser(images, training=False) for denoiser in renamed]))


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
