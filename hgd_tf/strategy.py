"""Where training runs."""

from __future__ import annotations

import tensorflow as tf

from hgd_tf.errors import HgdError

STRATEGIES = ("auto", "one_device", "mirrored")


def make_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """`mirrored`: a replica on every visible GPU, or logical CPU where there is no GPU. `one_device`: the first of
    them. `auto`: mirrored if there are several GPUs.

    Raises:
      HgdError: the batch cannot be shared out evenly.
    """
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if name == "one_device" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.OneDeviceStrategy(devices[0])
    if batch_size % len(devices):
        raise HgdError(f"`batch_size={batch_size}` must be a multiple of the {len(devices)} devices that share a batch")
    return tf.distribute.MirroredStrategy(devices)
