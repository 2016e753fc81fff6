"""Sets of attacked images: planned, crafted shard by shard, kept on disk, verified."""

from hgd_tf.crafting.plan import SetPlan
from hgd_tf.crafting.run import craft_set, open_shards, read_manifest
from hgd_tf.crafting.sets import AttackedSet, SetCrafter
