"""Defenses: a denoiser and a target as one, and their files."""

from hgd_tf.defenses.defense import Defense
from hgd_tf.defenses.ensemble import Classifier
from hgd_tf.defenses.loading import load_defense
from hgd_tf.defenses.saving import save_defense

__all__ = ["Classifier", "Defense", "load_defense", "save_defense"]
