"""Sets of attacked images: planned, crafted shard by shard, kept on disk, verified."""

from hgd_tf.crafting.plan import Record, SetPlan
from hgd_tf.crafting.run import craft_set, open_shards, read_manifest
from hgd_tf.crafting.sets import AttackedSet, SetCrafter

__all__ = ["AttackedSet", "Record", "SetCrafter", "SetPlan", "craft_set", "open_shards", "read_manifest"]
