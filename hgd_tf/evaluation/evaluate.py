"""Accuracy of a defense on clean, obliviously attacked, transferred and adaptively attacked images."""

from __future__ import annotations

from typing import Callable, NamedTuple, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import METHODS, TEST_SETS, SignGradientAttack
from hgd_tf.crafting import AttackedSet, SetCrafter
from hgd_tf.data.fashion_mnist import LabeledImages
from hgd_tf.defenses import Defense
from hgd_tf.defenses.ensemble import Ensemble, as_ensemble
from hgd_tf.evaluation.columns import ADAPTIVE_COLUMNS
from hgd_tf.evaluation.flops import gflop_per_image
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
      denoising_loss: by column key, mean |denoised - clean| in [0, 1] units (section 5.1); of an ensemble, the mean
        over its flows, each at its first target's size.
      gflop: 10⁹ float operations an image, of denoisers and targets (`gflop_per_image`).
    """

    accuracy: dict[str, float]
    per_attack: dict[str, float]
    denoising_loss: dict[str, float]
    gflop: float


def craft_test_sets(sets: SetCrafter, clean: LabeledImages, adaptive_images: int) -> TestSets:
    """Crafts, or reads back, the four stored sets of Table 1."""
    attacked = {recipe.name: sets.attacked_set(recipe, clean) for recipe in TEST_SETS}
    return TestSets(clean, attacked, min(adaptive_images, len(clean.labels)), sets.seed)


def evaluate_defense(
    defense: Union[Defense, Ensemble], test_sets: TestSets, on_batch: Callable[[int], None] = lambda count: None
) -> DefenseResult:
    """Tests one defence on everything.

    The adaptive attack knows all of it: of an ensemble (Appendix C), it follows the gradient of the flows' mean logits
    through every denoiser and target.

    Args:
      defense: the denoiser and the target, or the target alone; or several of them, of any sizes.
      test_sets: what to test on.
      on_batch: called with the number of images classified or attacked since the last call.
    """
    ensemble = defense if isinstance(defense, Ensemble) else as_ensemble(defense, defense.target.name)
    classify = _classifier(ensemble)
    clean = test_sets.clean
    accuracy, loss = {}, {}
    accuracy["clean"], loss["clean"] = _measure(classify, clean.images, clean, on_batch)
    per_attack = {}
    for key, attacked_set in test_sets.attacked.items():
        figures = [_measure(classify, attacked, clean, on_batch) for attacked in attacked_set.attacked]
        accuracy[key], loss[key] = (float(mean) for mean in np.mean(figures, axis=0))
        per_attack.update({f"{key}/{name}": right for name, (right, _) in zip(attacked_set.names, figures)})
    subset = clean.head(test_sets.adaptive_images)
    attack = SignGradientAttack([ensemble], label="true")
    for column in ADAPTIVE_COLUMNS:
        attacked = attack(
            subset.images,
            column.epsilon,
            ADAPTIVE,
            subset.labels,
            seed=test_sets.seed,
            batch_size=_attacked_at_a_time(ensemble),
            on_batch=on_batch,
        )
        accuracy[column.key], loss[column.key] = _measure(classify, attacked, subset)
    return DefenseResult(accuracy, per_attack, loss, gflop_per_image(ensemble))


def image_count(test_sets: TestSets) -> int:
    """How many images `evaluate_defense` reports to `on_batch`."""
    stored = 1 + sum(len(attacked_set.names) for attacked_set in test_sets.attacked.values())
    return stored * len(test_sets.clean.labels) + len(ADAPTIVE_COLUMNS) * test_sets.adaptive_images


def _attacked_at_a_time(ensemble: Ensemble) -> int:
    """Images of a batch whose gradients fit into memory: every target's stay there until the step is done."""
    targets = sum(len(flow.targets) for flow in ensemble.flows)
    return max(1, batch_size_for(max(ensemble.sizes)) // targets)


def _classifier(ensemble: Ensemble):
    """Compiled: attacked and clean uint8 images to classes and mean absolute differences in [0, 1] units, each (N,)."""

    @tf.function(reduce_retracing=True)
    def classify(attacked, clean):
        denoised, outputs = ensemble.denoise_and_classify(ensemble.resized(attacked))
        differences = [
            tf.reduce_mean(tf.abs(image - resize_to(clean, flow.image_size)), axis=(1, 2, 3))
            for image, flow in zip(denoised, ensemble.flows)
        ]
        return outputs["classes"], tf.reduce_mean(differences, axis=0) / PIXEL_MAX

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
