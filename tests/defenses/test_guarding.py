"""A defence as one more Keras model in the user's own program, of Keras 2 or 3."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hgd_tf import guard
from hgd_tf.defenses import Defense
from hgd_tf.denoisers import gaussian, median
from hgd_tf.errors import RunError, TargetError
from hgd_tf.foundation.stack import has_keras_3, import_keras_3, keras
from hgd_tf.targets import load_target

SIZE, CLASSES = 16, 4
PIXELS = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 1)).astype(np.uint8)
KINDS = {"Keras 2": keras, **({"Keras 3": import_keras_3()} if has_keras_3() else {})}
RANGES = [(0, 255), (0, 1), (-1, 1)]


@pytest.fixture(params=KINDS.values(), ids=KINDS, scope="module")
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def denoiser() -> keras.Model:
    """With moving statistics and a random convolution."""
    images = keras.Input((None, None, 1))
    x = keras.layers.BatchNormalization(moving_mean_initializer="ones")(images)
    return keras.Model(images, keras.layers.Conv2D(1, 3, padding="same")(x), name="small")


def _classifier(kind, shape=(SIZE, SIZE, 1), activation="softmax", black=0.0, white=255.0, **options):
    """Whose answers tell images apart in whichever range it takes them."""
    layers = kind.layers
    images = kind.Input(shape, **options)
    x = layers.Rescaling(2 / (white - black), offset=-1 - 2 * black / (white - black))(images)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    return kind.Model(images, layers.Dense(CLASSES, activation)(x), name="own")


def _scaled(pixels, black, white) -> np.ndarray:
    return (pixels / 255 * (white - black) + black).astype(np.float32)


@pytest.mark.parametrize(("black", "white"), RANGES)
def test_it_answers_as_the_defense_does_to_images_in_the_classifiers_range(kind, denoiser, black, white):
    classifier = _classifier(kind, black=black, white=white)
    guarded = guard(classifier, denoiser, input_range=(black, white))
    given = guarded.predict(_scaled(PIXELS, black, white), verbose=0)
    defense = Defense(denoiser, load_target(classifier, input_range=(black, white)))
    np.testing.assert_allclose(given, defense(PIXELS)["probabilities"], rtol=0, atol=1e-5)
    assert np.abs(given - classifier.predict(_scaled(PIXELS, black, white), verbose=0)).max() > 1e-3


def test_larger_images_are_resized_first(kind, denoiser):
    classifier = _classifier(kind, activation=None)
    larger = PIXELS.repeat(3, axis=1)[:, :40].repeat(2, axis=2)
    expected = Defense(denoiser, load_target(classifier))(larger)["logits"]
    np.testing.assert_allclose(guard(classifier, denoiser).predict(larger, verbose=0), expected, rtol=0, atol=1e-5)


def test_it_is_compiled_and_evaluated_as_the_classifier_is(kind, denoiser):
    guarded = guard(_classifier(kind), denoiser)
    assert isinstance(guarded, kind.Model)
    guarded.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    predicted = guarded.predict(PIXELS, verbose=0).argmax(axis=-1)
    assert guarded.evaluate(PIXELS, predicted, verbose=0)[1] == 1


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving")
def test_its_file_answers_the_same(kind, denoiser, tmp_path, ending):
    guarded = guard(_classifier(kind), denoiser)
    expected = guarded.predict(PIXELS, verbose=0)
    guarded.save(tmp_path / f"guarded.{ending}")
    loaded = kind.models.load_model(tmp_path / f"guarded.{ending}")
    np.testing.assert_array_equal(loaded.predict(PIXELS, verbose=0), expected)


READ = """
import sys
import numpy as np
{imports}
model = keras.models.load_model(sys.argv[1])
print(model.predict(np.zeros((1, 16, 16, 1)), verbose=0).shape)
"""


def test_a_process_of_its_own_reads_the_file(kind, tmp_path):
    guard(_classifier(kind), median(1)).save(tmp_path / "guarded.keras")
    its_own = "import tf_keras as keras" if has_keras_3() else "from tensorflow import keras"
    imports = "import keras; from hgd_tf import guard" if kind is KINDS.get("Keras 3") else its_own
    command = [sys.executable, "-c", READ.format(imports=imports), tmp_path / "guarded.keras"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.stdout.split("\n")[-2:] == [f"(1, {CLASSES})", ""], done.stderr


def test_the_classifier_stays_trainable_and_the_denoiser_is_not(kind, denoiser):
    classifier = _classifier(kind)
    count = len(classifier.trainable_weights)
    guarded = guard(classifier, denoiser)
    assert len(classifier.trainable_weights) == len(guarded.trainable_weights) == count > 0


@pytest.mark.parametrize("options", [{"dtype": "uint8"}, {"batch_size": 2}], ids=str)
def test_a_classifier_of_whole_numbers_or_of_a_fixed_batch_gets_what_the_denoiser_gives(kind, denoiser, options):
    classifier = _classifier(kind, **options)
    expected = Defense(denoiser, load_target(classifier))(PIXELS)["probabilities"]
    np.testing.assert_allclose(guard(classifier, denoiser).predict(PIXELS, verbose=0), expected, rtol=0, atol=1e-5)


def test_channels_may_come_first(kind):
    classifier = _classifier(kind, (3, SIZE, SIZE))
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3))
    expected = Defense(gaussian(3), load_target(classifier))(images)["probabilities"]
    given = guard(classifier, gaussian(3)).predict(images.transpose(0, 3, 1, 2), verbose=0)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


def test_names_of_the_package_may_be_given():
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1))
    guarded = guard("mini_vgg", "mini_inception_lgd")
    assert guarded.predict(images, verbose=0).shape == (2, 10)


@pytest.mark.skipif(not has_keras_3(), reason="Keras 3 is on the stack of Python 3.12 and newer")
def test_a_subclass_of_keras_3_may_be_guarded_once_it_was_called():
    module = KINDS["Keras 3"]

    class Own(module.Model):
        def __init__(self):
            super().__init__(name="own")
            self.flatten, self.scores = module.layers.Flatten(), module.layers.Dense(CLASSES)

        def call(self, images):
            return self.scores(self.flatten(images))

    model = Own()
    with pytest.raises(TargetError, match="own: expected a model that was built on images"):
        guard(model, median(1))
    model(PIXELS.astype(np.float32))
    assert guard(model, median(1)).predict(PIXELS, verbose=0).shape == (len(PIXELS), CLASSES)


REFUSED = {
    "another number of channels": (lambda own: guard(own, median(3)), "the denoiser takes 3 channels, own takes 1"),
    "no denoiser": (lambda own: guard(own, 5), "denoiser: expected the name of a shipped defence, .* received int"),
    "no classifier": (lambda own: guard(5, median(1)), "expected a Keras model or the name of a .* received 5"),
    "an unknown name": (lambda own: guard("own", median(1)), "expected a Keras model or the name .* received 'own'"),
    "no range": (lambda own: guard(own, median(1), input_range=1), "input_range: expected two numbers, .* received 1"),
    "an empty range": (lambda own: guard(own, median(1), input_range=(1, 1)), r"two numbers that differ, .* \(1, 1\)"),
    "unbuilt": (lambda own: guard(keras.Sequential(name="new"), median(1)), "new: expected a built functional or"),
}


@pytest.mark.parametrize(("attempt", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_said(kind, attempt, message):
    with pytest.raises(TargetError, match=message):
        attempt(_classifier(kind))


def test_a_denoiser_of_another_shape_is_refused(kind):
    images = keras.Input((None, None, 1))
    smaller = keras.Model(images, keras.layers.MaxPooling2D()(images), name="smaller")
    with pytest.raises(TargetError, match="own cannot be put behind smaller"):
        guard(_classifier(kind), smaller)


def test_an_unknown_defence_is_named_with_those_that_there_are(kind):
    with pytest.raises(RunError, match=r"nowhere holds no defense: .* mini_inception_lgd"):
        guard(_classifier(kind), "nowhere")
