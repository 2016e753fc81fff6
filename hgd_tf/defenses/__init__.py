"""Defenses: a denoiser and a target as one, and their files."""

from hgd_tf.defenses.defense import Defense
from hgd_tf.defenses.saving import load_defense, save_defense

__all__ = ["Defense", "load_defense", "save_defense"]
