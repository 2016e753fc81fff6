"""GuidedDenoiser: its losses by hand, what it asks the target, and what it may change."""

from __future__ import annotations

import functools
from typing import Optional

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.data.fashion_mnist import load_fashion_mnist
from hgd_tf.errors import HgdError, TargetError
from hgd_tf.foundation.pixel_range import PixelRangeWarning
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import GUIDANCES, Batch, Guidance, GuidedDenoiser, Term, parse_guidance
from hgd_tf.targets import Target

ATTACKS = ("fgsm", "ifgsm4", "unused")
SUMS = ("feature+logits", "pixel+label+logits")
COMPARED = {"feature": "features", "logits": "logits"}
every_guidance = pytest.mark.parametrize("guidance", [*GUIDANCES, *SUMS])


@pytest.fixture(scope="module")
def target():
    return small_target()


def small_target(image_size: int = 28) -> Target:
    """A random classifier into 10 classes, with batch statistics that training mode would move."""
    keras.utils.set_random_seed(1)
    images = keras.Input((image_size, image_size, 1))
    x = keras.layers.Conv2D(8, 5, strides=3, use_bias=False)(keras.layers.Rescaling(1 / 127.5, -1.0)(images))
    features = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(features))
    return Target(keras.Model(images, {"features": features, "logits": logits}), name="small")


class Spy:
    """Passes images on to a target and keeps them."""

    def __init__(self, target):
        self.target = target
        self.image_size = target.image_size
        self.network = target.network
        self.seen = []

    def __call__(self, images):
        self.seen.append(np.asarray(images))
        return self.target(images)


class RecordingSGD(keras.optimizers.SGD):
    """Remembers the gradients that it is given, with their variables."""

    def compute_gradients(self, loss, var_list, tape=None):
        self.recorded = super().compute_gradients(loss, var_list, tape)
        return self.recorded


def small_denoiser() -> keras.Model:
    """Two convolutions and a batch normalization: quick where it only matters that there is a denoiser.

    One network for all tests, with its first weights at each call.
    """
    model, weights = built_denoiser()
    model.set_weights(weights)
    return model


@functools.cache
def built_denoiser() -> tuple[keras.Model, list[np.ndarray]]:
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(3, 3, padding="same")(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    noise = keras.layers.Rescaling(100.0)(keras.layers.Conv2D(1, 3, padding="same")(x))
    model = keras.Model(images, keras.layers.Add()([images, noise]))
    return model, model.get_weights()


@functools.cache
def fashion_images():
    return load_fashion_mnist().test


def batch_of(count: int, first: int = 0) -> Batch:
    """Real images beside noisy ones; the attacks' numbers alternate."""
    images, labels = fashion_images()
    chosen = slice(first, first + count)
    clean = images[chosen].astype(np.float32)
    noise = np.random.default_rng(first).integers(-40, 40, clean.shape)
    attacked = np.clip(clean + noise, 0, 255).astype(np.float32)
    attack = np.arange(count, dtype=np.int64) % 2
    return Batch(*(tf.constant(array) for array in (attacked, clean, labels[chosen], attack)))


def compiled(denoiser, target, guidance: str, optimizer: Optional[keras.optimizers.Optimizer] = None):
    model = GuidedDenoiser(denoiser, target, parse_guidance(guidance), ATTACKS)
    model.compile(optimizer or keras.optimizers.Adam(0.01))
    return model


def loss_by_hand(guidance: str, target, denoised, batch: Batch) -> float:
    """Section 3 with NumPy, in float64; of a sum, the sum of losses."""
    if names := names_in(guidance):
        return sum(loss_by_hand(name, target, denoised, batch) for name in names)
    clean, denoised = np.asarray(batch.clean, np.float64), np.asarray(denoised, np.float64)
    if guidance == "pixel":
        return np.mean(np.abs(denoised - clean)) / 255
    restored = target(denoised)
    if guidance == "label":
        logits = restored["logits"].numpy().astype(np.float64)
        of_label = logits[np.arange(len(logits)), batch.label.numpy()]
        return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - of_label)
    wanted = target(clean)
    if guidance == "distillation":
        p, q = (probabilities(responses["logits"].numpy().astype(np.float64)) for responses in (wanted, restored))
        return np.mean(np.sum(p * np.log(p / q), axis=1))
    name = COMPARED[guidance]
    return np.mean(np.abs(restored[name].numpy().astype(np.float64) - wanted[name].numpy()))


def names_in(guidance: str) -> list[str]:
    """Those that a sum is of; none, where it is one of its own."""
    return guidance.replace("_", "+").split("+") if "+" in guidance or "_" in guidance else []


def probabilities(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def total_by_hand(guidance: str, target, denoised: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The same, differentiably."""
    if names := names_in(guidance):
        return tf.add_n([total_by_hand(name, target, denoised, batch) for name in names])
    if guidance == "pixel":
        return tf.reduce_mean(tf.abs(denoised - batch.clean)) / 255
    restored, wanted = target(denoised), target(batch.clean)
    if guidance == "label":
        log_probabilities = tf.nn.log_softmax(restored["logits"])
        return -tf.reduce_mean(tf.gather(log_probabilities, batch.label, batch_dims=1))
    if guidance == "distillation":
        log_p, log_q = (tf.nn.log_softmax(responses["logits"]) for responses in (wanted, restored))
        return tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1))
    return tf.reduce_mean(tf.abs(restored[COMPARED[guidance]] - wanted[COMPARED[guidance]]))


def test_there_are_the_papers_four_guidances_and_distillation_and_they_add():
    assert set(GUIDANCES) == {"pixel", "feature", "logits", "label", "distillation", "logits_distillation"}
    both = GUIDANCES["feature"] + GUIDANCES["logits"]
    assert both == parse_guidance("feature+logits") == parse_guidance("feature_logits")
    assert (both.responses, both.uses_labels) == (("features", "logits"), False)
    assert parse_guidance("label+pixel").uses_labels
    assert GUIDANCES["logits_distillation"] == parse_guidance("logits+distillation")


@pytest.mark.parametrize("text", ["lgd", "feature+lgd", "logits+", ""])
def test_an_unknown_name_is_an_error_that_lists_the_known(text):
    with pytest.raises(
        HgdError, match=f"expected a guidance of pixel, feature, .*received {text!r}".replace("+", r"\+")
    ):
        parse_guidance(text)


def test_a_guidance_of_ones_own_guides(target):
    own = Guidance((Term("features", keras.losses.MeanSquaredError), Term("image")))
    denoiser, batch = small_denoiser(), batch_of(6)
    denoised = denoiser(batch.attacked, training=True)
    differences = (target(denoised)["features"] - target(batch.clean)["features"], (denoised - batch.clean) / 255)
    model = GuidedDenoiser(denoiser, target, own, ATTACKS)
    model.compile(keras.optimizers.SGD(0.0))
    expected = np.mean(np.square(differences[0])) + np.mean(np.abs(differences[1]))
    assert float(model.train_step(batch)["loss"]) == pytest.approx(expected, rel=1e-5)


def test_what_the_target_does_not_give_cannot_guide(target):
    with pytest.raises(TargetError, match="needs the aux_logits of small, received image, features, logits"):
        GuidedDenoiser(small_denoiser(), target, Guidance((Term("aux_logits"),)), ATTACKS)
    with pytest.raises(ValueError, match="at least one term"):
        Guidance(())


@every_guidance
def test_a_training_step_has_the_papers_loss_and_follows_its_gradient_in_the_denoiser_alone(guidance, target):
    denoiser, batch, rate = small_denoiser(), batch_of(12), 0.5
    before = [variable.numpy() for variable in denoiser.trainable_variables]
    with tf.GradientTape() as tape:
        denoised = denoiser(batch.attacked, training=True)
        total = total_by_hand(guidance, target, denoised, batch)
    gradients = tape.gradient(total, denoiser.trainable_variables)
    expected = loss_by_hand(guidance, target, denoised, batch)
    optimizer = RecordingSGD(rate)
    logs = compiled(denoiser, target, guidance, optimizer).train_step(batch)
    assert expected > 0.01
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-5)
    largest = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients)
    assert largest > 1e-3
    for variable, old, gradient in zip(denoiser.trainable_variables, before, gradients):
        np.testing.assert_allclose(variable.numpy(), old - rate * gradient.numpy(), atol=1e-5 * largest, rtol=1e-6)
    recorded, variables = zip(*optimizer.recorded)
    assert [variable.ref() for variable in variables] == [v.ref() for v in denoiser.trainable_variables]
    assert all(gradient is not None for gradient in recorded)
    target_refs = {variable.ref() for variable in target.network.variables}
    assert len(target_refs) == 7
    assert not target_refs & {variable.ref() for variable in variables}


@every_guidance
def test_validation_has_the_papers_loss_and_accuracy_by_attack_and_overall_over_uneven_batches(guidance, target):
    denoiser, batches = small_denoiser(), (batch_of(40), batch_of(25, first=40))
    denoiser(batch_of(30).attacked, training=True)  # so that moving statistics and the batch's differ from the start's
    model = compiled(denoiser, target, guidance)
    losses, right, attack = [], [], []
    for batch in batches:
        logs = model.test_step(batch)
        denoised = denoiser(batch.attacked, training=False)
        losses.append(loss_by_hand(guidance, target, denoised, batch))
        right.append(np.argmax(target(denoised)["logits"].numpy(), axis=1) == batch.label.numpy())
        attack.append(batch.attack.numpy())
    assert float(logs["loss"]) == pytest.approx((40 * losses[0] + 25 * losses[1]) / 65, rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    right, attack = np.concatenate(right), np.concatenate(attack)
    assert 0 < right.mean() < 1
    assert right[attack == 0].mean() != right[attack == 1].mean()
    assert float(logs["accuracy"]) == pytest.approx(right.mean())
    assert float(logs["accuracy_fgsm"]) == pytest.approx(right[attack == 0].mean())
    assert float(logs["accuracy_ifgsm4"]) == pytest.approx(right[attack == 1].mean())
    assert float(logs["accuracy_unused"]) == 0.0


def test_the_denoiser_is_trained_in_training_mode_and_tested_in_inference_mode(target):
    denoiser, batch = small_denoiser(), batch_of(6)
    model = compiled(denoiser, target, "pixel", keras.optimizers.SGD(0.0))
    modes = {
        training: loss_by_hand("pixel", target, denoiser(batch.attacked, training=training), batch)
        for training in (False, True)
    }
    assert modes[True] != pytest.approx(modes[False], rel=1e-3)
    fresh = keras.models.clone_model(denoiser)
    fresh.set_weights(denoiser.get_weights())
    expected = loss_by_hand("pixel", target, fresh(batch.attacked, training=False), batch)
    assert float(model.test_step(batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    model.reset_metrics()
    assert float(model.train_step(batch)["loss"]) == pytest.approx(modes[True], rel=1e-5)


def test_frozen_statistics_are_used_and_kept_in_training(target):
    denoiser, batch = small_denoiser(), batch_of(6)
    statistics = [variable.numpy() for variable in denoiser.non_trainable_variables]
    expected = loss_by_hand("pixel", target, denoiser(batch.attacked, training=False), batch)
    model = GuidedDenoiser(denoiser, target, GUIDANCES["pixel"], ATTACKS, frozen_statistics=True)
    model.compile(keras.optimizers.SGD(0.1))
    gamma = denoiser.trainable_variables[2].numpy()
    assert float(model.train_step(batch)["loss"]) == pytest.approx(expected, rel=1e-5)
    assert np.any(denoiser.trainable_variables[2].numpy() != gamma)
    for found, before in zip(denoiser.non_trainable_variables, statistics):
        np.testing.assert_array_equal(found, before)


@every_guidance
def test_training_never_changes_the_target_but_the_denoiser(guidance, target):
    denoiser, batch = small_denoiser(), batch_of(8)
    frozen = [weight.copy() for weight in target.network.get_weights()]
    trained, moving = (
        [v.numpy() for v in which] for which in (denoiser.trainable_variables, moving_statistics(denoiser))
    )
    model = compiled(denoiser, target, guidance, keras.optimizers.SGD(0.1))
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(3), epochs=1, verbose=0)
    for now, before in zip(target.network.get_weights(), frozen):
        np.testing.assert_array_equal(now, before)
    assert all(np.any(now.numpy() != before) for now, before in zip(moving_statistics(denoiser), moving))
    changed = [np.any(now.numpy() != before) for now, before in zip(denoiser.trainable_variables, trained)]
    assert all(changed)


def moving_statistics(model: keras.Model) -> list[tf.Variable]:
    return [variable for variable in model.non_trainable_variables if "moving" in variable.name]


@pytest.mark.parametrize(
    "guidance, expected",
    [
        ("pixel", 0),
        ("label", 1),
        ("pixel+label", 1),
        *((name, 2) for name in (*GUIDANCES, *SUMS) if name not in ("pixel", "label")),
    ],
)
def test_a_training_step_asks_the_target_no_more_than_is_compared(guidance, expected, target):
    denoiser, batch, spy = small_denoiser(), batch_of(4), Spy(target)
    denoised = denoiser(batch.attacked, training=True).numpy()
    compiled(denoiser, spy, guidance).train_step(batch)
    assert len(spy.seen) == expected
    asked = {"pixel": [], "label": [denoised], "pixel+label": [denoised]}.get(guidance, [batch.clean.numpy(), denoised])
    for seen, images in zip(spy.seen, asked):
        np.testing.assert_allclose(seen, images, atol=1e-3)


def test_a_guide_answers_in_training_and_the_target_in_validation(target):
    spies, batch = (Spy(target), Spy(target)), batch_of(4)
    model = GuidedDenoiser(small_denoiser(), spies[0], GUIDANCES["logits"], ATTACKS, guide=spies[1])
    model.compile(keras.optimizers.Adam(0.01))
    model.train_step(batch)
    assert [len(spy.seen) for spy in spies] == [0, 2]
    model.test_step(batch)
    assert [len(spy.seen) for spy in spies] == [3, 2]  # clean and denoised for the loss, denoised for the accuracy


def test_pairs_are_brought_to_the_targets_size_before_they_are_denoised():
    target = Spy(small_target(32))
    denoiser, batch = small_denoiser(), batch_of(4)
    clean, attacked = (tf.image.resize(images, (32, 32), antialias=True) for images in (batch.clean, batch.attacked))
    denoised = denoiser(attacked, training=True).numpy()
    compiled(denoiser, target, "logits").train_step(batch)
    for seen, images in zip(target.seen, [clean.numpy(), denoised]):
        np.testing.assert_allclose(seen, images, atol=1e-3)


def arrays_of(batch: Batch) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """As a user has them: bytes, and labels in a column."""
    attacked, clean = (images.numpy().astype(np.uint8) for images in (batch.attacked, batch.clean))
    return attacked, (clean, batch.label.numpy().astype(np.int32)[:, np.newaxis])


@pytest.mark.parametrize("guidance", ["pixel+label", "feature"])
def test_arrays_and_datasets_of_pairs_train_like_batches_of_all_that_is_known(guidance, target):
    attacked, y = arrays_of(batch_of(10))
    pairs = tf.data.Dataset.from_tensor_slices((attacked, y)).batch(5)
    fits = [
        lambda model: model.fit(attacked, y, batch_size=5, shuffle=False, verbose=0),
        lambda model: model.fit(x=pairs, verbose=0),
        lambda model: model.fit(tf.data.Dataset.from_tensor_slices(batch_of(10)).batch(5), verbose=0),
    ]
    losses = []
    for fit in fits:
        model = GuidedDenoiser(small_denoiser(), target, guidance)
        model.compile()
        losses.append(fit(model).history["loss"])
    assert losses[0] == pytest.approx(losses[2], rel=1e-4) and losses[1] == pytest.approx(losses[2], rel=1e-4)


def test_evaluation_takes_labels_or_the_targets_own_answers_to_the_clean_images(target):
    attacked, (clean, labels) = arrays_of(batch_of(30))
    model = GuidedDenoiser(small_denoiser(), target, "logits", ATTACKS)
    model.compile("sgd")
    seen, answers = (np.argmax(target(images)["logits"], axis=1) for images in (model(attacked), clean))
    for y, expected in (((clean, labels), labels[:, 0]), (clean, answers)):
        found = model.evaluate(attacked, y, batch_size=7, verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(np.mean(seen == expected))
    assert np.mean(seen == labels[:, 0]) != np.mean(seen == answers)
    history = model.fit(attacked, clean, validation_split=0.5, verbose=0).history
    assert set(history) == {"loss", "val_loss", "val_accuracy", *(f"val_accuracy_{name}" for name in ATTACKS)}


def test_what_does_not_belong_together_is_an_error_that_names_what_was_expected(target):
    attacked, (clean, labels) = arrays_of(batch_of(4))
    model = GuidedDenoiser(small_denoiser(), target, "label")
    model.compile()
    with pytest.raises(ValueError, match=r"needs the true classes: expected y=\(clean, labels\), received y=clean"):
        model.fit(attacked, clean, verbose=0)
    with pytest.raises(ValueError, match="no sample weights"):
        model.fit(attacked, (clean, labels), sample_weight=np.ones(4), verbose=0)
    with pytest.warns(PixelRangeWarning, match="received values from 0 to 1"):
        model.fit(attacked / attacked.max(), (clean, labels), verbose=0)
    with pytest.raises(HgdError, match="expected a guidance of pixel"):
        GuidedDenoiser(small_denoiser(), target, "lgd")


def test_only_the_denoisers_variables_are_trainable(target):
    denoiser = small_denoiser()
    model = compiled(denoiser, target, "logits")
    model.train_step(batch_of(2))
    assert [v.ref() for v in model.trainable_variables] == [v.ref() for v in denoiser.trainable_variables]
    assert len(model.trainable_variables) == 6
    assert not target.trainable_variables


def test_metrics_start_anew_after_a_reset(target):
    model, batch = compiled(small_denoiser(), target, "pixel"), batch_of(6)
    first = {name: float(value) for name, value in model.test_step(batch).items()}
    model.test_step(batch_of(20, first=50))
    model.reset_metrics()
    assert {name: float(value) for name, value in model.test_step(batch).items()} == pytest.approx(first, rel=1e-5)
    assert list(first) == ["loss", "accuracy", "accuracy_fgsm", "accuracy_ifgsm4", "accuracy_unused"]


def test_calling_it_denoises_in_inference_mode(target):
    denoiser, batch = small_denoiser(), batch_of(4)
    model = compiled(denoiser, target, "feature")
    expected = denoiser(batch.attacked, training=False)
    np.testing.assert_allclose(model(batch.attacked), expected, rtol=1e-5, atol=1e-3)
