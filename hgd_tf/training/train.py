"""A training run from configuration to table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Union

import tensorflow as tf

from hgd_tf.attacks import TRAIN_SET, VALIDATION_SET, bind
from hgd_tf.crafting import AttackedSet
from hgd_tf.defenses import Defense
from hgd_tf.defenses.saving import DENOISER_FILE, save_model, save_target
from hgd_tf.denoisers import DENOISERS
from hgd_tf.errors import HgdError, RunError, TargetError
from hgd_tf.guidance import GUIDANCES, GuidedDenoiser
from hgd_tf.strategy import make_strategy
from hgd_tf.training import callbacks as run_callbacks
from hgd_tf.training.config import TrainConfig
from hgd_tf.training.experiment import Experiment, load_experiment
from hgd_tf.training.pairs import training_batches, validation_batches
from hgd_tf.training.run_directory import LOG_FILE, STATE_DIR, TENSORBOARD_DIR, open_run


def train_denoiser(
    config: TrainConfig, run_dir: Union[str, Path], sets_dir: Union[str, Path], overwrite: bool = False
) -> Experiment:
    """Trains a denoiser and leaves the best one in the run directory, or goes on where such a run was stopped.

    Args:
      config: the run.
      run_dir: its folder; afterwards it holds a defense that `load_defense` loads.
      sets_dir: where attacked images are kept.
      overwrite: whether to remove a run that stands in the folder.

    Returns:
      The experiment's networks and images, for the evaluation that follows.

    Raises:
      HgdError: a network, the images, the folder or the configuration does not fit.
    """
    experiment = load_experiment(config.experiment, sets_dir)
    images = experiment.splits.train.head(config.train_images)
    attacks = tuple(attack.name for attack in bind(TRAIN_SET, experiment.roles))
    pairs = len(attacks) * len(images.labels)
    if pairs < config.batch_size:
        raise HgdError(f"--batch_size={config.batch_size} is more than the {pairs} pairs there are")
    tf.keras.utils.set_random_seed(config.experiment.seed)
    with make_strategy(config.strategy, config.batch_size).scope():
        model = make_model(config, experiment, attacks)
    run_path = open_run(run_dir, config, overwrite)
    save_target(experiment.roles.target, run_path)
    train_set = experiment.sets.attacked_set(TRAIN_SET, images)
    validation_images = experiment.splits.validation.head(config.validation_images)
    validation_set = experiment.sets.attacked_set(VALIDATION_SET, validation_images)
    _fit(model, config, run_path, train_set, validation_set)
    if not (run_path / DENOISER_FILE).exists():
        raise RunError(f"{run_path}: the validation loss was never a number; a lower --learning_rate may help")
    return experiment


def make_model(config: TrainConfig, experiment: Experiment, attacks: tuple[str, ...]) -> GuidedDenoiser:
    """The untrained denoiser under its guidance, compiled; call it in the strategy's scope.

    Raises:
      TargetError: the target does not give the response that guides, or its images are too small.
    """
    target, guidance = experiment.roles.target, GUIDANCES[config.guidance]
    if guidance.response not in ("image", *target.network.output_shape):
        raise TargetError(
            f"--guidance={config.guidance} needs the {guidance.response} of {target.name}: --feature_layer"
        )
    denoiser = DENOISERS[config.denoiser](
        config.width,
        target.channels,
        output_scale=config.output_scale,
        zero_head=config.zero_head,
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
    )
    Defense(denoiser, target)  # raises where the two do not fit
    model = GuidedDenoiser(denoiser, target, guidance, attacks)
    model.compile(tf.keras.optimizers.Adam(config.learning_rate))
    model.optimizer.build(denoiser.trainable_variables)  # in the scope, or the replicas would share the moments
    return model


def _fit(
    model: GuidedDenoiser, config: TrainConfig, run_path: Path, train_set: AttackedSet, validation_set: AttackedSet
) -> None:
    pairs = train_set.attacked.shape[0] * train_set.attacked.shape[1]
    steps = config.steps_per_epoch or pairs // config.batch_size
    stateful = [
        tf.keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=config.patience),
        tf.keras.callbacks.EarlyStopping(patience=config.stop_patience),
        run_callbacks.BestDenoiser(lambda: save_model(single_device(model.denoiser, config), run_path / DENOISER_FILE)),
    ]
    tracked = tf.train.Checkpoint(denoiser=model.denoiser, optimizer=model.optimizer)
    state = run_callbacks.TrainingState(run_path / STATE_DIR, run_path / LOG_FILE, tracked, stateful)
    first_epoch = state.restore()
    if state.stopped or first_epoch == config.epochs:
        return
    tensorboard = run_path / TENSORBOARD_DIR
    with contextlib.closing(run_callbacks.Progress(config.epochs, steps, first_epoch)) as progress:
        model.fit(
            training_batches(train_set, config.batch_size, config.experiment.seed, first_epoch * steps),
            validation_data=validation_batches(validation_set, config.batch_size),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[
                *stateful,
                run_callbacks.ImageStrip(tensorboard / "images", validation_set),
                tf.keras.callbacks.TensorBoard(tensorboard, write_graph=False),
                progress,
                state,
            ],
        )


def single_device(denoiser: tf.keras.Model, config: TrainConfig) -> tf.keras.Model:
    """A copy with the same weights and ordinary batch normalization, which needs no strategy and is fused."""
    copy = DENOISERS[config.denoiser](config.width, denoiser.input_shape[-1], output_scale=config.output_scale)
    copy.set_weights(denoiser.get_weights())
    return copy
