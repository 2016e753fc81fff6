"""An experiment: its networks, images and seed, described once and opened once."""

from hgd_tf.experiment.config import ExperimentConfig
from hgd_tf.experiment.loading import Experiment, load_experiment
