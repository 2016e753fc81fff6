"""What determines an experiment, as plain data that a run directory keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Optional

from hgd_tf.attacks.roles import THE_TARGET
from hgd_tf.data.transports import NONE, Transport
from hgd_tf.guidance.guidances import OLD_NAMES, PLUS


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """The networks, the images and the seed: what two runs must share to stand in one table.

    Attributes:
      target: registered name, or path of a Keras model.
      checkpoint, image_size, feature_layer, input_range, outputs: as in `load_target`.
      custom_objects: name of the module that Keras models need, the target and others.
      members: the attacked ensemble; the word `target` stands for the target.
      holdout: network of the black-box test sets.
      networks: by the names of appendix D, names of the networks that play them.
      ens_target: adversarially trained network to compare with; None: no such row.
      data_dir: as in `load_fashion_mnist`.
      photographs, labels, test_dir: instead of `data_dir`, as in `load_photographs`.
      class_split: whether three quarters of the classes are trained on, and the others validate and test (Table 4).
      test_sizes: sides at which the test images are read and attacked; none: see `sides_to_test`.
      test_transports: what happens to them before the defence sees them, as `hgd_tf/data/transports.py` spells it.
      test_images: how many test images are used; None: all.
      adaptive_images: how many of them the adaptive attack takes.
      seed: of every random draw.
    """

    target: str = "mini_inception"
    checkpoint: Optional[str] = None
    image_size: Optional[int] = None
    feature_layer: Optional[str] = None
    input_range: tuple[float, float] = (0.0, 255.0)
    outputs: str = "auto"
    custom_objects: Optional[str] = None
    members: tuple[str, ...] = (THE_TARGET, "mini_inception_resnet", "mini_resnet")
    holdout: str = "mini_vgg"
    networks: dict[str, str] = dataclasses.field(default_factory=dict)
    ens_target: Optional[str] = "ens_mini_inception"
    data_dir: Optional[str] = None
    photographs: Optional[str] = None
    labels: Optional[str] = None
    test_dir: Optional[str] = None
    class_split: bool = False
    test_sizes: tuple[int, ...] = ()
    test_transports: tuple[str, ...] = (NONE,)
    test_images: Optional[int] = None
    adaptive_images: int = 500
    seed: int = 0

    def __post_init__(self):
        _check_transports(self.test_transports)


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
        _check_transports(self.transports)

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
        return {**_replaced(plain, tuple, list), "experiment": _replaced(plain["experiment"], tuple, list)}

    @classmethod
    def from_json(cls, value: dict) -> TrainConfig:
        """Inverse of `to_json`; a guidance's old name becomes today's."""
        experiment = ExperimentConfig(**_replaced(value["experiment"], list, tuple))
        config = cls(**{**_replaced(value, list, tuple), "experiment": experiment})
        return dataclasses.replace(config, guidance=OLD_NAMES.get(config.guidance, config.guidance))


def _check_transports(names: Iterable[str]) -> None:
    """That they can be read, which is known so before any image is attacked; raises `DataError`."""
    for name in names:
        Transport(name)


def _replaced(fields: dict[str, Any], kind: type, other: type) -> dict[str, Any]:
    """The same, with values of one kind of sequence as another."""
    return {name: other(value) if isinstance(value, kind) else value for name, value in fields.items()}
