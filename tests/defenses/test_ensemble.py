"""Several denoisers and targets as one defense: means, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_set import FEW_CONVOLUTIONS

from hgd_tf.defenses import Defense
from hgd_tf.defenses.ensemble import Classifier, Ensemble, Flow
from hgd_tf.denoisers import dunet, median
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, load_target


def random_dunet(seed: int) -> keras.Model:
    """A narrow denoiser that changes images, by weights around its initial ones."""
    denoiser = dunet(1 / 32, 1, **FEW_CONVOLUTIONS)
    generator = np.random.default_rng(seed)
    denoiser.set_weights([weights + generator.normal(0, 0.05, weights.shape) for weights in denoiser.get_weights()])
    return denoiser


def tiny_target(size: int = 20, classes: int = 10, channels: int = 1) -> Target:
    keras.utils.set_random_seed(size)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((size, size, channels)),
            layers.Conv2D(4, 3, activation="relu", name="top"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes, activation="softmax", kernel_initializer="random_normal"),
        ],
        name=f"tiny{size}",
    )
    return load_target(model, feature_layer="top", input_range=(-1, 1))


@pytest.fixture(scope="module")
def denoisers() -> list[keras.Model]:
    return [random_dunet(0), random_dunet(1)]


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    return [load_target("mini_vgg"), load_target("mini_resnet"), tiny_target()]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)


def denoised(denoiser: keras.Model, images: np.ndarray) -> np.ndarray:
    return denoiser(images.astype(np.float32), training=False).numpy()


def assert_equal(actual, expected) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_one_denoiser_and_one_target_are_a_defense(denoisers, targets, images):
    defense = Defense(denoisers[0], targets[0])
    for alike in (Flow(denoisers[:1], targets[:1], "A->X"), Ensemble([defense]), *defense.flows):
        outputs = alike(images)
        assert isinstance(alike, Classifier)
        assert (alike.channels, alike.classes, alike.sizes) == (1, 10, (28,))
        for key in ("logits", "probabilities", "classes"):
            assert_equal(outputs[key], defense(images)[key])


def test_several_denoisers_give_the_mean_of_their_images(denoisers, targets, images):
    one, other = (denoised(denoiser, images) for denoiser in denoisers)
    assert np.abs(one - other).max() > 1
    flow = Flow(denoisers, targets[:1], "A&B->X")
    assert_equal(flow.denoise(images), (one + other) / 2)
    assert_equal(flow(images)["logits"], targets[0]((one + other) / 2)["logits"])


def test_several_targets_give_the_mean_of_their_logits_on_the_same_denoised_images(denoisers, targets, images):
    given = denoised(denoisers[0], images)
    one, other = (target(given)["logits"].numpy() for target in targets[:2])
    assert np.abs(one - other).max() > 0.1
    flow = Flow(denoisers[:1], targets[:2], "A->X&Y")
    assert_equal(flow(images)["logits"], (one + other) / 2)


def test_targets_of_other_sizes_are_denoised_for_at_their_size(denoisers, targets, images):
    """Given in every order, at every size of the images."""
    defenses = [Defense(denoisers[0], target) for target in targets]
    for some in (images, np.repeat(images, 2, axis=2)):
        expected = np.mean([defense(some)["logits"] for defense in defenses], axis=0)
        for order in (targets, targets[::-1]):
            flow = Flow(denoisers[:1], order, "A->X&Y&Z")
            assert_equal(flow(some)["logits"], expected)
            assert flow.denoise(some).shape[1] == order[0].image_size


def test_without_denoisers_the_targets_are_undefended(targets, images):
    expected = np.mean([target(images)["logits"] for target in targets], axis=0)
    flow = Flow([], targets, "X&Y&Z")
    assert_equal(flow(images)["logits"], expected)
    assert_equal(flow.denoise(images), images)


def test_an_ensemble_gives_every_target_the_same_weight(denoisers, targets, images):
    flows = [Flow(denoisers, targets[:2], "A&B->X&Y"), Flow([], targets[2:], "Z")]
    given = np.mean([denoised(denoiser, images) for denoiser in denoisers], axis=0)
    every = [targets[0](given), targets[1](given), targets[2](images)]
    expected = np.mean([outputs["logits"] for outputs in every], axis=0)
    outputs = Ensemble(flows)(images)
    assert set(outputs) == {"logits", "probabilities", "classes"}
    assert_equal(outputs["logits"], expected)
    assert_equal(outputs["probabilities"], np.exp(expected) / np.exp(expected).sum(axis=-1, keepdims=True))
    np.testing.assert_array_equal(outputs["classes"], expected.argmax(axis=-1))
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in outputs.items()}
    assert shapes == {
        "logits": ((3, 10), tf.float32),
        "probabilities": ((3, 10), tf.float32),
        "classes": ((3,), tf.int64),
    }


def test_an_ensembles_answer_is_the_weighted_mean_of_its_flows(denoisers, targets, images):
    """Each of which gives its denoised images beside, at the size of its first target."""
    flows = [Flow(denoisers, targets[:1], "A&B->X", 0.4), Flow(denoisers[:1], targets[::-1], "A->Z&Y&X", 0.6)]
    ensemble = Ensemble(flows)
    assert (ensemble.flows, ensemble.channels, ensemble.classes, ensemble.sizes) == (tuple(flows), 1, 10, (20, 28))
    answers = [flow(images) for flow in flows]
    assert [answer["denoised"].shape[1] for answer in answers] == [flow.image_size for flow in flows] == [28, 20]
    for flow, answer in zip(flows, answers):
        assert_equal(answer["denoised"], flow.denoise(images))
    outputs = ensemble(images)
    assert_equal(outputs["logits"], 0.4 * answers[0]["logits"] + 0.6 * answers[1]["logits"])
    for key, value in ensemble.mean(answers).items():
        assert_equal(outputs[key], value)


def test_the_same_flows_through_other_parts(denoisers, targets, images):
    ensemble = Ensemble([Flow(denoisers, targets[:1], "A&B->X", 0.4), Flow([], targets[1:], "Y&Z")])
    other = {denoisers[0]: denoisers[1], targets[0]: targets[1]}
    found = ensemble.with_parts(lambda part: other.get(part, part))
    assert [(flow.title, flow.weight) for flow in found.flows] == [("A&B->X", 0.4), ("Y&Z", 2)]
    expected = Ensemble([Flow([denoisers[1]] * 2, targets[1:2], "", 0.4), Flow([], targets[1:], "")])
    assert_equal(found(images)["logits"], expected(images)["logits"])


@pytest.mark.parametrize("weight", [0, -0.5, float("nan"), float("inf")])
def test_a_weight_is_a_positive_number(targets, weight):
    with pytest.raises(ValueError, match=f"X: weight: expected a positive number, received {weight}"):
        Flow([], targets, "X", weight)


def test_one_denoiser_may_serve_several_flows_and_answers_as_in_one(denoisers, targets, images):
    apart = Ensemble([Flow(denoisers[:1], [target], target.name) for target in targets])
    together = Ensemble([Flow(denoisers[:1], targets, "A->X&Y&Z")])
    assert_equal(apart(images)["logits"], together(images)["logits"])


def test_one_graph_serves_every_number_and_size_of_images(denoisers, targets, images):
    ensemble = Ensemble([Flow(denoisers, targets[:1], "A&B->X"), Flow([], targets[1:], "Y&Z")])
    graph = tf.function(ensemble, input_signature=[tf.TensorSpec((None, None, None, 1), tf.uint8)])
    for some in (images, images[:1, :13, :17], np.repeat(images, 2, axis=1)):
        assert_equal(graph(tf.constant(some))["logits"], ensemble(some)["logits"])
    assert graph.experimental_get_tracing_count() == 1


def test_its_variables_are_those_of_its_parts_once_each(denoisers, targets):
    ensemble = Ensemble([Flow(denoisers, targets[:1], "A&B->X"), Flow(denoisers[:1], targets[:2], "A->X&Y")])
    parts = [*denoisers, *targets[:2]]
    assert len(ensemble.variables) == sum(len(part.variables) for part in parts)


def test_what_does_not_fit_together_is_an_error_that_names_it(denoisers, targets):
    with pytest.raises(TargetError, match=r"A->X: expected at least one target, received none"):
        Flow(denoisers, [], "A->X")
    with pytest.raises(TargetError, match=r"ensemble: expected at least one target, received none"):
        Ensemble([])
    seven = tiny_target(21, classes=7)
    with pytest.raises(TargetError, match=r"X&Y: .*as many classes, received mini_vgg with 10 and tiny21 with 7"):
        Flow([], [targets[0], seven], "X&Y")
    with pytest.raises(TargetError, match=r"ensemble: expected targets of as many classes"):
        Ensemble([Flow([], targets[:1], "X"), Flow([], [seven], "Y")])
    colour = tiny_target(22, channels=3)
    with pytest.raises(TargetError, match=r"of as many channels, received mini_vgg with 1 and tiny22 with 3"):
        Flow([], [targets[0], colour], "X&Y")
    with pytest.raises(TargetError, match=r"the denoiser takes 1 channels, tiny22 takes 3"):
        Flow(denoisers[:1], [colour], "A->Y")
    with pytest.raises(TargetError, match=r"the denoiser takes 1 channels, tiny22 takes 3"):
        Flow([median(1), median(3)], [colour], "A&B->Y")
