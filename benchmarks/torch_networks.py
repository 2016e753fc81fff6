"""PyTorch's networks that the benchmarks compare with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Optional

import numpy as np
import tensorflow as tf
import torch
import torch.fx.experimental.optimization as fx_optimization
from torch import nn
from torch.nn import functional

from hgd_tf.denoisers.dunet import FEEDBACK, FEEDFORWARD
from hgd_tf.normalization import INCEPTION


def lite_network(number: int, image_size: Optional[int] = None, weights: Optional[Path] = None) -> nn.Module:
    """EfficientNet-Lite of the PyTorch port, frozen and channels-last; None: native size, random weights.

    Its convolutions with TensorFlow's padding become PyTorch's own: torch.fx does not fold the port's.
    """
    port = importlib.import_module("efficientnet_lite_pytorch")
    size = {} if image_size is None else {"image_size": image_size}
    network = port.EfficientNet.from_name(f"efficientnet-lite{number}", **size)
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return frozen(_with_plain_convolutions(network))


def frozen(network: nn.Module) -> nn.Module:
    """In inference mode, without gradients by the weights, channels-last; the network itself."""
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def folded(network: nn.Module) -> nn.Module:
    """A copy with batch normalization folded into the convolutions before it.

    Raises:
      RuntimeError: torch.fx found none to fold.
    """
    fused = fx_optimization.fuse(network)
    if _normalizations(fused) == _normalizations(network):
        raise RuntimeError("torch.fx folded no batch normalization")
    return frozen(fused)


def _normalizations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _with_plain_convolutions(network: nn.Module) -> nn.Module:
    for name, child in network.named_children():
        if hasattr(child, "static_padding"):
            setattr(network, name, _plain_convolution(child))
        else:
            _with_plain_convolutions(child)
    return network


def _plain_convolution(convolution: nn.Conv2d) -> nn.Module:
    """The port's convolution as PyTorch's; zeros that are not the same on all sides are padded before it."""
    padding = getattr(convolution.static_padding, "padding", (0,))
    symmetric = len(set(padding)) == 1
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        tuple(convolution.stride),
        padding[0] if symmetric else 0,
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    plain.load_state_dict(convolution.state_dict())
    return plain if symmetric else nn.Sequential(nn.ZeroPad2d(padding), plain)


class TorchDunet(nn.Module):
    """The DUNET as the authors' program has it: images (N, 3, H, W) in [0, 255] to denoised images.

    Args:
      width: factor on every layer's channels.
      block_size: side of the patches of pixels that enter and leave as channels; a divisor of H and W.
    """

    def __init__(self, width: float, block_size: int):
        super().__init__()
        self.block_size, channels = block_size, 3 * block_size**2
        self.feedforward, self.feedback, levels = nn.ModuleList(), nn.ModuleList(), []
        features = channels
        for number, (count, base_filters) in enumerate(FEEDFORWARD):
            filters = round(base_filters * width)
            self.feedforward.append(_block(features, filters, count, stride=1 if number == 0 else 2))
            levels.append(features := filters)
        for (count, base_filters), lateral in zip(FEEDBACK, reversed(levels[:-1])):
            filters = round(base_filters * width)
            self.feedback.append(_block(features + lateral, filters, count))
            features = filters
        self.head = nn.Conv2d(features, channels, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images - INCEPTION.mean) / INCEPTION.std
        if self.block_size > 1:
            x = functional.pixel_unshuffle(x, self.block_size)
        levels = []
        for block in self.feedforward:
            x = block(x)
            levels.append(x)
        for block, level in zip(self.feedback, reversed(levels[:-1])):
            x = functional.interpolate(x, level.shape[2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([x, level], 1))
        noise = self.head(x)
        if self.block_size > 1:
            noise = functional.pixel_shuffle(noise, self.block_size)
        return images + noise * INCEPTION.std


def _block(channels: int, filters: int, count: int, stride: int = 1) -> nn.Sequential:
    modules: list[nn.Module] = []
    for number in range(count):
        convolution = nn.Conv2d(
            filters if number else channels, filters, 3, 1 if number else stride, padding=1, bias=False
        )
        modules += [convolution, nn.BatchNorm2d(filters, eps=1e-5, momentum=0.1), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)


def torch_dunet(denoiser: tf.keras.Model, width: float, block_size: int) -> TorchDunet:
    """Our untrained denoiser in PyTorch, channels-last, with its weights."""
    twin = TorchDunet(width, block_size)
    ours = sum(int(np.prod(variable.shape)) for variable in denoiser.trainable_variables)
    theirs = sum(parameter.numel() for parameter in twin.parameters())
    assert ours == theirs, f"{ours} trainable parameters of ours, {theirs} of PyTorch's"
    kernels = [layer.kernel.numpy() for layer in denoiser.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    # Channels of a patch: rows, columns, colors in TensorFlow; colors, rows, columns in PyTorch.
    order = np.arange(3 * block_size**2).reshape(-1, 3).T.ravel()
    kernels[0] = kernels[0][:, :, order]
    kernels[-1] = kernels[-1][..., order]
    convolutions = [module for module in twin.modules() if isinstance(module, nn.Conv2d)]
    for convolution, kernel in zip(convolutions, kernels):
        convolution.weight.data.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    return twin.train().to(memory_format=torch.channels_last)
