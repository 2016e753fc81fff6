"""A Keras classifier of the user's own as a target."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import TARGETS, Target, load_target

layers = keras.layers
SIZE, CHANNELS, CLASSES = 12, 3, 4


def _convolution(name: str = "conv", **kwargs):
    return layers.Conv2D(5, 3, activation="relu", bias_initializer="random_normal", name=name, **kwargs)


def _scores(activation=None):
    return layers.Dense(
        CLASSES, activation, kernel_initializer="random_normal", bias_initializer="random_normal", name="scores"
    )


HEADS = {
    "softmax in the last Dense": lambda: [_scores("softmax")],
    "softmax given as TensorFlow's function": lambda: [_scores(tf.nn.softmax)],
    "softmax layer": lambda: [_scores(), layers.Softmax()],
    "softmax activation layer": lambda: [_scores(), layers.Activation("softmax")],
    "softmax layer as activation": lambda: [_scores(layers.Softmax())],
    "logits": lambda: [_scores()],
}


def _functional(head=HEADS["logits"], size=SIZE, inputs=None) -> keras.Model:
    images = keras.Input((size, size, CHANNELS)) if inputs is None else inputs
    x = layers.GlobalAveragePooling2D(name="pooled")(_convolution()(images))
    for layer in head():
        x = layer(x)
    return keras.Model(images, x, name="own")


def _sequential(head=HEADS["logits"]) -> keras.Model:
    trunk = [keras.Input((SIZE, SIZE, CHANNELS)), _convolution(), layers.GlobalAveragePooling2D(name="pooled")]
    return keras.Sequential([*trunk, *head()], name="own")


def _images(count: int = 6, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, CHANNELS)).astype(np.float32)


def _output(model: keras.Model, layer: str, inputs) -> np.ndarray:
    return keras.Model(model.input, model.get_layer(layer).output)(inputs).numpy()


def _softmax(logits) -> np.ndarray:
    powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("build", [_functional, _sequential])
def test_logits_are_the_models_values_before_its_softmax(build, head):
    model = build(head)
    target = load_target(model, feature_layer="conv")
    kernel, bias = model.get_layer("scores").get_weights()
    expected = _output(model, "pooled", _images()) @ kernel + bias
    np.testing.assert_allclose(target(_images())["logits"], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head", [pytest.param(head, id=name) for name, head in HEADS.items() if name != "logits"])
def test_softmax_of_the_logits_is_the_models_probabilities(head):
    model = _functional(head)
    probabilities = _softmax(load_target(model, feature_layer="conv", input_range=(0, 1))(_images())["logits"].numpy())
    np.testing.assert_allclose(probabilities, model(_images() / 255), atol=1e-5)


def test_a_softmax_inside_a_nested_head_is_found_or_refused():
    model = _functional(lambda: [keras.Sequential([_scores("softmax")])])
    try:
        target = load_target(model, feature_layer="conv", input_range=(0, 1))
    except TargetError:
        return
    np.testing.assert_allclose(_softmax(target(_images())["logits"].numpy()), model(_images() / 255), atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-128.0, 127.0)])
def test_pixels_are_scaled_to_the_input_range(low, high):
    model = _functional()
    target = load_target(model, feature_layer="conv", input_range=(low, high))
    scaled = low + (high - low) * _images() / 255
    np.testing.assert_allclose(target(_images())["logits"], model(scaled), rtol=1e-4, atol=1e-4)


def test_pixels_are_passed_as_they_are_by_default():
    model = _functional()
    np.testing.assert_allclose(
        load_target(model, feature_layer="conv")(_images())["logits"], model(_images()), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("build", [_functional, _sequential])
def test_features_are_the_named_layers_output(build):
    model = build()
    features = load_target(model, feature_layer="conv", input_range=(-1, 1))(_images())["features"]
    np.testing.assert_allclose(features, _output(model, "conv", _images() / 127.5 - 1), rtol=1e-4, atol=1e-5)


def test_a_pretrained_model_inside_can_be_the_feature_layer():
    inside = keras.Input((SIZE, SIZE, CHANNELS))
    base = keras.Model(inside, _convolution()(inside), name="base")
    model = keras.Sequential([base, layers.GlobalAveragePooling2D(), _scores()])
    target = load_target(model, feature_layer="base")
    outputs = target(_images())
    np.testing.assert_allclose(outputs["features"], base(_images()), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], model(_images()), rtol=1e-5, atol=1e-4)


def test_the_users_model_becomes_a_frozen_target_of_its_name():
    target = load_target(_functional(), feature_layer="conv")
    assert isinstance(target, Target)
    assert (target.name, target.image_size, target.channels, target.classes) == ("own", SIZE, CHANNELS, CLASSES)
    assert target.source is None
    assert target.trainable_variables == []


def test_images_of_other_sizes_are_resized():
    model = _functional()
    images = _images(size=30)
    expected = model(tf.image.resize(images, (SIZE, SIZE), antialias=True))
    np.testing.assert_allclose(
        load_target(model, feature_layer="conv")(images)["logits"], expected, rtol=1e-4, atol=1e-3
    )


def test_moving_statistics_do_not_move():
    images = keras.Input((SIZE, SIZE, CHANNELS))
    x = layers.BatchNormalization(name="normalization")(_convolution()(images))
    x = layers.Dropout(0.5)(x)
    model = keras.Model(images, _scores()(layers.GlobalAveragePooling2D()(x)))
    target = load_target(model, feature_layer="normalization")
    before = [weight.tobytes() for weight in model.get_weights()]
    expected = target(_images())["logits"].numpy()
    np.testing.assert_allclose(target(_images(), training=True)["logits"], expected, rtol=1e-4, atol=1e-4)
    assert [weight.tobytes() for weight in model.get_weights()] == before


def test_layer_outputs_give_the_models_own_maps():
    model = _functional()
    target = load_target(model, feature_layer="conv", input_range=(0, 1))
    maps = target.layer_outputs(_images())
    assert {"conv", "pooled", "scores"} <= set(maps)
    for name in ("conv", "pooled", "scores"):
        np.testing.assert_allclose(maps[name], _output(model, name, _images() / 255), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["classifier.keras", "saved_model"])
def test_a_saved_model_loads_from_its_path(tmp_path, form):
    model = _functional(HEADS["softmax in the last Dense"])
    path = tmp_path / form
    name = form.split(".")[0]
    model.save(path, save_format=None if form.endswith(".keras") else "tf")
    in_memory = load_target(model, feature_layer="conv", input_range=(0, 1))(_images())
    for given in (path, str(path)):
        target = load_target(given, feature_layer="conv", input_range=(0, 1))
        assert (target.name, target.image_size, target.classes) == (name, SIZE, CLASSES)
        loaded = target(_images())
        for key in ("features", "logits"):
            np.testing.assert_allclose(loaded[key], in_memory[key], rtol=1e-4, atol=1e-5)


def _of_open_size() -> keras.Model:
    return _functional(inputs=keras.Input((None, None, CHANNELS)))


def test_an_open_input_size_must_be_said():
    with pytest.raises(TargetError, match=r"own admits any input size.*image_size"):
        load_target(_of_open_size(), feature_layer="conv")


def test_an_open_input_size_can_be_said():
    model = _of_open_size()
    target = load_target(model, image_size=20, feature_layer="conv")
    assert target.image_size == 20
    expected = model(tf.image.resize(_images(), (20, 20), antialias=True))
    np.testing.assert_allclose(target(_images())["logits"], expected, rtol=1e-4, atol=1e-3)


def test_a_fixed_input_size_cannot_be_changed():
    with pytest.raises(TargetError, match=r"side 20.*\(None, 12, 12, 3\)"):
        load_target(_functional(), image_size=20, feature_layer="conv")


def test_without_a_feature_layer_the_logits_are_the_only_response():
    model = _functional()
    outputs = load_target(model)(_images())
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], model(_images()), rtol=1e-4, atol=1e-3)


def test_an_unknown_feature_layer_is_refused_with_the_known_ones():
    with pytest.raises(TargetError, match=r"own has no layer 'top'.*conv, pooled, scores"):
        load_target(_functional(), feature_layer="top")


def test_a_feature_layer_without_maps_is_refused():
    with pytest.raises(TargetError, match=r"pooled.*\(None, 5\)"):
        load_target(_functional(), feature_layer="pooled")


def test_two_outputs_are_refused():
    model = _functional()
    two = keras.Model(model.input, [model.output, model.get_layer("pooled").output], name="two")
    with pytest.raises(TargetError, match="two: expected one output"):
        load_target(two, feature_layer="conv")


def test_two_inputs_are_refused():
    model = _functional()
    other = keras.Input((CLASSES,))
    two = keras.Model([model.input, other], layers.Add(name="sum")([model.output, other]), name="two")
    with pytest.raises(TargetError, match="two: expected one input"):
        load_target(two, feature_layer="conv")


def test_an_output_map_is_refused():
    images = keras.Input((SIZE, SIZE, CHANNELS))
    model = keras.Model(images, _convolution()(images), name="maps")
    with pytest.raises(TargetError, match=r"maps: expected one output of shape \(N, classes\)"):
        load_target(model, feature_layer="conv")


def test_a_non_square_input_is_refused():
    model = _functional(inputs=keras.Input((SIZE, SIZE + 2, CHANNELS)))
    with pytest.raises(TargetError, match=r"own: expected square.*\(None, 12, 14, 3\)"):
        load_target(model, feature_layer="conv")


def test_a_model_that_was_never_built_is_refused():
    model = keras.Sequential([_convolution(), layers.Flatten(), _scores()], name="unbuilt")
    with pytest.raises(TargetError, match="unbuilt"):
        load_target(model, feature_layer="conv")


@pytest.mark.parametrize("content", [b"", b"no model\n" * 50, b"PK\x03\x04 nothing more"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "text.keras"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"text.keras is no model that Keras can load"):
        load_target(path, feature_layer="conv")


def test_a_truncated_model_file_is_named(tmp_path):
    path = tmp_path / "cut.keras"
    _functional().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TargetError, match=r"cut.keras is no model that Keras can load"):
        load_target(path, feature_layer="conv")


def test_a_model_file_with_damaged_weights_is_named(tmp_path):
    path = tmp_path / "damaged.keras"
    _functional().save(path)
    content = bytearray(path.read_bytes())
    middle = content.index(b"model.weights.h5") + 500
    content[middle : middle + 50] = b"\xff" * 50
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"damaged.keras"):
        load_target(path, feature_layer="conv")


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(TargetError, match="is no model that Keras can load"):
        load_target(tmp_path, feature_layer="conv")


def test_a_path_that_does_not_exist_is_named_with_the_known_targets(tmp_path):
    with pytest.raises(TargetError) as caught:
        load_target(tmp_path / "absent.keras", feature_layer="conv")
    assert "absent.keras" in str(caught.value)
    assert all(name in str(caught.value) for name in TARGETS)


def test_a_checkpoint_beside_a_users_model_is_refused():
    with pytest.raises(TargetError, match=r"registered target only.*some.weights.h5"):
        load_target(_functional(), "some.weights.h5", feature_layer="conv")
