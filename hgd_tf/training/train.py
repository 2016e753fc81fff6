"""A training run from configuration to the best denoiser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import TRAINING_RECIPES, VALIDATION_RECIPES, Recipe, Roles, bind, check_players
from hgd_tf.attacks.recipes import NO_ATTACKS
from hgd_tf.crafting import AttackedSet
from hgd_tf.data import LabeledImages, PhotographSplits, Splits, are_photographs
from hgd_tf.data.labeled_files import UNKNOWN
from hgd_tf.data.photographs import VARIETIES
from hgd_tf.defenses import Defense
from hgd_tf.defenses.saving import DENOISER_FILE, check_saving, load_denoiser, save_model, save_target
from hgd_tf.denoisers import DENOISERS
from hgd_tf.errors import HgdError, RunError
from hgd_tf.experiment.loading import Experiment, labeled_by, load_experiment
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import GuidedDenoiser, parse_guidance
from hgd_tf.strategy import make_strategy
from hgd_tf.training import callbacks as run_callbacks
from hgd_tf.training.adaptive import AdaptiveAttack, AdaptiveDenoiser
from hgd_tf.training.clock import Clock
from hgd_tf.training.config import ANEW, TrainConfig
from hgd_tf.training.muon import OPTIMIZERS
from hgd_tf.training.noise import Noise
from hgd_tf.training.online import OnlinePairs
from hgd_tf.training.pairs import drawn_transport, seen_set, training_batches, validation_batches
from hgd_tf.training.run_directory import LOG_FILE, STATE_DIR, TENSORBOARD_DIR, open_run

STATISTICS_BATCHES = 20  # with 16 images each, four times as many move the validation loss by 0.2 %


def train_denoiser(
    config: TrainConfig, run_dir: Union[str, Path], sets_dir: Union[str, Path], overwrite: bool = False
) -> Experiment:
    """Trains a denoiser and leaves the best one in the run directory, or goes on where such a run was stopped.

    Args:
      run_dir: its folder; afterwards it holds a defense that `load_defense` loads.

    Returns:
      The experiment's networks and images, for the evaluation that follows.

    Raises:
      HgdError: a network, the images, the folder or the configuration does not fit.
    """
    check_players(TRAINING_RECIPES[config.recipe], config.experiment.networks)
    if config.craft == "online" and not are_photographs(config.experiment.images):
        raise HgdError(f"`craft='online'` takes crops of photographs, received `images={config.experiment.images}`")
    experiment = load_experiment(config.experiment, sets_dir)
    if parse_guidance(config.guidance).uses_labels and _labels_unknown(experiment):
        raise HgdError(f"`guidance={config.guidance!r}` needs the true classes: `labels`, or a folder a class")
    keras.utils.set_random_seed(config.experiment.seed)
    clock = Clock()
    source = _pair_source(config, experiment, clock)
    noise = Noise(config.sigma, config.experiment.seed) if config.craft == "noise" else None
    validation_recipe = NO_ATTACKS if config.craft in ANEW else VALIDATION_RECIPES[config.recipe]
    attacks = noise.names if noise else tuple(attack.name for attack in bind(validation_recipe, experiment.roles))
    with make_strategy(config.strategy, config.batch_size).scope():
        model = make_model(config, experiment, attacks)
    check_saving(experiment.roles.target)
    # Only now: what cannot be trained or saved leaves no folder behind, which would be in the way of the next try.
    run_path = open_run(run_dir, config, overwrite)
    save_target(experiment.roles.target, run_path)
    pairs = source()
    validation_set = seen_set(
        config, experiment, validation_recipe, lambda splits: splits.validation.head(config.validation_images)
    )
    # Only now, so that targets with other answers share the set.
    validation_set = validation_set._replace(clean=labeled_by(experiment.roles.target, validation_set.clean))
    if noise:
        pairs = _Pairs(noise.batches(pairs.batches), noise.sample(pairs.sample), pairs.steps_per_pass)
        validation_set = noise.on(validation_set)
    _fit(model, config, run_path, pairs, validation_set, clock)
    if not (run_path / DENOISER_FILE).exists():
        raise RunError(f"{run_path}: the validation loss was never a number; a lower `learning_rate` may help")
    return experiment


class _Pairs(NamedTuple):
    """Where training's batches come from.

    Attributes:
      batches: from that step on, as a dataset.
      sample: so many batches of attacked images, which training has seen or will see about that step.
    """

    batches: Callable[[int], tf.data.Dataset]
    sample: Callable[[int, int], Iterable[tf.Tensor]]
    steps_per_pass: int


def _pair_source(config: TrainConfig, experiment: Experiment, clock: Clock) -> Callable[[], _Pairs]:
    """What makes the training pairs; that there are enough is known before the work of making them begins."""
    recipe, seed = TRAINING_RECIPES[config.recipe], config.experiment.seed
    if config.craft == "noise" or (config.craft == "adaptive" and config.adaptive_share == 1):
        recipe = NO_ATTACKS
    splits, roles = experiment.splits, experiment.roles
    if config.craft == "online" or (config.craft in ANEW and isinstance(splits, PhotographSplits)):
        assert isinstance(splits, PhotographSplits)  # as photographs are read
        files = splits.train_files[: config.train_images]
        shape, sides = splits.shape, config.attack_sizes
        if config.craft == "adaptive" and sides:  # each step makes its side of the largest
            shape, sides = shape._replace(image_size=max(sides)), ()
        online = OnlinePairs(
            files,
            shape,
            recipe,
            _quick_roles(roles, recipe, config),
            batch_size=config.batch_size,
            variety=VARIETIES[config.crops],
            sides=sides,
            transport=drawn_transport(config),
            reuse=config.reuse,
            seed=seed,
            clock=clock,
        )
        steps = max(len(files) * len(online.attacks) // config.batch_size, 1)
        return lambda: _Pairs(online.dataset, online.sample, steps)

    def train_images(splits: Splits) -> LabeledImages:
        return splits.train_images(config.train_images)

    images = train_images(splits)
    pairs = len(bind(recipe, roles)) * len(images.labels)
    if pairs < config.batch_size:
        raise HgdError(f"`batch_size={config.batch_size}` is more than the {pairs} pairs there are")

    def stored() -> _Pairs:
        train_set = seen_set(config, experiment, recipe, train_images, images)

        def batches(first_step: int) -> tf.data.Dataset:
            return clock.timed(training_batches(train_set, config.batch_size, seed, first_step))

        def sample(step: int, count: int) -> Iterable[tf.Tensor]:
            batches = training_batches(train_set, config.batch_size, seed, step).take(count)
            return batches.map(lambda batch: batch.attacked)

        return _Pairs(batches, sample, pairs // config.batch_size)

    return stored


def _quick_roles(roles: Roles, recipe: Recipe, config: TrainConfig) -> Roles:
    """The same with copies in the run's precision of what the recipe attacks; one of each, whatever parts it plays.

    Each at its own size, as in the test sets: through another one's resizing, attacks differ so much that denoisers of
    one kind are hardly better before the other.
    """
    if config.precision == "float32":
        return roles
    attacked = dict.fromkeys(model for attack in bind(recipe, roles) for model in attack.models)
    quick = {model: model.in_bfloat16() for model in attacked}
    return roles._replace(
        members=tuple(quick.get(member, member) for member in roles.members),
        named={part: quick.get(model, model) for part, model in roles.named.items()},
    )


def _labels_unknown(experiment: Experiment) -> bool:
    splits = experiment.splits
    return isinstance(splits, PhotographSplits) and any(file.label == UNKNOWN for file in splits.train_files)


def make_model(config: TrainConfig, experiment: Experiment, attacks: tuple[str, ...]) -> GuidedDenoiser:
    """The untrained denoiser under its guidance, compiled; call it in the strategy's scope.

    Raises:
      TargetError: the target does not give the response that guides, or its images are too small.
    """
    target, guidance = experiment.roles.target, parse_guidance(config.guidance)
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    options = {"zero_head": config.zero_head, "precision": config.precision, "synchronized": synchronized}
    denoiser = _denoiser(config, target.channels, **options)
    if config.init_from:
        _copy_weights(load_denoiser(config.init_from), denoiser, config.init_from)
    Defense(denoiser, target)  # raises where the two do not fit
    guide = target if config.precision == "float32" else target.in_bfloat16()
    arguments: dict[str, Any] = {"guide": guide, "frozen_statistics": config.frozen_statistics}
    if config.craft == "adaptive":
        model: GuidedDenoiser = AdaptiveDenoiser(denoiser, target, guidance, AdaptiveAttack.of(config), **arguments)
    else:
        model = GuidedDenoiser(denoiser, target, guidance, attacks, **arguments)
    averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    model.compile(OPTIMIZERS[config.optimizer](config.learning_rate, **averaging))
    return model


def _denoiser(config: TrainConfig, channels: int, **options: Any) -> keras.Model:
    return DENOISERS[config.denoiser](config.width, channels, output_scale=config.output_scale, **options)


def _copy_weights(source: keras.Model, denoiser: keras.Model, path: str) -> None:
    try:
        denoiser.set_weights(source.get_weights())
    except ValueError:
        raise RunError(f"`init_from={path}` holds a denoiser of another architecture or width") from None


def _fit(
    model: GuidedDenoiser, config: TrainConfig, run_path: Path, pairs: _Pairs, validation_set: AttackedSet, clock: Clock
) -> None:
    steps = config.steps_per_epoch or pairs.steps_per_pass
    stateful: list[keras.callbacks.Callback] = [
        run_callbacks.BestDenoiser(lambda: save_model(single_device(model.denoiser, config), run_path / DENOISER_FILE))
    ]
    schedule: list[keras.callbacks.Callback] = []
    if config.schedule == "cosine":
        total = config.epochs * steps
        schedule.append(run_callbacks.CosineSchedule(config.learning_rate, total, config.warmup_steps))
    else:
        stateful.append(keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=config.patience))
        stateful.append(keras.callbacks.EarlyStopping(patience=config.stop_patience))
    averaging: list[keras.callbacks.Callback] = []
    if config.ema:
        averaging.append(run_callbacks.AveragedWeights(_statistics(model.denoiser, config, pairs, steps)))
    tracked = tf.train.Checkpoint(denoiser=model.denoiser, optimizer=model.optimizer)
    state = run_callbacks.TrainingState(run_path / STATE_DIR, run_path / LOG_FILE, tracked, stateful)
    first_epoch = state.restore()
    if state.stopped or first_epoch == config.epochs:
        return
    tensorboard = run_path / TENSORBOARD_DIR
    with contextlib.closing(run_callbacks.Progress(config.epochs, steps, first_epoch)) as progress:
        model.fit(
            pairs.batches(first_epoch * steps),
            validation_data=validation_batches(validation_set, config.batch_size),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            verbose=0,
            # At an epoch's end they are called in this order. First what adds to the logs, which those after it read.
            # What saves or shows the average comes before `averaging`, which puts the last weights back. Last the
            # state: these weights are what training goes on from, and its file says that all before it is done.
            callbacks=[
                run_callbacks.Throughput(clock, config.batch_size, state.history),
                *schedule,
                *stateful,
                run_callbacks.ImageStrip(tensorboard / "images", validation_set),
                *averaging,
                keras.callbacks.TensorBoard(tensorboard, write_graph=False),
                progress,
                state,
            ],
        )


def _statistics(
    denoiser: keras.Model, config: TrainConfig, pairs: _Pairs, steps: int
) -> Callable[[int], list[np.ndarray]]:
    """Batch normalization's statistics of the denoiser as it is: over pairs of the end of an epoch of so many steps, or
    its own, where they are frozen."""
    if config.frozen_statistics:
        return lambda epoch: [variable.numpy() for variable in denoiser.non_trainable_variables]
    probe = _denoiser(config, denoiser.input_shape[-1], precision=config.precision, statistics_momentum=0.0)
    statistics = BatchStatistics(probe)

    def of_epoch(epoch: int) -> list[np.ndarray]:
        last_step = (epoch + 1) * steps - 1
        return statistics.of(denoiser.get_weights(), pairs.sample(last_step, STATISTICS_BATCHES))

    return of_epoch


class BatchStatistics:
    """Recomputes a denoiser's moving means and variances for its present weights.

    Those that training left are of the weights it went through, whose maps vary more than those of their average
    (Izmailov et al. 2018, arXiv 1803.05407, section 3.1).

    Args:
      probe: a denoiser of the same architecture whose moving statistics are those of its last batch: momentum 0.
    """

    def __init__(self, probe: keras.Model):
        self.probe = probe
        self._run = tf.function(lambda images: probe(images, training=True))

    def of(self, weights: list[np.ndarray], batches: Iterable[tf.Tensor]) -> list[np.ndarray]:
        """The means over batches of images (N, H, W, C), float32 in pixels, in the order of non-trainable variables."""
        self.probe.set_weights(weights)
        statistics = []
        for images in batches:
            self._run(images)
            statistics.append([variable.numpy() for variable in self.probe.non_trainable_variables])
        return [np.mean(values, axis=0) for values in zip(*statistics)]


def single_device(denoiser: keras.Model, config: TrainConfig) -> keras.Model:
    """A float32 copy with the same weights and ordinary batch normalization, which needs no strategy and is fused."""
    copy = _denoiser(config, denoiser.input_shape[-1])
    copy.set_weights(denoiser.get_weights())
    return copy
