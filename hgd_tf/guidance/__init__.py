"""Guidance: what of the target's response a denoiser is trained to restore."""

from hgd_tf.guidance.guidances import GUIDANCES, Guidance, Term, parse_guidance
from hgd_tf.guidance.guided_denoiser import Batch, GuidedDenoiser

__all__ = ["GUIDANCES", "Batch", "Guidance", "GuidedDenoiser", "Term", "parse_guidance"]
