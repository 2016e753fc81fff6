"""Inception v3 and ResNet v1 and v2 answer as tf-slim's graphs, through checkpoint files that tf-slim wrote."""

from __future__ import annotations

import functools
import importlib
import sys
import tarfile
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.targets import load_target

pytestmark = pytest.mark.slow

tf1 = tf.compat.v1
V1, V2 = tf1.train.SaverDef.V1, tf1.train.SaverDef.V2
VGG_MEANS = (123.68, 116.78, 103.94)


class Case(NamedTuple):
    """A registered target, tf-slim's network of it, its logits' width, the scope around it, the file's version."""

    name: str
    module: str
    network: str
    classes: int
    outer_scope: str
    version: int
    sizes: tuple[int, ...]


CASES = (
    Case("inception_v3", "inception", "inception_v3", 1001, "", V1, (299, 224)),
    Case("ens3_adv_inception_v3", "inception", "inception_v3", 1001, "Ens3AdvInceptionV3", V2, (299,)),
    Case("resnet_v2_50", "resnet_v2", "resnet_v2_50", 1001, "", V1, (224, 299)),
    Case("resnet_v2_101", "resnet_v2", "resnet_v2_101", 1001, "", V2, (299,)),
    Case("resnet_v2_152", "resnet_v2", "resnet_v2_152", 1001, "", V2, (224,)),
    Case("resnet_v1_152", "resnet_v1", "resnet_v1_152", 1000, "", V1, (299,)),
)


@pytest.fixture(scope="module")
def slim():
    """tf-slim 1.1.0, which looks for a module that Keras 2.15 has under another name."""
    pytest.importorskip("tf_slim", reason="tf-slim is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tf_keras", importlib.import_module("keras"))
        for name in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):
            module = importlib.import_module(f"keras.src.legacy_tf_layers{name}")
            patch.setitem(sys.modules, f"tf_keras.legacy_tf_layers{name}", module)
        importlib.import_module("tf_slim.nets")
        yield importlib.import_module("tf_slim")


def _preprocessed(images: np.ndarray, case: Case) -> np.ndarray:
    return images - np.array(VGG_MEANS, np.float32) if case.module == "resnet_v1" else images / 127.5 - 1.0


def _slim_outputs(slim, case: Case, inputs: np.ndarray) -> dict[str, tf.Tensor]:
    nets = importlib.import_module(f"tf_slim.nets.{case.module}")
    arguments = getattr(nets, "inception_v3_arg_scope" if case.module == "inception" else "resnet_arg_scope")
    build = functools.partial(getattr(nets, case.network), num_classes=case.classes, is_training=False)
    outer = tf1.variable_scope(case.outer_scope) if case.outer_scope else tf1.name_scope("")
    with outer, slim.arg_scope(arguments()):
        if case.module == "inception":
            native = inputs.shape[1] == 299
            logits, points = build(inputs, create_aux_logits=native)
            outputs = {"features": points["Mixed_7c"], "logits": logits}
            return {**outputs, "aux_logits": points["AuxLogits"]} if native else outputs
        logits, points = build(inputs)
        last = "postnorm" if case.module == "resnet_v2" else "block4/unit_3/bottleneck_v1"
        features = tf1.get_default_graph().get_tensor_by_name(f"{case.network}/{last}/Relu:0")
        return {"features": features, "logits": tf.squeeze(logits, (1, 2))}


def _random_value(variable: tf.Variable, generator: np.random.Generator) -> np.ndarray:
    shape, kind = variable.shape.as_list(), variable.op.name.rsplit("/", 1)[-1]
    if kind == "weights":
        return generator.normal(0, np.sqrt(1.5 / np.prod(shape[:-1])), shape)
    if kind == "moving_variance":
        return generator.uniform(0.5, 2.0, shape)
    return generator.normal(1.0 if kind == "gamma" else 0.0, 0.2, shape)


def _write_and_run(slim, case: Case, images: np.ndarray, path) -> dict[str, np.ndarray]:
    """tf-slim's outputs on random weights, which are written to `path` with an optimizer's slots and a step beside."""
    generator = np.random.default_rng(0)
    with tf.Graph().as_default(), tf1.Session() as session:
        outputs = _slim_outputs(slim, case, _preprocessed(images, case))
        tf1.train.get_or_create_global_step()
        for name in ("conv1/weights/Momentum", "InceptionV3/Conv2d_1a_3x3/weights/ExponentialMovingAverage"):
            tf1.get_variable(name, (3, 3, 3, 32))
        session.run(tf1.global_variables_initializer())
        variables = slim.get_model_variables()
        values = {variable.initializer.inputs[1]: _random_value(variable, generator) for variable in variables}
        session.run([variable.initializer for variable in variables], values)
        tf1.train.Saver(write_version=case.version).save(session, str(path), write_meta_graph=False)
        return session.run(outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_outputs_are_tf_slims(slim, case, tmp_path, relative_error):
    path = tmp_path / f"{case.name}.ckpt"
    for size in case.sizes:
        images = np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
        expected = _write_and_run(slim, case, images, path)
        outputs = load_target(case.name, str(path), image_size=size)(images)
        assert set(outputs) == set(expected)
        for key, value in expected.items():
            if key != "features" and case.classes == 1001:
                value = value[:, 1:]  # the background class
            assert relative_error(outputs[key], value) < 1e-4, (case.name, size, key)


def test_a_published_archive_is_found_in_the_checkpoint_directory(slim, tmp_path, monkeypatch, relative_error):
    case = CASES[2]
    images = np.random.default_rng(1).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    (tmp_path / "unpacked").mkdir()
    expected = _write_and_run(slim, case, images, tmp_path / "unpacked/resnet_v2_50.ckpt")
    with tarfile.open(tmp_path / "resnet_v2_50_2017_04_14.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked/resnet_v2_50.ckpt", "resnet_v2_50.ckpt")
        archive.add(tmp_path / "unpacked/checkpoint", "train.graph")
    from_argument = load_target(case.name, checkpoint_dir=str(tmp_path))
    monkeypatch.setenv("HGD_CHECKPOINTS", str(tmp_path))
    from_environment = load_target(case.name)
    for target in (from_argument, from_environment, load_target(case.name, str(tmp_path / "unpacked"))):
        assert relative_error(target(images)["logits"], expected["logits"][:, 1:]) < 1e-4
