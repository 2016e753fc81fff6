"""Training runs: configuration, folder, data, callbacks, resume."""

from hgd_tf.training.config import ExperimentConfig, TrainConfig
from hgd_tf.training.experiment import load_experiment
from hgd_tf.training.train import OPTIMIZERS, train_denoiser

__all__ = ["OPTIMIZERS", "ExperimentConfig", "TrainConfig", "load_experiment", "train_denoiser"]
