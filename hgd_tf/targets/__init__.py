"""Frozen classifiers: architectures, their weights, and the user's own models."""

from hgd_tf.targets.loading import build_target, load_target
from hgd_tf.targets.registry import TARGETS, class_name, shipped_weights, target_spec
from hgd_tf.targets.target import Target, TargetSource, batch_size_for, resize_to
