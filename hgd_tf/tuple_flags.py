"""Flags whose values are tuples: sides of images, and what happens to images on their way."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from hgd_tf.config_flags import define_flag
from hgd_tf.description import Setting
from hgd_tf.experiment.config import SIDES, TRANSPORTS


def define_sizes(name: str, help_text: str) -> flags.FlagHolder:
    """A flag of sides in pixels; its value is a tuple of whole numbers, () by default."""
    return define_flag(Setting(name, tuple[int, ...], (), help_text, SIDES))


def define_transports(name: str, default: Sequence[str], help_text: str) -> flags.FlagHolder:
    """A flag of transports as `hgd_tf/data/transports.py` spells them; its value is a tuple of texts."""
    return define_flag(Setting(name, tuple[str, ...], tuple(default), help_text, TRANSPORTS))


flags.disclaim_key_flags()
