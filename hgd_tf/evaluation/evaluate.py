"""Accuracy of a defense on clean, obliviously attacked, transferred and adaptively attacked images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import METHODS, TEST_SETS, SignGradientAttack
from hgd_tf.crafting import AttackedSet, SetCrafter
from hgd_tf.crafting.sets import resized, transported
from hgd_tf.data import LabeledImages
from hgd_tf.data.transports import NONE, Transport
from hgd_tf.defenses import Classifier
from hgd_tf.defenses.ensemble import Ensemble
from hgd_tf.evaluation.columns import ADAPTIVE_COLUMNS, Setting
from hgd_tf.evaluation.flops import gflop_per_image
from hgd_tf.evaluation.kept_figures import Figures, KeptFigures, identity
from hgd_tf.foundation.pixel_range import PIXEL_MAX, warn_of_range
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import batch_size_for
from hgd_tf.versions import package_versions

ADAPTIVE = METHODS["pgd20"]


class TestSets(NamedTuple):
    """What every defence of a table is tested on.

    Attributes:
      clean: the test images.
      attacked: by column key, the stored sets (Table 1's WhiteTestSet and BlackTestSet).
      adaptive_images: how many of the first clean images the adaptive attack takes.
      seed: of the adaptive attack's random start, and of the transports' draws.
      side: of the images in pixels, for the columns' keys; None: the target's own.
      transports: what happens to attacked images, and to clean ones, before the defence sees them; each by itself, as
        `hgd_tf/data/transports.py` spells it. No attack knows of it.
    """

    clean: LabeledImages
    attacked: dict[str, AttackedSet]
    adaptive_images: int
    seed: int
    side: Optional[int] = None
    transports: tuple[str, ...] = (NONE,)

    @property
    def settings(self) -> list[Setting]:
        return [Setting(self.side, transport) for transport in self.transports]


class DefenseResult(NamedTuple):
    """What one defence does.

    Attributes:
      accuracy: by column key under each setting, a fraction; of a stored set, the mean over its attacks.
      per_attack: accuracy by "column key/attack".
      denoising_loss: by column key, mean |denoised - clean| in [0, 1] units (section 5.1), against the clean image as
        it was before any transport; of an ensemble, the mean over its flows, each at its first target's size.
      gflop: 10⁹ float operations an image, of denoisers and targets (`gflop_per_image`).
    """

    accuracy: dict[str, float]
    per_attack: dict[str, float]
    denoising_loss: dict[str, float]
    gflop: float

    def keep(self, key: str, figures: Sequence[float]) -> None:
        """Takes a column's accuracy and denoising loss in."""
        self.accuracy[key], self.denoising_loss[key] = figures

    def and_also(self, earlier: Optional[DefenseResult]) -> DefenseResult:
        """These figures behind those of the same defence under other settings."""
        if earlier is None:
            return self
        accuracy, per_attack, denoising_loss = ({**before, **now} for before, now in zip(earlier[:3], self[:3]))
        return DefenseResult(accuracy, per_attack, denoising_loss, self.gflop)


def craft_test_sets(
    sets: SetCrafter,
    clean: LabeledImages,
    adaptive_images: int,
    side: Optional[int] = None,
    transports: tuple[str, ...] = (NONE,),
) -> TestSets:
    """Crafts, or reads back, the four stored sets of Table 1; the other arguments as in `TestSets`."""
    attacked = {recipe.name: sets.attacked_set(recipe, clean) for recipe in TEST_SETS}
    return TestSets(clean, attacked, min(adaptive_images, len(clean.labels)), sets.seed, side, transports)


def evaluate_defense(
    defense: Classifier, test_sets: TestSets, on_batch: Callable[[int], None] = lambda count: None
) -> DefenseResult:
    """Tests one defence on everything, as `evaluate_defenses` does."""
    (result,) = evaluate_defenses({"": defense}, test_sets, on_batch).values()
    return result


def evaluate_defenses(
    defenses: Mapping[str, Classifier],
    test_sets: TestSets,
    on_batch: Callable[[int], None] = lambda count: None,
    keep_in: Optional[Path] = None,
) -> dict[str, DefenseResult]:
    """Tests defences, by name, on everything. What several have in common answers once to each image of a stored set.

    The adaptive attack knows all of a defence: of an ensemble (Appendix C), it follows the gradient of the flows' mean
    logits through every denoiser and target.

    Args:
      defenses: each of any number of flows, of any sizes.
      on_batch: called with the number of images classified or attacked since the last call.
      keep_in: a file for the figures of each attack as soon as they are there, from which an interrupted call of the
        same defences and sets goes on. For the caller to remove.
    """
    warn_of_range(test_sets.clean.images, evaluate_defenses)
    ensembles = {name: Ensemble(defense.flows) for name, defense in defenses.items()}
    kept = KeptFigures() if keep_in is None else KeptFigures(keep_in, _identity(ensembles, test_sets))
    compiled = functools.lru_cache(maxsize=None)(_compiled)
    results = {name: DefenseResult({}, {}, {}, gflop_per_image(ensemble)) for name, ensemble in ensembles.items()}
    clean, seed = test_sets.clean, test_sets.seed

    def measured(step: str, images: np.ndarray, setting: Setting) -> Figures:
        return kept.measured(
            setting.key(step),
            lambda: _measure(ensembles, compiled, images, clean, setting, seed, on_batch),
            lambda: on_batch(len(ensembles) * len(images)),
        )

    def measure_stored(setting: Setting) -> None:
        for name, figures in measured("clean", clean.images, setting).items():
            results[name].keep(setting.key("clean"), figures)
        for key, attacked_set in test_sets.attacked.items():
            attacks = [f"{key}/{attack}" for attack in attacked_set.names]
            by_attack = [measured(*attack, setting) for attack in zip(attacks, attacked_set.attacked)]
            for name, result in results.items():
                rights, losses = zip(*(one_attack[name] for one_attack in by_attack))
                result.keep(setting.key(key), (float(np.mean(rights)), float(np.mean(losses))))
                result.per_attack.update({setting.key(attack): right for attack, right in zip(attacks, rights)})

    for setting in test_sets.settings:
        measure_stored(setting)
    subset = clean.head(test_sets.adaptive_images)

    def attacked_and_measured(name: str, attack: SignGradientAttack, epsilon: int) -> Figures:
        ensemble = ensembles[name]
        attacked = attack(
            subset.images,
            epsilon,
            ADAPTIVE,
            subset.labels,
            seed=seed,
            batch_size=attacked_at_a_time(ensemble),
            on_batch=on_batch,
        )
        return {
            setting.transport: _measure({name: ensemble}, compiled, attacked, subset, setting, seed)[name]
            for setting in test_sets.settings
        }

    for name, ensemble in ensembles.items():
        attack = SignGradientAttack([ensemble], label="true")
        for column in ADAPTIVE_COLUMNS:
            by_transport = kept.measured(
                Setting(test_sets.side).key(f"{column.key}/{name}"),
                functools.partial(attacked_and_measured, name, attack, column.epsilon),
                lambda: on_batch(len(subset.labels)),
            )
            for setting in test_sets.settings:
                results[name].keep(setting.key(column.key), by_transport[setting.transport])
    return results


def _identity(ensembles: Mapping[str, Ensemble], test_sets: TestSets) -> str:
    """Of all that the figures depend on."""
    parts = {
        flow: [flow.denoisers, [target.network for target in flow.targets]]
        for ensemble in ensembles.values()
        for flow in ensemble.flows
    }
    models = list(dict.fromkeys(model for both in parts.values() for part in both for model in part))
    number = {id(model): place for place, model in enumerate(models)}
    rows = {
        name: [[flow.weight, *([number[id(model)] for model in part] for part in parts[flow])] for flow in row.flows]
        for name, row in ensembles.items()
    }
    sets = {key: attacked_set.names for key, attacked_set in test_sets.attacked.items()}
    arrays = [*test_sets.clean, *(attacked_set.attacked for attacked_set in test_sets.attacked.values())]
    plain = [test_sets.adaptive_images, test_sets.seed, test_sets.side, list(test_sets.transports)]
    description = [rows, sets, plain, package_versions()]
    return identity(description, models, arrays)


def image_count(test_sets: TestSets) -> int:
    """How many images `evaluate_defenses` reports to `on_batch` for each defence."""
    stored = 1 + sum(len(attacked_set.names) for attacked_set in test_sets.attacked.values())
    stored_images = len(test_sets.transports) * stored * len(test_sets.clean.labels)
    return stored_images + len(ADAPTIVE_COLUMNS) * test_sets.adaptive_images


def attacked_at_a_time(classifier: Classifier) -> int:
    """Images of a batch whose gradients fit into memory: every target's stay there until the step is done."""
    targets = sum(len(flow.targets) for flow in classifier.flows)
    return max(1, batch_size_for(max(classifier.sizes)) // targets)


def _compiled(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    return tf.function(functools.partial(model, training=False), reduce_retracing=True)


def _measure(
    ensembles: Mapping[str, Ensemble],
    compiled: Callable[[keras.Model], Callable[[tf.Tensor], Any]],
    attacked: np.ndarray,
    clean: LabeledImages,
    setting: Setting,
    seed: int,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Figures:
    """Accuracy and denoising loss by the ensembles' names."""
    transport = Transport(setting.transport)
    sums = {name: np.zeros(2) for name in ensembles}
    sizes = {size for ensemble in ensembles.values() for size in ensemble.sizes}
    batch_size = batch_size_for(attacked.shape[1])
    for first in range(0, len(attacked), batch_size):
        batch = slice(first, first + batch_size)
        labels = clean.labels[batch]
        arrived = transported(attacked[batch], transport, seed, range(first, first + len(labels)))
        images, references = (
            {size: tf.constant(resized(some, size)) for size in sizes} for some in (arrived, clean.images[batch])
        )
        shared = functools.lru_cache(maxsize=None)(lambda model: _Shared(model, compiled(model)))
        for name, ensemble in ensembles.items():
            row = ensemble.with_parts(shared)
            answers = [flow.of_sized(images) for flow in row.flows]
            losses = [
                tf.reduce_mean(tf.abs(answer["denoised"] - references[flow.image_size]), axis=(1, 2, 3))
                for answer, flow in zip(answers, row.flows)
            ]
            right = row.mean(answers)["classes"].numpy() == labels
            sums[name] += np.sum(right), np.sum(np.mean(losses, axis=0) / PIXEL_MAX)
            on_batch(len(labels))
    return {name: (float(right) / len(attacked), float(loss) / len(attacked)) for name, (right, loss) in sums.items()}


class _Shared:
    """A denoiser or target of several rows, compiled: on a tensor that it was called on, it gives its answer again."""

    def __init__(self, model: keras.Model, compiled: Callable[[tf.Tensor], Any]):
        self._model = model
        self._answer = functools.lru_cache(maxsize=None)(lambda images: compiled(images.deref()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, images: tf.Tensor, training: bool) -> Any:
        return self._answer(images.ref())
