"""Accuracy of a defense on clean, obliviously attacked, transferred and adaptively attacked images."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import METHODS, TEST_SETS, SignGradientAttack
from hgd_tf.crafting import AttackedSet, SetCrafter
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.defenses import Defense
from hgd_tf.evaluation.columns import ADAPTIVE_COLUMNS
from hgd_tf.targets import batch_size_for, resize_to

ADAPTIVE = METHODS["pgd20"]
PIXEL_MAX = 255.0


class TestSets(NamedTuple):
    """What every defence of a table is tested on.

    Attributes:
      clean: the test images.
      attacked: by column key, the stored sets (Table 1's WhiteTestSet and BlackTestSet).
      adaptive_images: how many of the first clean images the adaptive attack takes.
      seed: of the adaptive attack's random start.
    """

    clean: LabeledImages
    attacked: dict[str, AttackedSet]
    adaptive_images: int
    seed: int


class DefenseResult(NamedTuple):
    """What one defence does.

    Attributes:
      accuracy: by column key, a fraction; of a stored set, the mean over its attacks.
      per_attack: accuracy by "column key/attack".
      denoising_loss: by column key, mean |denoised - clean| in [0, 1] units (section 5.1).
    """

    accuracy: dict[str, float]
    per_attack: dict[str, float]
    denoising_loss: dict[str, float]


def craft_test_sets(sets: SetCrafter, clean: LabeledImages, adaptive_images: int) -> TestSets:
    """Crafts, or reads back, the four stored sets of Table 1."""
    attacked = {recipe.name: sets.attacked_set(recipe, clean) for recipe in TEST_SETS}
    return TestSets(clean, attacked, min(adaptive_images, len(clean.labels)), sets.seed)


def evaluate_defense(
    defense: Defense, test_sets: TestSets, on_batch: Callable[[int], None] = lambda count: None
) -> DefenseResult:
    """Tests one defence on everything.

    Args:
      defense: the denoiser and the target, or the target alone.
      test_sets: what to test on.
      on_batch: called with the number of images classified or attacked since the last call.
    """
    classify = _classifier(defense)
    clean = test_sets.clean
    accuracy, loss = {}, {}
    accuracy["clean"], loss["clean"] = _measure(classify, clean.images, clean, on_batch)
    per_attack = {}
    for key, attacked_set in test_sets.attacked.items():
        figures = [_measure(classify, attacked, clean, on_batch) for attacked in attacked_set.attacked]
        accuracy[key], loss[key] = (float(mean) for mean in np.mean(figures, axis=0))
        per_attack.update({f"{key}/{name}": right for name, (right, _) in zip(attacked_set.names, figures)})
    subset = clean.head(test_sets.adaptive_images)
    attack = SignGradientAttack([defense], label="true")
    for column in ADAPTIVE_COLUMNS:
        attacked = attack(
            subset.images,
            column.epsilon,
            ADAPTIVE,
            subset.labels,
            seed=test_sets.seed,
            batch_size=batch_size_for(defense.target.image_size),
            on_batch=on_batch,
        )
        accuracy[column.key], loss[column.key] = _measure(classify, attacked, subset)
    return DefenseResult(accuracy, per_attack, loss)


def image_count(test_sets: TestSets) -> int:
    """How many images `evaluate_defense` reports to `on_batch`."""
    stored = 1 + sum(len(attacked_set.names) for attacked_set in test_sets.attacked.values())
    return stored * len(test_sets.clean.labels) + len(ADAPTIVE_COLUMNS) * test_sets.adaptive_images


def _classifier(defense: Defense):
    """Compiled: attacked and clean uint8 images to classes and mean absolute differences in [0, 1] units, each (N,)."""

    @tf.function(reduce_retracing=True)
    def classify(attacked, clean):
        outputs = defense(attacked)
        difference = outputs["denoised"] - resize_to(clean, defense.target.image_size)
        return outputs["classes"], tf.reduce_mean(tf.abs(difference), axis=(1, 2, 3)) / PIXEL_MAX

    return classify


def _measure(
    classify, attacked: np.ndarray, clean: LabeledImages, on_batch: Callable[[int], None] = lambda count: None
) -> tuple[float, float]:
    """Accuracy and denoising loss."""
    right, loss = 0, 0.0
    batch_size = batch_size_for(attacked.shape[1])
    for first in range(0, len(attacked), batch_size):
        batch = slice(first, first + batch_size)
        classes, losses = classify(tf.constant(attacked[batch]), tf.constant(clean.images[batch]))
        right += int(np.sum(classes.numpy() == clean.labels[batch]))
        loss += float(np.sum(losses.numpy()))
        on_batch(len(losses))
    return right / len(attacked), loss / len(attacked)
