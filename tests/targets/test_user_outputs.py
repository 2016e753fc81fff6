"""What a classifier of the user's own may give, be built of, and be called."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

layers = keras.layers
SIZE, CLASSES = 8, 4
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, SIZE, SIZE, 3)).astype(np.float32)


class Head(layers.Layer):
    """A layer that hides its softmax or sigmoid."""

    def __init__(self, squash, **kwargs):
        super().__init__(**kwargs)
        self.squash, self.dense = squash, _scores()

    def call(self, inputs):
        return self.squash(self.dense(inputs))


def _scores(activation=None, **kwargs):
    draws = keras.initializers.RandomNormal(stddev=1.0)
    return layers.Dense(CLASSES, activation, kernel_initializer=draws, bias_initializer=draws, **kwargs)


def _trunk(images=None):
    images = keras.Input((SIZE, SIZE, 3)) if images is None else images
    x = layers.Rescaling(1 / 255)(images) if images.shape[-1] == 3 else images
    x = layers.Conv2D(5, 3, activation="relu", kernel_initializer="random_normal", name="conv")(x)
    return images, layers.Flatten()(x)


def _with(head) -> keras.Model:
    images, x = _trunk()
    return keras.Model(images, head(x), name="own")


def _gradient(target, images=IMAGES) -> np.ndarray:
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = target(images)["logits"][:, 0]
    return tape.gradient(logits, images).numpy()


def _rescaled(scores):
    return layers.Rescaling(0.5)(scores)


PROBABILITIES = {
    "operation": lambda x: tf.nn.softmax(_scores()(x)),
    "function of Keras": lambda x: keras.activations.softmax(_scores()(x)),
    "temperature": lambda x: tf.nn.softmax(_scores()(x) / 2.0),
    "reshaped": lambda x: layers.Reshape((CLASSES,))(layers.Reshape((1, 1, CLASSES))(_scores("softmax")(x))),
    "flattened": lambda x: layers.Flatten()(layers.Softmax()(layers.Reshape((1, 1, CLASSES))(_scores()(x)))),
    "identity": lambda x: layers.Activation("linear", dtype="float32")(_scores("softmax")(x)),
    "lambda": lambda x: layers.Lambda(lambda p: p)(_scores(lambda s: tf.nn.softmax(s, axis=-1))(x)),
    "dropout": lambda x: layers.Dropout(0.5)(layers.Softmax()(_scores()(x))),
    "head inside": lambda x: keras.Sequential([_scores("softmax"), layers.Dropout(0.5)])(x),
    "head of heads": lambda x: keras.Sequential([_scores(), keras.Sequential([layers.Softmax()])])(x),
    "named twice": lambda x: {"out": _scores("softmax")(x)},
}


@pytest.mark.parametrize("head", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_known_by_what_they_are(head):
    model = _with(head)
    target = load_target(model, feature_layer="conv")
    (given,) = tf.nest.flatten(model(IMAGES))
    np.testing.assert_allclose(tf.nn.softmax(target(IMAGES)["logits"]), given, rtol=1e-4, atol=1e-6)
    logits = next(layer for layer in target.network.layers if isinstance(layer, keras.Model))
    assert not any("probabilities" in layer.name for layer in logits.layers)  # the very tensor before the softmax
    assert np.abs(_gradient(target)).max() > 0


def test_probabilities_without_logits_get_their_logarithm(tmp_path):
    hidden = _with(lambda x: Head(tf.nn.softmax)(x))
    byhand = _with(lambda x: (lambda powers: powers / tf.reduce_sum(powers, -1, keepdims=True))(tf.exp(_scores()(x))))
    for model in (hidden, byhand):
        target = load_target(model)
        np.testing.assert_allclose(tf.nn.softmax(target(IMAGES)["logits"]), model(IMAGES), rtol=1e-4, atol=1e-6)
        assert np.abs(_gradient(target)).max() > 0


def test_logits_stay():
    for head in (
        _scores(),
        lambda x: tf.nn.log_softmax(_scores()(x)),
        layers.Dense(CLASSES, kernel_initializer="zeros"),
    ):
        model = _with(head)
        np.testing.assert_array_equal(load_target(model)(IMAGES)["logits"], model(IMAGES))


SIGMOIDS = {
    "fused": lambda x: _scores("sigmoid")(x),
    "operation": lambda x: tf.sigmoid(_scores()(x)),
    "reshaped": lambda x: layers.Reshape((CLASSES,))(layers.Activation("sigmoid")(_scores()(x))),
    "hidden": lambda x: Head(tf.sigmoid)(x),
}


@pytest.mark.parametrize("head", SIGMOIDS.values(), ids=SIGMOIDS)
def test_several_labels_an_image_are_refused(head):
    with pytest.raises(TargetError, match=r"own gives values in \[0, 1\] that do not sum to one.*`outputs='logits'`"):
        load_target(_with(head))
    load_target(_with(head), outputs="logits")


def test_what_cannot_be_told_is_asked_for():
    constant = layers.Dense(2, kernel_initializer="zeros", bias_initializer=lambda *_, **__: tf.constant([0.25, 0.75]))
    model = _with(constant)
    with pytest.raises(TargetError, match="`outputs='logits'` or `outputs='probabilities'`"):
        load_target(model)
    images = IMAGES[:1]
    np.testing.assert_allclose(load_target(model, outputs="logits")(images)["logits"], [[0.25, 0.75]])
    logits = load_target(model, outputs="probabilities")(images)["logits"]
    np.testing.assert_allclose(tf.nn.softmax(logits), [[0.25, 0.75]], rtol=1e-6)


def test_a_saturated_softmax_has_its_logits():
    model = _with(lambda x: layers.Softmax()(_scores()(x * 1e4)))
    target = load_target(model)
    assert np.ptp(target(IMAGES)["logits"]) > 1000


def test_one_value_an_image_and_no_number_are_refused():
    with pytest.raises(TargetError, match="own gives one value an image"):
        load_target(_with(layers.Dense(1, "sigmoid")))
    with pytest.raises(TargetError, match="not finite"):
        load_target(_with(lambda x: _scores()(x) * float("nan")))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_responses_are_float32(policy):
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy, name="conv")(layers.Rescaling(1 / 255)(images))
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    for activation in (None, "softmax"):
        model = keras.Model(images, _scores(activation, dtype=policy)(x))
        responses = load_target(model, feature_layer="conv")(IMAGES)
        assert {value.dtype for value in responses.values()} == {tf.float32}
        given = tf.cast(model(IMAGES), tf.float32)
        ours = tf.nn.softmax(responses["logits"]) if activation else responses["logits"]
        np.testing.assert_allclose(ours, given, rtol=0.03, atol=0.03)


def test_layers_of_several_graphs_belong_to_the_model_that_is_given():
    images, x = _trunk()
    old = keras.Model(images, _scores("softmax", name="scores")(x))
    reused = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(0.5), *old.layers[1:]])
    target = load_target(reused, feature_layer="conv")
    np.testing.assert_allclose(tf.nn.softmax(target(IMAGES)["logits"]), reused(IMAGES), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        target(IMAGES)["features"], load_target(old, feature_layer="conv")(IMAGES / 2)["features"], rtol=1e-4, atol=1e-5
    )
    assert np.abs(_gradient(target)).max() > 0
    np.testing.assert_allclose(target.layer_outputs(IMAGES, ["conv"])["conv"], target(IMAGES)["features"])


def test_a_layer_used_twice_gives_its_last_output():
    images = keras.Input((SIZE, SIZE, 3))
    conv = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    shared = keras.Sequential([keras.Input((SIZE, SIZE, 3)), conv], name="shared")
    x = shared(shared(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, _scores()(layers.Flatten()(conv(x))))
    expected = conv(shared(shared(IMAGES / 255)))
    for name in ("conv",):
        np.testing.assert_allclose(
            load_target(model, feature_layer=name)(IMAGES)["features"], expected, rtol=1e-4, atol=1e-5
        )
    inside = load_target(model, feature_layer="shared/conv")
    np.testing.assert_allclose(inside(IMAGES)["features"], shared(shared(IMAGES / 255)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(inside(IMAGES)["logits"], model(IMAGES), rtol=1e-4, atol=1e-4)


def test_a_feature_layer_may_lie_in_a_model_inside():
    images, x = _trunk()
    whole = keras.Model(images, _scores("softmax")(x), name="whole")
    outer = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(0.5), whole, layers.Reshape((CLASSES,))])
    target = load_target(outer, feature_layer="conv")
    alone = load_target(whole, feature_layer="conv")
    for key, value in alone(IMAGES / 2).items():
        np.testing.assert_allclose(target(IMAGES)[key], value, rtol=1e-4, atol=1e-5)
    assert np.abs(_gradient(target)).max() > 0
    with pytest.raises(TargetError, match=r"no layer 'top'.*whole/conv"):
        load_target(outer, feature_layer="top")


DRAWS = {
    "Dropout": lambda x: layers.Dropout(0.5, name="drawn")(x, training=True),
    "GaussianNoise": lambda x: layers.GaussianNoise(0.1, name="drawn")(x, training=True),
    "Lambda": lambda x: layers.Lambda(lambda v: v + tf.random.normal(tf.shape(v)), name="drawn")(x),
    "Sequential": lambda x: keras.Sequential([layers.Dropout(0.5, name="drawn")])(x, training=True),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_what_draws_anew_each_time_is_named(draw):
    for activation in (None, "softmax"):
        head = _scores(activation)
        model = _with(lambda x, head=head: head(draw(x)))
        with pytest.raises(TargetError, match=r"own answers differently twice.*drawn"):
            load_target(model)
    load_target(_with(lambda x: _scores()(layers.Dropout(0.5)(x))))


def test_what_depends_on_the_batch_is_refused():
    with pytest.raises(TargetError, match="beside other images"):
        load_target(_with(lambda x: _scores()(x - tf.reduce_mean(x, 0, keepdims=True))))


INPUTS = {
    "channels first": keras.Input((3, SIZE, SIZE)),
    "uint8": keras.Input((SIZE, SIZE, 3), dtype="uint8"),
    "float16": keras.Input((SIZE, SIZE, 3), dtype="float16"),
    "batches of one": keras.Input((SIZE, SIZE, 3), batch_size=1),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_of_other_kinds_are_served(kind):
    images = INPUTS[kind]
    x = layers.Permute((2, 3, 1))(images) if kind == "channels first" else tf.cast(images, tf.float32)
    _, x = _trunk(x)
    model = keras.Model(images, _scores("softmax")(x))
    target = load_target(model, feature_layer="conv")
    whole = np.round(IMAGES)
    given = whole.transpose(0, 3, 1, 2) if kind == "channels first" else whole
    expected = np.concatenate([model(tf.cast(image[None], images.dtype)) for image in given])
    np.testing.assert_allclose(tf.nn.softmax(target(whole)["logits"]), expected, rtol=1e-2, atol=1e-3)
    assert np.abs(_gradient(target)).max() > 0


def test_one_of_several_outputs_is_asked_for():
    images, x = _trunk()
    scores = _scores()(x)
    for outputs in ([scores, x], {"scores": scores, "other": x}):
        with pytest.raises(TargetError, match="expected one output"):
            load_target(keras.Model(images, outputs))
    both = keras.Model({"image": images}, {"logits": scores, "other": x})
    np.testing.assert_allclose(load_target(both)(IMAGES)["logits"], both({"image": IMAGES})["logits"], rtol=1e-5)


def test_what_has_no_gradient_is_refused():
    with pytest.raises(TargetError, match="no gradient"):
        load_target(_with(lambda x: _scores()(tf.stop_gradient(x))))


@pytest.mark.parametrize("name", ["my model (1)", "modèle", "-a", "1a", "", "a b/c", "_x"])
def test_any_name_works(name):
    images, x = _trunk()
    model = keras.Model(images, _scores(name="top/scores")(x), name=name)
    target = load_target(model)
    assert target.name == name or not name
    compiled = tf.function(lambda images: target(images)["logits"])(IMAGES)
    np.testing.assert_allclose(compiled, target(IMAGES)["logits"], rtol=1e-4, atol=1e-4)
