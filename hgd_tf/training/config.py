"""What determines a training run, as plain data that its directory keeps."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from hgd_tf.experiment.config import ExperimentConfig, check_transports, replaced
from hgd_tf.guidance.guidances import OLD_NAMES, PLUS


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
      experiment: networks, images and seed.
      guidance: as `parse_guidance` reads it.
      denoiser: a name of `DENOISERS`.
      width, output_scale, zero_head, block_size: as in `dunet`.
      precision: in which denoiser and target compute while training, `float32` or `bfloat16`.
      init_from: folder of a defense whose denoiser's weights are the start; None: a random start.
      frozen_statistics: whether batch normalization keeps that start's statistics, in training too.
      recipe: the training attacks, a name of `TRAINING_RECIPES`.
      craft: `stored` attacks, made before training, or `online` ones, made on fresh crops while training.
      attack_sizes: sides at which images are attacked, one drawn for each round of crops crafted online, or for each
        stored image; none: the target's own.
      transports: what may happen to attacked images before the denoiser sees them, as `hgd_tf/data/transports.py`
        spells it; one is drawn for each.
      transported_share: of the attacked images, to which something does.
      crops: how much the crops that are attacked online vary, a name of `VARIETIES`.
      reuse: how often a pair crafted online is drawn, on average.
      train_images, validation_images: clean images that are attacked; None: all.
      batch_size: pairs a step, over all replicas.
      optimizer: a name of `OPTIMIZERS`.
      learning_rate: the optimizer's, at its highest.
      schedule: of the learning rate: `plateau`, which falls when training stalls, or `cosine`, down to 0 at the end.
      warmup_steps: of the cosine, during which the rate rises from 0.
      ema: momentum of the averaged weights that are validated and kept; 0: the last weights themselves.
      epochs: at most this many.
      steps_per_epoch: steps between validations; None: a pass over all pairs.
      patience: epochs without a better validation loss before the learning rate drops to a tenth (plateau).
      stop_patience: likewise, before training stops (plateau).
      strategy: `auto`, `one_device` or `mirrored`.
    """

    experiment: ExperimentConfig
    guidance: str = "logits"
    denoiser: str = "dunet"
    width: float = 1.0
    output_scale: float = 1.0
    zero_head: bool = False
    block_size: int = 1
    precision: str = "float32"
    init_from: Optional[str] = None
    frozen_statistics: bool = False
    recipe: str = "train_set"
    craft: str = "stored"
    attack_sizes: tuple[int, ...] = ()
    transports: tuple[str, ...] = ()
    transported_share: float = 0.5
    crops: str = "plain"
    reuse: int = 4
    train_images: Optional[int] = None
    validation_images: Optional[int] = None
    batch_size: int = 60
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "plateau"
    warmup_steps: int = 0
    ema: float = 0.0
    epochs: int = 30
    steps_per_epoch: Optional[int] = None
    patience: int = 2
    stop_patience: int = 5
    strategy: str = "auto"

    def __post_init__(self):
        check_transports(self.transports)

    @property
    def denoiser_options(self) -> dict[str, Any]:
        """What of the denoising network the run chooses, and its weights do not."""
        return {name: getattr(self, name) for name in ("width", "output_scale", "block_size")}

    @property
    def defense_name(self) -> str:
        """The defence's name in a table: its guidance, `_` for `+`; `dae` for the paper's (pixel guided) DAE."""
        guidance = self.guidance.replace(PLUS, "_")
        if self.denoiser == "dunet":
            return f"{guidance}_x{self.output_scale:g}" if self.output_scale != 1 else guidance
        return self.denoiser if guidance == "pixel" else f"{self.denoiser}_{guidance}"

    def to_json(self) -> dict:
        """JSON types only; `from_json` reads it back."""
        plain = dataclasses.asdict(self)
        return {**replaced(plain, tuple, list), "experiment": replaced(plain["experiment"], tuple, list)}

    @classmethod
    def from_json(cls, value: dict) -> TrainConfig:
        """Inverse of `to_json`; a guidance's old name becomes today's."""
        experiment = ExperimentConfig(**replaced(value["experiment"], list, tuple))
        config = cls(**{**replaced(value, list, tuple), "experiment": experiment})
        return dataclasses.replace(config, guidance=OLD_NAMES.get(config.guidance, config.guidance))
