"""Training runs: configuration, folder, data, callbacks, resume."""

from hgd_tf.training.config import TrainConfig
from hgd_tf.training.train import OPTIMIZERS, train_denoiser

__all__ = ["OPTIMIZERS", "TrainConfig", "train_denoiser"]
