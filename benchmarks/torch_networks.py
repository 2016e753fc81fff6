"""PyTorch's networks that the benchmarks compare with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import torch
import torch.fx.experimental.optimization as fx_optimization
from torch import nn
from torch.nn import functional

from hgd_tf.defenses import Classifier
from hgd_tf.denoisers.networks import FEEDBACK, FEEDFORWARD
from hgd_tf.foundation.stack import keras
from hgd_tf.normalization import INCEPTION, LITE
from hgd_tf.targets.published import find_published
from hgd_tf.targets.registry import target_spec

CHANNELS = 3  # of the images


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
    """

    def __init__(self, width: float):
        super().__init__()
        self.feedforward, self.feedback, levels = nn.ModuleList(), nn.ModuleList(), []
        features = CHANNELS
        for number, (count, base_filters) in enumerate(FEEDFORWARD):
            filters = round(base_filters * width)
            self.feedforward.append(_block(features, filters, count, stride=1 if number == 0 else 2))
            levels.append(features := filters)
        for (count, base_filters), lateral in zip(FEEDBACK, reversed(levels[:-1])):
            filters = round(base_filters * width)
            self.feedback.append(_block(features + lateral, filters, count))
            features = filters
        self.head = nn.Conv2d(features, CHANNELS, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images - INCEPTION.mean) / INCEPTION.std
        levels = []
        for block in self.feedforward:
            x = block(x)
            levels.append(x)
        for block, level in zip(self.feedback, reversed(levels[:-1])):
            x = functional.interpolate(x, level.shape[2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([x, level], 1))
        return images + self.head(x) * INCEPTION.std


def _block(channels: int, filters: int, count: int, stride: int = 1) -> nn.Sequential:
    modules: list[nn.Module] = []
    for number in range(count):
        convolution = nn.Conv2d(
            filters if number else channels, filters, 3, 1 if number else stride, padding=1, bias=False
        )
        modules += [convolution, nn.BatchNorm2d(filters, eps=1e-5, momentum=0.1), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)


def torch_dunet(denoiser: keras.Model, width: float) -> TorchDunet:
    """Our untrained denoiser in PyTorch, channels-last, with its weights."""
    twin = TorchDunet(width)
    ours = sum(int(np.prod(variable.shape)) for variable in denoiser.trainable_variables)
    theirs = sum(parameter.numel() for parameter in twin.parameters())
    assert ours == theirs, f"{ours} trainable parameters of ours, {theirs} of PyTorch's"
    kernels = [layer.kernel.numpy() for layer in denoiser.layers if isinstance(layer, keras.layers.Conv2D)]
    convolutions = [module for module in twin.modules() if isinstance(module, nn.Conv2d)]
    for convolution, kernel in zip(convolutions, kernels):
        convolution.weight.data.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    return twin.train().to(memory_format=torch.channels_last)


def trained_dunet(denoiser: keras.Model) -> nn.Module:
    """Our trained denoiser in PyTorch, frozen and channels-last, with its weights and moving statistics."""
    first = next(layer for layer in denoiser.layers if isinstance(layer, keras.layers.Conv2D))
    twin = torch_dunet(denoiser, first.filters / FEEDFORWARD[0][1])
    ours = [layer for layer in denoiser.layers if isinstance(layer, keras.layers.BatchNormalization)]
    theirs = [module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm, module in zip(ours, theirs):
        tensors = (module.weight, module.bias, module.running_mean, module.running_var)
        for tensor, value in zip(tensors, (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)):
            tensor.data.copy_(torch.from_numpy(value.numpy()))
    return frozen(twin)


class TorchEnsemble(nn.Module):
    """Denoisers before targets: images uint8 (N, H, W, 3) to the targets' mean logits; nothing is denoised twice.

    Args:
      denoisers: from images to images, as `TorchDunet`.
      targets: from images as EfficientNet-Lite normalizes them.
      routes: of each target: the side of its images and the number of its denoiser.
    """

    def __init__(self, denoisers: Sequence[nn.Module], targets: Sequence[nn.Module], routes: Sequence[tuple[int, int]]):
        super().__init__()
        self.denoisers, self.targets, self.routes = nn.ModuleList(denoisers), nn.ModuleList(targets), tuple(routes)

    def forward(self, images):  # with annotations, torch.fx's copies of it could not be saved
        pixels = images.permute(0, 3, 1, 2).float()
        denoised: dict[tuple[int, int], torch.Tensor] = {}
        logits = []
        for (size, number), target in zip(self.routes, self.targets):
            if (size, number) not in denoised:
                resized = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
                denoised[size, number] = self.denoisers[number](resized)
            logits.append(target((denoised[size, number] - LITE.mean) / LITE.std))
        return sum(logits) / len(logits)


def torch_ensemble(classifier: Classifier) -> TorchEnsemble:
    """Flows of one denoiser, of equal weight, to EfficientNet-Lites, in PyTorch; frozen and channels-last."""
    pairs = [(flow.denoisers[0], target) for flow in classifier.flows for target in flow.targets]
    denoisers = list({id(denoiser): denoiser for denoiser, _ in pairs}.values())
    order = [id(denoiser) for denoiser in denoisers]
    targets = []
    for _, target in pairs:
        weights = find_published(target.name, target_spec(target.name).published)
        targets.append(lite_network(int(target.name[-1]), target.image_size, weights))
    routes = [(target.image_size, order.index(id(denoiser))) for denoiser, target in pairs]
    return frozen(TorchEnsemble([trained_dunet(denoiser) for denoiser in denoisers], targets, routes))


def export_onnx(network: torch.nn.Module, images: torch.Tensor, path: Path, opset: int = 18) -> None:
    """Writes a network of fixed batch size, from `images` to `logits`.

    By tracing: the exporter that knows the antialiased resize needs newer packages than TensorFlow 2.15 admits.

    Args:
      network: computes its logits.
      images: an example.
      path: of the file.
      opset: of ONNX; 18 is the first whose Resize has antialiasing.
    """
    torch.onnx.register_custom_op_symbolic("aten::_upsample_bilinear2d_aa", _onnx_resize, opset)
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(network, (images,), path, dynamo=False, opset_version=opset, **names)


@torch.onnx.symbolic_helper.parse_args("v", "is", "b", "none")
def _onnx_resize(graph, images, size, align_corners, scale_factors):
    none, sizes = (graph.op("Constant", value_t=value) for value in (torch.tensor([]), torch.tensor(size)))
    attributes = {"antialias_i": 1, "exclude_outside_i": 1, "axes_i": [2, 3]}
    modes = {"mode_s": "linear", "coordinate_transformation_mode_s": "half_pixel"}
    return graph.op("Resize", images, none, none, sizes, **attributes, **modes)
