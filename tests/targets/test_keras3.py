"""A Keras 3 classifier of the user's own as a target; on the first stack, what is said of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.defenses import Defense, load_defense, save_defense
from hgd_tf.defenses.exporting import export_defense
from hgd_tf.errors import TargetError
from hgd_tf.evaluation.flops import gflop_per_image
from hgd_tf.foundation.stack import has_keras_3, import_keras_3, keras
from hgd_tf.guidance import Batch, GuidedDenoiser, parse_guidance
from hgd_tf.strategy import make_strategy
from hgd_tf.targets import Target, load_target
from hgd_tf.targets.freezing import inference_copy
from hgd_tf.targets.keras3 import keras_version

SIZE, CHANNELS, CLASSES = 16, 3, 4
second_stack = pytest.mark.skipif(not has_keras_3(), reason="Keras 3 is on the stack of Python 3.12 and newer")
keras3 = import_keras_3() if has_keras_3() else None
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, SIZE, SIZE, CHANNELS)).astype(np.float32)


def _scores(activation=None):
    return keras3.layers.Dense(CLASSES, activation, kernel_initializer="random_normal", name="scores")


HEADS = {
    "softmax in the last Dense": lambda: [_scores("softmax")],
    "softmax given as TensorFlow's function": lambda: [_scores(tf.nn.softmax)],
    "softmax layer": lambda: [_scores(), keras3.layers.Softmax()],
    "softmax activation layer in float32": lambda: [_scores(), keras3.layers.Activation("softmax", dtype="float32")],
    "softmax operation": lambda: [_scores(), keras3.ops.softmax],
    "softmax inside a head, then an identity": lambda: [
        keras3.Sequential([_scores("softmax")]),
        keras3.layers.Activation("linear"),
    ],
    "softmax before reshapes": lambda: [
        _scores(),
        keras3.layers.Reshape((1, CLASSES)),
        keras3.layers.Softmax(),
        keras3.layers.Flatten(),
    ],
    "logits": lambda: [_scores()],
}


def _classifier(head: str = "softmax in the last Dense", size=SIZE, own=None):
    layers = keras3.layers
    images = keras3.Input((size, size, CHANNELS))
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(images if own is None else own(images))
    x = layers.BatchNormalization(moving_mean_initializer="ones", moving_variance_initializer="ones")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(layers.Dropout(0.5)(x))
    for layer in HEADS[head]():
        x = layer(x)
    return keras3.Model(images, x, name="own")


def _sequential():
    functional = _classifier()
    return keras3.Sequential([keras3.Input((SIZE, SIZE, CHANNELS)), *functional.layers[1:]], name="own")


def _value(model, layer: str, inputs) -> np.ndarray:
    return keras3.Model(model.inputs[0], model.get_layer(layer).output)(inputs, training=False).numpy()


def _assert_equal(actual, expected, tolerance: float = 1e-5) -> None:
    """Float32 sums of a few dozen terms in another order."""
    assert set(actual) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=tolerance * np.abs(value).max())


@pytest.fixture(scope="module")
def target():
    return load_target(_classifier(), feature_layer="conv", input_range=(0, 1))


@second_stack
@pytest.mark.parametrize("head", HEADS)
def test_logits_are_the_models_values_before_its_softmax(head):
    model = _classifier(head)
    scores = next(
        layer for layer in (model.layers[-2], *model.layers) if hasattr(layer, "layers") or layer.name == "scores"
    )
    kernel, bias = scores.get_weights()
    responses = load_target(model, feature_layer="conv", input_range=(-1, 1))(IMAGES)
    scaled = IMAGES / 127.5 - 1
    expected = {"logits": _value(model, "pooled", scaled) @ kernel + bias, "features": _value(model, "conv", scaled)}
    _assert_equal(responses, expected)


@second_stack
def test_it_is_a_frozen_target_of_its_name_with_gradients_by_the_image(target):
    assert isinstance(target, Target)
    assert (target.name, target.image_size, target.channels, target.classes) == ("own", SIZE, CHANNELS, CLASSES)
    assert target.trainable_variables == []

    @tf.function
    def gradient(images, training):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = target(images, training=training)["logits"]
        return tape.gradient(logits, images), logits

    for training in (False, True):
        gradients, logits = gradient(tf.constant(IMAGES), training)
        assert np.abs(gradients).max() > 0
        _assert_equal({"logits": logits}, {"logits": target(IMAGES)["logits"]})


@second_stack
def test_sequential_models_open_sizes_and_subclasses():
    sequential = _sequential()
    _assert_equal(
        {"p": tf.nn.softmax(load_target(sequential, feature_layer="conv")(IMAGES)["logits"])},
        {"p": sequential(IMAGES, training=False)},
    )
    model = _classifier("logits", size=None)
    with pytest.raises(TargetError, match="own admits any input size"):
        load_target(model)
    assert load_target(model, image_size=20, feature_layer="conv")(IMAGES)["features"].shape == (5, 18, 18, 5)
    with pytest.raises(TargetError, match=r"square images of side 20"):
        load_target(sequential, image_size=20)

    class Subclass(keras3.Model):
        def build(self, input_shape):
            self.inside = _classifier("logits")

        def call(self, images, training=False):
            return self.inside(images, training=training)

    model = Subclass(name="subclass")
    with pytest.raises(TargetError, match="subclass: expected a model that was built"):
        load_target(model)
    expected = model(IMAGES)
    _assert_equal(load_target(model)(IMAGES), {"logits": expected})
    with pytest.raises(TargetError, match=r"subclass has no layer 'conv'"):
        load_target(model, feature_layer="conv")


@second_stack
def test_what_does_not_fit_is_named():
    model = _classifier()
    for layer, message in (
        ("absent", r"own has no layer 'absent': expected one of conv, "),
        ("pooled", r"\(None, 5\)"),
    ):
        with pytest.raises(TargetError, match=message):
            load_target(model, feature_layer=layer)
    two = keras3.Model(model.inputs, [model.outputs[0], model.get_layer("pooled").output], name="two")
    with pytest.raises(TargetError, match="two: expected one output"):
        load_target(two)


def _denoiser() -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, CHANNELS)), keras.layers.Conv2D(CHANNELS, 1)])


@second_stack
def test_layer_outputs_and_convolutions_are_the_models_own(target):
    assert target.convolutions() == ["conv"]
    maps = target.layer_outputs(IMAGES)
    assert {"conv", "pooled", "logits", "features"} <= set(maps)
    _assert_equal({"conv": maps["conv"], "logits": maps["logits"]}, {"conv": maps["features"], **_logits_of(target)})
    with pytest.raises(TargetError, match="unknown layer 'absent'"):
        target.layer_outputs(IMAGES, ["absent"])


def _logits_of(target) -> dict:
    return {"logits": target(IMAGES)["logits"]}


@second_stack
def test_precisions(target):
    quick = target.in_bfloat16()
    responses = quick(IMAGES)
    assert all(tensor.dtype == tf.float32 for tensor in responses.values())
    assert np.any(responses["logits"] != target(IMAGES)["logits"])
    # Eight bits of mantissa, three layers.
    _assert_equal(responses, target(IMAGES), 3 * 2**-6)
    _assert_equal(inference_copy(quick.network)(IMAGES), target(IMAGES))


@second_stack
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_training_a_denoiser_leaves_the_target_as_it_is(target, strategy):
    before = [weight.tobytes() for weight in target.get_weights()]
    with make_strategy(strategy, 4).scope():
        denoiser = _denoiser()
        model = GuidedDenoiser(denoiser, target, parse_guidance("feature+logits"), ["fgsm"])
        model.compile(keras.optimizers.Adam(1e-2))
    start = denoiser.get_weights()[0]
    labels = np.zeros(4, np.int64)
    data = tf.data.Dataset.from_tensors(Batch(IMAGES[:4], IMAGES[:4] / 2, labels, labels)).unbatch().batch(4)
    model.fit(data, verbose=0)
    assert len(model.trainable_variables) == 2
    assert np.any(denoiser.get_weights()[0] != start)
    assert [weight.tobytes() for weight in target.get_weights()] == before


@second_stack
def test_a_saved_and_an_exported_defense_answer_as_before(target, tmp_path):
    defense = Defense(_denoiser(), target)
    expected = defense(IMAGES)
    save_defense(defense, tmp_path / "saved")
    assert keras_version(tmp_path / "saved" / "target.keras") == keras3.__version__
    loaded = load_defense(tmp_path / "saved")
    assert loaded.target.name == "own"
    _assert_equal(loaded(IMAGES), expected)
    assert gflop_per_image(loaded) > 2 * 27 * 5 * 14**2 / 1e9  # the target's convolution alone
    path = export_defense(loaded, tmp_path / "own" / "1", "a test").path
    served = tf.saved_model.load(path).signatures["serving_default"](images=tf.constant(IMAGES.astype(np.uint8)))
    _assert_equal({"logits": served["logits"]}, {"logits": loaded(IMAGES.astype(np.uint8))["logits"]}, 1e-4)


@second_stack
@pytest.mark.parametrize("file", ["classifier.keras", "classifier.h5"])
def test_a_file_loads_and_layers_of_its_own_must_be_known(tmp_path, file):
    model = _classifier()
    model.save(tmp_path / file)
    loaded = load_target(tmp_path / file, feature_layer="conv")
    assert loaded.name == "classifier"
    _assert_equal(loaded(IMAGES), load_target(model, feature_layer="conv")(IMAGES))

    class Twice(keras3.layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    own = _classifier(own=Twice())
    own.save(tmp_path / f"own_{file}")
    with pytest.raises(TargetError, match=r"needs code of yours \(Twice\).*custom_objects"):
        load_target(tmp_path / f"own_{file}")
    known = load_target(tmp_path / f"own_{file}", custom_objects={"Twice": Twice})
    _assert_equal({"p": tf.nn.softmax(known(IMAGES)["logits"])}, {"p": own(IMAGES, training=False)})
    _classifier(own=keras3.layers.Lambda(lambda inputs: 2.0 * inputs)).save(tmp_path / f"lambda_{file}")
    with pytest.raises(TargetError, match=r"holds Python code .*which is run only where that is asked for"):
        load_target(tmp_path / f"lambda_{file}")
    assert load_target(tmp_path / f"lambda_{file}", safe_mode=False).classes == CLASSES


@second_stack
def test_an_exported_model_without_layers_is_named(tmp_path):
    _classifier().export(tmp_path / "exported", verbose=False)
    with pytest.raises(TargetError, match=r"exported is a SavedModel without .*model.export.*expected a .keras file"):
        load_target(tmp_path / "exported")


@second_stack
def test_another_backend_is_named(monkeypatch):
    model = _classifier()
    monkeypatch.setattr(keras3.backend, "backend", lambda: "jax")
    with pytest.raises(TargetError, match=r"own needs Keras 3 on TensorFlow.*computes with jax.*KERAS_BACKEND"):
        load_target(model)


@pytest.mark.skipif(has_keras_3(), reason="where there is no Keras 3")
def test_without_keras_3_its_file_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "three.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.2"}))
        archive.writestr("config.json", "{}")
    with pytest.raises(TargetError, match=r"three.keras is a model of Keras 3.*Keras is 2.*Python 3.12"):
        load_target(path)


BOTH_ORDERS = """
import os, sys
{first}
import tensorflow as tf
before, own = dict(os.environ), tf.keras.__name__
{second}
import numpy as np, keras as keras3
assert dict(os.environ) == before, "the environment"
assert "TF_USE_LEGACY_KERAS" not in os.environ and "KERAS_BACKEND" not in os.environ
assert tf.keras.__name__ == own and tf.keras.Model is keras3.Model, "tf.keras"
layers = keras3.layers
model = keras3.Sequential([keras3.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3, "softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(np.ones((4, 8, 8, 1)), np.zeros(4), verbose=0)
print(hgd_tf.load_target(model)(np.ones((1, 8, 8, 1), np.float32))["logits"].shape)
"""


@second_stack
@pytest.mark.parametrize("order", ["import keras", "import tensorflow"])
def test_keras_3_and_this_package_share_a_process(order):
    """In both orders of import, and without a change of the environment or of `tf.keras`."""
    script = BOTH_ORDERS.format(first=order, second="import hgd_tf")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND")
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 3)" in done.stdout
