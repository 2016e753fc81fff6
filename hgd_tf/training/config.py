"""What determines a training run, as plain data that its directory keeps."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any, Optional

from hgd_tf.attacks import TRAINING_RECIPES
from hgd_tf.data import are_photographs
from hgd_tf.data.photographs import VARIETIES
from hgd_tf.denoisers import DENOISERS, PRECISIONS
from hgd_tf.denoisers.layers import NO_FOLDING
from hgd_tf.errors import HgdError
from hgd_tf.experiment.config import SIDES, TRANSPORTS, ExperimentConfig
from hgd_tf.foundation.description import POSITIVE, Rule, at_least, check, one_of, read, refuse, setting, within
from hgd_tf.guidance.guidances import GUIDANCES, OLD_NAMES, PLUS, parse_guidance
from hgd_tf.strategy import STRATEGIES
from hgd_tf.training.muon import OPTIMIZERS

ANEW = ("adaptive", "noise")  # of `craft`: what makes in each step what it trains on; of photographs, of crops
FOLDING = "block_size"  # of denoisers that folded pixels into channels; 1: of no folding
RADII = Rule("two numbers more than 0, the larger one last", lambda bounds: 0 < bounds[0] <= bounds[1])
BESIDE = ("threads", "versions", FOLDING)  # in a `config.json`


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run: networks, images and seed, and how a denoiser is trained on them.

    Raises:
      HgdError: a field is of another type or value than expected, or fields do not fit together.
    """

    experiment: ExperimentConfig
    guidance: str = setting(
        "logits",
        f"What of the target's response is compared: {', '.join(GUIDANCES)}, or a sum: feature+logits.",
        Rule("", parse_guidance),
    )
    denoiser: str = setting("dunet", "The denoising network.", one_of(DENOISERS))
    width: float = setting(1.0, "Factor on the denoiser's channels; 1 is the paper's.", at_least(1 / 64))
    output_scale: float = setting(1.0, "Factor on the predicted noise; 2 is PGD x2.", POSITIVE)
    zero_head: bool = setting(False, "Start from the identity.")
    precision: str = setting("float32", "Of training; bfloat16 wants a CPU or GPU that has it.", one_of(PRECISIONS))
    init_from: Optional[str] = setting(
        None, "Folder of a defence, or name of one in the package, to start from; default: random weights."
    )
    frozen_statistics: bool = setting(False, "Keep batch normalization's statistics of `init_from`.")
    recipe: str = setting("train_set", "The attacks of training.", one_of(TRAINING_RECIPES))
    craft: str = setting(
        "stored",
        "Attack before training, or while it goes on; adaptive: the defence itself, anew in each step, and weights are "
        "kept by their loss on validation images attacked so, always from the same starts; noise: Gaussian noise "
        "instead of attacks, anew in each step.",
        one_of(("stored", "online", "adaptive", "noise")),
    )
    adaptive_share: float = setting(
        1.0,
        "With `craft=adaptive`, of a batch what its step attacks through the denoiser; the others are of `recipe`.",
        Rule("more than 0, at most 1", lambda share: 0 < share <= 1),
    )
    clean_weight: float = setting(
        0.5, "With `craft=adaptive`, of the loss on the clean images, added to that on attacked ones.", at_least(0)
    )
    adaptive_steps: int = setting(
        3, "Of the adaptive attack: of projected gradient descent from a random start; 1: FGSM from there.", at_least(1)
    )
    adaptive_epsilon: tuple[float, float] = setting(
        (1.0, 16.0), "Of the adaptive attack: bounds of each image's radius, in pixel units.", RADII
    )
    adaptive_ramp: int = setting(
        0, "Training steps in which the larger of `adaptive_epsilon` rises from the smaller.", at_least(0)
    )
    sigma: float = setting(0.25, "Of the noise of `craft=noise`, in [0, 1] units.", POSITIVE)
    attack_sizes: tuple[int, ...] = setting(
        (),
        "Sides in pixels at which images are attacked, one drawn for each round of crops crafted online, each stored "
        "image, or each step of `craft=adaptive`; default: the target's own.",
        SIDES,
    )
    transports: tuple[str, ...] = setting(
        (),
        "What may happen to attacked images before the denoiser sees them: some of none, jpeg, webp, resize, crop, "
        "shift, jpeg:60-98, resize:0.8+jpeg:75, …; one is drawn for each.",
        TRANSPORTS,
    )
    transported_share: float = setting(
        0.5, "Of the attacked images, to which one of `transports` happens.", within(0.0, 1.0)
    )
    crops: str = setting(
        "plain",
        "What `craft=online` attacks: crops of photographs, or varied ones, smaller, some composed of two, in other "
        "light.",
        one_of(VARIETIES),
    )
    reuse: int = setting(4, "How often a pair crafted online is drawn, on average.", at_least(1))
    train_images: Optional[int] = setting(None, "Clean images to attack for training; default: all.", at_least(1))
    validation_images: Optional[int] = setting(
        None, "Clean images to attack for validation; default: all.", at_least(1)
    )
    batch_size: int = setting(60, "Pairs of images a step, over all devices.", at_least(1))
    optimizer: str = setting("adam", "Adam, or Muon for the convolutions' kernels.", one_of(OPTIMIZERS))
    learning_rate: float = setting(1e-3, "The optimizer's, at its highest.", POSITIVE)
    schedule: str = setting(
        "plateau",
        "Of the learning rate: it falls when training stalls, or as a cosine, down to 0 at the end.",
        one_of(("plateau", "cosine")),
    )
    warmup_steps: int = setting(0, "Steps in which the cosine's rate rises from 0.", at_least(0))
    ema: float = setting(
        0.0,
        "Momentum of the averaged weights that are validated and kept; 0: the last ones.",
        Rule("at least 0 and less than 1, at which no step would count", lambda momentum: 0 <= momentum < 1),
    )
    epochs: int = setting(30, "Train at most so many.", at_least(1))
    steps_per_epoch: Optional[int] = setting(None, "Steps between validations; default: a pass.", at_least(1))
    patience: int = setting(2, "Epochs without gain before the plateau's rate drops to a tenth.", at_least(0))
    stop_patience: int = setting(5, "Epochs without gain in validation loss before training stops.", at_least(0))
    strategy: str = setting("auto", "One device, or a replica on each; auto: all GPUs.", one_of(STRATEGIES))

    def __post_init__(self):
        check(self)
        if self.guidance in OLD_NAMES:
            warnings.warn(f"guidance {self.guidance} is {OLD_NAMES[self.guidance]} now", stacklevel=2)
            object.__setattr__(self, "guidance", OLD_NAMES[self.guidance])
        embedded, online = self.experiment.images is None, self.craft == "online"
        adaptive, photographs = self.craft == "adaptive", are_photographs(self.experiment.images)
        classified = self.experiment.labels is not None or self.experiment.test_dir is not None
        refuse(
            {
                "`frozen_statistics` keeps those of `init_from`, received none": (
                    self.frozen_statistics and self.init_from is None
                ),
                "`labels` and `test_dir` go with photographs, received no `images`": classified and embedded,
                "`craft='online'` takes crops of photographs, received no `images`": online and embedded,
                "`craft='online'` trains on one device, received `strategy='mirrored'`": (
                    online and self.strategy == "mirrored"
                ),
                f"`crops='{self.crops}'` goes with `craft='online'`, received `craft='{self.craft}'`": (
                    self.crops != "plain" and not (online or (photographs and self.craft in ANEW))
                ),
                "`craft='noise'` is noise alone: expected no `attack_sizes` or `transports`": (
                    self.craft == "noise" and bool(self.attack_sizes or self.transports)
                ),
                "`craft='adaptive'` on photographs trains on one device, received `strategy='mirrored'`": (
                    adaptive and photographs and self.strategy == "mirrored"
                ),
                # Their batch statistics would be those of images that no step attacks.
                f"`craft='adaptive'` keeps no averaged weights, received `ema={self.ema:g}`": adaptive and self.ema > 0,
            }
        )

    @property
    def defense_name(self) -> str:
        """The defence's name in a table: its guidance, `_` for `+`; `dae` for the paper's (pixel guided) DAE."""
        kind = f"_{self.craft}" if self.craft in ANEW else ""
        guidance = self.guidance.replace(PLUS, "_") + kind
        if self.denoiser == "dunet":
            return f"{guidance}_x{self.output_scale:g}" if self.output_scale != 1 else guidance
        return self.denoiser if guidance == "pixel" else f"{self.denoiser}_{guidance}"

    def to_json(self) -> dict:
        """JSON types only; `from_json` reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, value: Any) -> TrainConfig:
        """Inverse of `to_json`, of a `config.json` too.

        Raises:
          HgdError: `value` is no JSON object of these fields, or one is not as expected.
        """
        if isinstance(value, dict) and value.get(FOLDING, 1) != 1:
            raise HgdError(f"{FOLDING}: {NO_FOLDING}, received {value[FOLDING]!r}")
        return read(cls, value, BESIDE)
