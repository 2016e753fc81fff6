"""Training runs: configuration, folder, data, callbacks, resume."""

from hgd_tf.training.config import TrainConfig
from hgd_tf.training.train import train_denoiser
