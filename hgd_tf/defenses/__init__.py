"""Defenses: a denoiser and a target as one, and their files."""

from hgd_tf.defenses.ensemble import Classifier, Defense
from hgd_tf.defenses.loading import load_defense
from hgd_tf.defenses.saving import save_defense
