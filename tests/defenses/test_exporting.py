"""Exported models answer as the defense does, in plain TensorFlow."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image
from small_set import FEW_CONVOLUTIONS

from hgd_tf.architectures.convolution import InputGradientConv2D
from hgd_tf.data.images import decode_image
from hgd_tf.defenses import Defense, exporting
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.exporting import Export, export_defense, export_path
from hgd_tf.denoisers import dunet
from hgd_tf.errors import RunError, TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, load_target, resize_to
from hgd_tf.targets.freezing import frozen_copy, inference_copy

layers = keras.layers
TOLERANCE = 1e-4  # of the largest value


def _randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """Batch statistics that matter."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.weights:
                is_scale = any(name in variable.name for name in ("gamma", "variance"))
                draw = random.uniform(0.5, 2.0, variable.shape) if is_scale else random.normal(0.2, 0.3, variable.shape)
                variable.assign(draw)
    return model


def _narrow(channels: int = 1, seed: int = 0, **options) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return _randomized(dunet(1 / 16, channels, **FEW_CONVOLUTIONS, **options), seed)


def _convolution(seed: int) -> keras.Model:
    """The smallest denoiser that folds."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 1))
    x = layers.BatchNormalization()(layers.Conv2D(1, 3, padding="same")(images))
    return _randomized(keras.Model(images, x), seed)


def _grouped_target() -> Target:
    """Three channels, and convolutions with this package's own gradients, grouped and not."""
    keras.utils.set_random_seed(0)
    images = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(layers.Rescaling(1 / 127.5, -1)(images))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = InputGradientConv2D(8, 3, padding="same", groups=4, use_bias=False)(x)
    features = layers.ReLU()(layers.BatchNormalization()(x))
    logits = layers.Dense(7)(layers.GlobalAveragePooling2D()(features))
    network = keras.Model(images, {"features": features, "logits": logits})
    return Target(frozen_copy(_randomized(network)), name="grouped")


def _images(count: int, height: int = 28, width: int = 28, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def _encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, kind)
    return file.getvalue()


def _assert_close(actual, expected) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


def _signature(exported: Export, name: str = "serving_default"):
    loaded = tf.saved_model.load(str(exported.path))
    return lambda **inputs: loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})


@pytest.fixture(scope="module")
def defense() -> Defense:
    return Defense(_narrow(), load_target("mini_vgg"))


@pytest.fixture(scope="module")
def exported(defense, tmp_path_factory) -> Export:
    return export_defense(defense, tmp_path_factory.mktemp("exports") / "small" / "1", "a test")


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported.path))


@pytest.mark.parametrize("shape", [(1, 28, 28), (5, 28, 28), (2, 50, 37), (3, 17, 20)], ids=str)
def test_pixels_of_any_batch_and_size_give_the_defenses_numbers(defense, loaded, shape):
    images = _images(*shape)
    expected, answer = defense(images), loaded.signatures["serving_default"](images=tf.constant(images))
    assert set(answer) == {"logits", "probabilities", "classes"}
    for name in ("logits", "probabilities"):
        _assert_close(answer[name], expected[name])
    np.testing.assert_array_equal(answer["classes"], expected["classes"])
    assert answer["classes"].dtype == tf.int64
    assert np.abs(expected["denoised"] - resize_to(images, 28)).max() > 10
    _assert_close(loaded.signatures["denoise"](images=tf.constant(images))["denoised"], expected["denoised"])


def test_encoded_images_of_several_sizes_give_what_their_pixels_give(defense, loaded):
    images = [_images(1, *size)[0] for size in ((28, 28), (50, 37), (17, 20), (28, 28))]
    encoded = [_encoded(image, kind) for image, kind in zip(images, ("PNG", "PNG", "PNG", "JPEG"))]
    answer = loaded.signatures["serving_bytes"](image_bytes=tf.constant(encoded))
    expected = [defense(decode_image(content, 1)[np.newaxis])["logits"][0] for content in encoded]
    _assert_close(answer["logits"], expected)
    np.testing.assert_array_equal(answer["classes"], np.argmax(expected, axis=-1))


def test_concurrent_calls_give_the_same_numbers(loaded):
    batches = [tf.constant(_images(1 + number % 3, 28 + number, 28)) for number in range(24)]
    classify = loaded.signatures["serving_default"]
    alone = [classify(images=batch)["logits"].numpy() for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: classify(images=batch)["logits"].numpy(), batches))
    for one, other in zip(together, alone):
        _assert_close(one, other)


def test_an_ensemble_is_the_mean_of_its_targets(tmp_path):
    shared, small, large = _convolution(1), load_target("mini_vgg"), load_target("mini_vgg", image_size=36)
    flows = [Flow([shared, _convolution(2)], [small, large], "A&B->X&Y"), Flow([shared], [large], "A->Y")]
    exported = export_defense(Ensemble([*flows, Flow([], [small], "X")]), tmp_path / "several" / "3", "a test")
    images = _images(3, 40, 32)
    expected = sum(weight * part(images)["logits"] for weight, part in zip((2, 1, 1), (*flows, small))) / 4
    _assert_close(_signature(exported)(images=images)["logits"], expected)
    encoded = [_encoded(image) for image in images]
    _assert_close(_signature(exported, "serving_bytes")(image_bytes=encoded)["logits"], expected)
    assert exported.signatures == ("serving_default", "serving_bytes")


def test_grouped_convolutions_and_own_gradients_become_plain_operations(tmp_path, caplog):
    defense = Defense(_narrow(3), _grouped_target())
    exported = export_defense(defense, tmp_path / "grouped" / "1", "a test")
    images = _images(2, 31, 24, 3)
    _assert_close(_signature(exported)(images=images)["logits"], defense(images)["logits"])
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    graph = (exported.path / "saved_model.pb").read_bytes()
    assert b"CustomGradient" not in graph and b"FusedBatchNorm" not in graph
    assert b"hgd_tf" not in graph


def test_a_users_model_with_models_inside_is_folded_too(tmp_path):
    backbone = keras.Sequential(
        [keras.Input((20, 20, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
    )
    tail = [layers.Conv2D(4, 3, groups=2), layers.GlobalMaxPooling2D(), layers.Dense(6, activation="softmax")]
    model = keras.Sequential([keras.Input((20, 20, 3)), _randomized(backbone), *tail], name="users_own")
    defense = Defense(None, load_target(model))
    exported = export_defense(defense, tmp_path / "users_own" / "1", "a test")
    images = _images(2, 20, 26, 3)
    _assert_close(_signature(exported)(images=images)["logits"], defense(images)["logits"])
    assert b"FusedBatchNorm" not in (exported.path / "saved_model.pb").read_bytes()
    inside = {layer.name: layer for layer in model.layers}[backbone.name]
    assert any(isinstance(layer, layers.BatchNormalization) for layer in inside.layers)


class Shifted(layers.Layer):
    """Its copy is without the shift, which its configuration does not name."""

    shift = 0.0

    def call(self, inputs):
        return inputs + self.shift


@pytest.mark.numerics
def test_a_copy_that_answers_otherwise_is_refused_and_one_that_differs_by_rounding_is_not(tmp_path):
    keras.utils.set_random_seed(0)
    shifted = Shifted()
    upwards = [layers.Conv2DTranspose(4, 3, strides=2), layers.BatchNormalization(), shifted]
    head = [layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(6)]
    model = _randomized(keras.Sequential([keras.Input((9, 9, 4)), layers.Rescaling(1 / 255), *upwards, *head]))
    defense = Defense(None, load_target(model))
    exported = export_defense(defense, tmp_path / "users_own" / "1", "a test")
    images = _images(2, 9, 9, 4)
    _assert_close(_signature(exported)(images=images)["logits"], defense(images)["logits"])
    compared = json.loads((exported.path / "assets.extra" / "export.json").read_text())["comparison with the source"]
    assert compared["images"] == 4
    assert compared["largest_difference"] <= compared["allowed_difference"] < 1e-3 * compared["largest_logit"]
    shifted.shift = 0.01
    with pytest.raises(TargetError, match=r"other/1: expected logits equal to the source's .*received some 0\.0"):
        export_defense(defense, tmp_path / "other" / "1", "a test")
    assert [path.name for path in tmp_path.iterdir()] == ["users_own"]


def test_what_was_trained_in_bfloat16_computes_in_float32():
    denoiser, exact = _narrow(precision="bfloat16"), _narrow()
    exact.set_weights(denoiser.get_weights())
    copy = inference_copy(denoiser)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    assert not [layer for layer in copy.layers if isinstance(layer, layers.BatchNormalization)]
    images = _images(2).astype(np.float32)
    _assert_close(copy(images), exact(images))
    assert 1e-5 < np.abs(copy(images) - denoiser(images)).max() / 255 < 0.1


ISOLATED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hgd_tf", "tf_keras", "cleverhans"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], loaded.signatures["serving_default"](images=tf.constant(np.load(sys.argv[2])))["logits"])
"""


def test_it_loads_silently_where_this_package_is_absent(exported, defense, tmp_path):
    images = _images(2)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-I", "-c", ISOLATED, exported.path, tmp_path / "images.npy", tmp_path / "logits.npy"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"}  # no remarks on the machine, but warnings
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for word in ("gradient", "Unable to restore", "WARNING:tensorflow", "UserWarning", "untraced", "unregistered"):
        assert word not in done.stderr, done.stderr
    _assert_close(np.load(tmp_path / "logits.npy"), defense(images)["logits"])


@pytest.mark.slow
def test_saved_model_cli_shows_the_three_signatures(exported):
    program = Path(sys.executable).with_name("saved_model_cli")
    shown = subprocess.run([program, "show", "--dir", exported.path, "--all"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name in ("serving_default", "serving_bytes", "denoise"):
        assert f"signature_def['{name}']" in shown.stdout
    for line in ("inputs['images'] tensor_info:", "inputs['image_bytes'] tensor_info:", "shape: (-1, -1, -1, 1)"):
        assert line in shown.stdout


# --- what lies beside the model ---


def _prediction_log_class():
    """tensorflow_serving/apis/prediction_log.proto and what it needs, in a pool of its own."""
    number = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="log.proto", package="tensorflow.serving", syntax="proto3")
    fields = {
        "ModelSpec": [("name", 1, ""), ("signature_name", 3, "")],
        "Entry": [("key", 1, ""), ("value", 2, ".tensorflow.serving.Raw")],
        "Raw": [],
        "PredictRequest": [
            ("model_spec", 1, ".tensorflow.serving.ModelSpec"),
            ("inputs", 2, ".tensorflow.serving.Entry"),
        ],
        "PredictLog": [("request", 1, ".tensorflow.serving.PredictRequest")],
        "PredictionLog": [("predict_log", 6, ".tensorflow.serving.PredictLog")],
    }
    for message, content in fields.items():
        described = file.message_type.add(name=message)
        for name, tag, kind in content:
            label = number.LABEL_REPEATED if name == "inputs" else number.LABEL_OPTIONAL
            wire = {"type": number.TYPE_MESSAGE, "type_name": kind} if kind else {"type": number.TYPE_STRING}
            described.field.add(name=name, number=tag, label=label, **wire)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictionLog"))


def test_warm_up_requests_parse_and_can_be_answered(exported, loaded):
    message, tensor_proto, seen = _prediction_log_class(), type(tf.make_tensor_proto(0)), []
    path = exported.path / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)):
        request = message.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "small"
        inputs = {}
        for entry in request.inputs:
            tensor = tf.make_ndarray(tensor_proto.FromString(entry.value.SerializeToString()))
            inputs[entry.key] = tf.constant(tensor)
        answer = loaded.signatures[request.model_spec.signature_name](**inputs)
        assert all(len(output) == 1 for output in answer.values())
        seen.append(request.model_spec.signature_name)
    assert sorted(seen) == ["denoise", "serving_bytes", "serving_default"]


def test_the_description_says_what_it_is(exported):
    described = json.loads((exported.path / "assets.extra" / "export.json").read_text())
    assert (described["name"], described["version"], described["source"]) == ("small", "1", "a test")
    assert described["versions"]["tensorflow"] == tf.__version__
    signature = described["signatures"]["serving_default"]
    assert signature["inputs"] == {"images": {"dtype": "uint8", "shape": [None, None, None, 1]}}
    assert signature["outputs"]["logits"] == {"dtype": "float32", "shape": [None, 10]}
    assert described["signatures"]["serving_bytes"]["inputs"]["image_bytes"]["dtype"] == "string"
    assert described["signatures"]["denoise"]["outputs"]["denoised"]["shape"] == [None, 28, 28, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError], ids=lambda error: error.__name__)
def test_a_broken_off_export_leaves_nothing(defense, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(exporting, "write_warm_up", fail)
    other = tmp_path / "kept" / "1" / "saved_model.pb"
    other.parent.mkdir(parents=True)
    other.write_text("another version")
    undefended = Defense(None, defense.target)
    for name in ("new", "kept"):
        with pytest.raises(error):
            export_defense(undefended, tmp_path / name / "2", "a test")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_version_is_replaced_only_where_that_is_said(defense, tmp_path):
    (tmp_path / "name" / "4").mkdir(parents=True)
    (tmp_path / "name" / "4" / "old").touch()
    with pytest.raises(RunError, match=r"name/4 exists already.*`overwrite=True`"):
        export_path(tmp_path, "name", 4)
    path = export_path(tmp_path, "name", 4, overwrite=True)
    export_defense(Defense(None, defense.target), path, "a test")
    assert not (path / "old").exists() and (path / "saved_model.pb").is_file()
    assert export_path(tmp_path, "name", 5) == tmp_path / "name" / "5"
