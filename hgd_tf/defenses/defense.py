"""A defense: a denoiser before a frozen target."""

from __future__ import annotations

from typing import Optional

from hgd_tf.defenses.ensemble import Flow
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target


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
