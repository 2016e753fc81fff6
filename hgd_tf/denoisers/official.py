"""The authors' own denoisers, from their PyTorch files."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from hgd_tf.checkpoints.assign import assign
from hgd_tf.checkpoints.names import TORCH as TORCH_NAMES
from hgd_tf.checkpoints.pytorch_format import read_pytorch
from hgd_tf.denoisers.networks import FEEDBACK, FEEDFORWARD, dunet
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION, TORCH

PREPROCESSING = {"inception": INCEPTION, "torch": TORCH}
layers = keras.layers


def load_official_denoiser(path: Union[str, Path], preprocessing: str = "inception") -> keras.Model:
    """Loads a denoiser that the authors' program saved.

    Args:
      path: a PyTorch file of either format, which may hold the target's weights too (`load_target` takes those from
        it). Nothing of it is executed.
      preprocessing: what the network inside sees: "inception" ([-1, 1]; the authors' Inception and Inception-ResNet
        members) or "torch" (ImageNet's mean and standard deviation; their ResNet-152 and ResNeXt-101 members).

    Returns:
      `dunet` at full width with those weights; pixels in [0, 255] in and out, as everywhere.

    Raises:
      ValueError: the preprocessing is unknown.
      CheckpointError: the file is missing, damaged, or holds no such denoiser.
    """
    if preprocessing not in PREPROCESSING:
        raise ValueError(f"preprocessing must be one of {', '.join(PREPROCESSING)}, received {preprocessing!r}")
    denoiser = dunet(normalization=PREPROCESSING[preprocessing])
    names = _official_names(denoiser)
    assign(denoiser, read_pytorch(path), TORCH_NAMES, file=str(path), layer_name=names.__getitem__)
    return denoiser


def _official_names(denoiser: keras.Model) -> dict[str, str]:
    """Layer names to the authors', whose feedback blocks are numbered from full resolution downwards."""
    blocks = [("fwd", number, count) for number, (count, _) in enumerate(FEEDFORWARD)]
    blocks += [("back", len(FEEDBACK) - 1 - number, count) for number, (count, _) in enumerate(FEEDBACK)]
    places = [f"{path}.{block}.{number}" for path, block, count in blocks for number in range(count)]
    names = {"head": "final"}
    for kind, suffix in ((layers.Conv2D, "conv"), (layers.BatchNormalization, "bn")):
        found = [layer.name for layer in denoiser.layers if isinstance(layer, kind) and layer.name != "head"]
        names.update(zip(found, (f"{place}.{suffix}" for place in places)))
    return names
