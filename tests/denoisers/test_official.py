"""The authors' denoisers come out of their files as their own program has them."""

from __future__ import annotations

import argparse
import functools

import numpy as np
import pytest

from hgd_tf.denoisers import dunet
from hgd_tf.denoisers.official import load_official_denoiser
from hgd_tf.errors import CheckpointError

FORWARD = ((2, 64), (3, 128), (3, 256), (3, 256), (3, 256))
BACK = ((2, 64), (3, 128), (3, 256), (3, 256))  # from full resolution downwards
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@functools.cache
def _authors_network():
    """Written from the paper's Figure 3 and the keys of the authors' files."""
    import torch
    from torch import nn

    class Conv(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn = nn.BatchNorm2d(outputs)

        def forward(self, x):
            return nn.functional.relu(self.bn(self.conv(x)))

    def block(inputs: int, count: int, outputs: int, stride: int):
        return nn.Sequential(*(Conv(outputs if j else inputs, outputs, 1 if j else stride) for j in range(count)))

    class Denoise(nn.Module):
        def __init__(self):
            super().__init__()
            inputs = [3] + [channels for _, channels in FORWARD[:-1]]
            self.fwd = nn.ModuleList(
                block(inputs[i], count, channels, 1 if i == 0 else 2) for i, (count, channels) in enumerate(FORWARD)
            )
            below = [channels for _, channels in BACK[1:]] + [FORWARD[-1][1]]
            self.back = nn.ModuleList(
                block(below[i] + FORWARD[i][1], count, channels, 1) for i, (count, channels) in enumerate(BACK)
            )
            self.final = nn.Conv2d(64, 3, 1, bias=False)

        def forward(self, images):
            levels, x = [], images
            for stage in self.fwd:
                x = stage(x)
                levels.append(x)
            for i in reversed(range(len(self.back))):
                x = nn.functional.interpolate(x, levels[i].shape[2:], mode="bilinear", align_corners=True)
                x = self.back[i](torch.cat([x, levels[i]], 1))
            return images + self.final(x)

    network = Denoise()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.7, 1.3),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.data.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
        elif isinstance(module, nn.Conv2d):
            bound = float(np.sqrt(4.5 / module.weight[0].numel()))
            module.weight.data.copy_(bound * (2 * torch.rand(module.weight.shape, generator=generator) - 1))
    return network.eval()


def _denoised(torch, pixels: np.ndarray, mean, std) -> np.ndarray:
    """What the authors' network makes of pixels, in pixels."""
    normalized = ((pixels / 255 - mean) / std).astype(np.float32)
    with torch.no_grad():
        outputs = _authors_network()(torch.from_numpy(normalized.transpose(0, 3, 1, 2).copy()))
    return (outputs.numpy().transpose(0, 2, 3, 1) * std + mean) * 255


def _save(torch, path, prefix: str, new_format: bool = False, **more):
    weights = {prefix + key: value for key, value in _authors_network().state_dict().items()}
    state = {"epoch": 14, "save_dir": "results", "state_dict": {**weights, **more}, "args": argparse.Namespace(lr=0.01)}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preprocessing, prefix, new_format",
    [("inception", "net.denoise.", False), ("torch", "net.denoise.0.", True), ("inception", "module.", True)],
)
@pytest.mark.parametrize("size", [32, 37])
def test_it_denoises_as_the_authors_network(torch, tmp_path, preprocessing, prefix, new_format, size):
    path = tmp_path / "denoise_res_015.ckpt"
    _save(torch, path, prefix, new_format)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    mean, std = (MEAN, STD) if preprocessing == "torch" else (0.5, 0.5)
    expected = _denoised(torch, pixels, mean, std)
    denoised = load_official_denoiser(path, preprocessing)(pixels).numpy()
    noise = np.abs(expected - pixels)
    assert noise.mean() > 10  # it does something
    assert np.abs(denoised - expected).max() < 1e-4 * noise.max()


@pytest.mark.slow
def test_the_targets_tensors_beside_it_do_not_matter(torch, tmp_path):
    _save(torch, tmp_path / "a.ckpt", "net.denoise.", **{"net.conv1.weight": torch.ones(64, 3, 7, 7)})
    assert load_official_denoiser(tmp_path / "a.ckpt").count_params() == dunet().count_params()


def test_a_file_without_a_denoiser_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("hgd_tf.denoisers.official.read_pytorch", lambda path: {"conv1.weight": np.zeros(3)})
    with pytest.raises(CheckpointError, match=r"a.ckpt has no 'fwd\.0\.0\.conv\.weight' under any prefix"):
        load_official_denoiser(tmp_path / "a.ckpt")


@pytest.mark.slow
def test_a_narrower_denoiser_is_named(torch, tmp_path):
    path = tmp_path / "a.ckpt"
    _save(torch, path, "net.denoise.", **{"net.denoise.fwd.0.0.conv.weight": torch.ones(32, 3, 3, 3)})
    with pytest.raises(CheckpointError, match=r"expected shape \(64, 3, 3, 3\), received \(32, 3, 3, 3\)"):
        load_official_denoiser(path)


def test_an_unknown_preprocessing_is_named(tmp_path):
    with pytest.raises(ValueError, match="preprocessing must be one of inception, torch, received 'vgg'"):
        load_official_denoiser(tmp_path / "a.ckpt", "vgg")
