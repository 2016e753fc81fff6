"""Evaluation: test sets, threat models, tables."""

from hgd_tf.evaluation.columns import COLUMNS
from hgd_tf.evaluation.described_table import evaluate_table
from hgd_tf.evaluation.evaluate import DefenseResult, TestSets, evaluate_defense
from hgd_tf.evaluation.perturbation import gaussian_noise_like, perturbation_levels, perturbation_slope
from hgd_tf.evaluation.report import Results, save_results, table
