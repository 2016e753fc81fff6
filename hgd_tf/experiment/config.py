"""What determines an experiment, as plain data that a run directory keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional

from hgd_tf.attacks.roles import Cast
from hgd_tf.data.opening import EMBEDDED
from hgd_tf.data.transports import NONE, Transport
from hgd_tf.foundation.description import Rule, at_least, check, refuse, setting, settings
from hgd_tf.foundation.old_names import with_new_names
from hgd_tf.targets import TARGETS

LEAST_SIDE = 8
SIDES = Rule(
    f"whole numbers of at least {LEAST_SIDE}, each once",
    lambda sides: min(sides, default=LEAST_SIDE) >= LEAST_SIDE and len(set(sides)) == len(sides),
)


def _are_transports(names: tuple[str, ...]) -> bool:
    """Known so before any image is attacked."""
    return len({Transport(name).name for name in names}) == len(names)


TRANSPORTS = Rule("each once", _are_transports)
SOME_TRANSPORTS = Rule("at least one, such as none, each once", lambda names: bool(names) and _are_transports(names))


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(Cast):
    """The networks, the images and the seed: what two runs must share to stand in one table."""

    image_size: Optional[int] = setting(None, "Side of the target's input; default: its native one.", at_least(1))
    feature_layer: Optional[str] = setting(None, "Of a Keras model: the layer whose output guides.")
    ens_target: Optional[str] = setting(
        "ens_mini_inception", "Adversarially trained network to compare with; empty: none."
    )
    images: Optional[str] = setting(
        None,
        "A folder with Fashion-MNIST's four files, or with train/CLASS/FILE, validation/…, test/…, or of photographs: "
        "files, or one folder a class; default, also called embedded: the subset in the package.",
    )
    labels: Optional[str] = setting(None, "CSV with the columns file and label, of photographs and `test_dir`.")
    test_dir: Optional[str] = setting(None, "Images of known class to test on, beside photographs.")
    class_split: bool = setting(False, "Train on three quarters of the classes, test on the others.")
    test_sizes: tuple[int, ...] = setting(
        (), "Sides in pixels at which to test; default: their own, and of ImageNet networks 299 too.", SIDES
    )
    test_transports: tuple[str, ...] = setting(
        (NONE,),
        "What happens to the test images before the defence sees them, each a table of its own.",
        SOME_TRANSPORTS,
    )
    test_images: Optional[int] = setting(None, "Images to test on; default: all.", at_least(1))
    adaptive_images: int = setting(500, "Images for the adaptive attack.", at_least(1))
    seed: int = setting(0, "Of every random draw.", at_least(0))

    def __post_init__(self):
        check(self)
        if self.images == EMBEDDED:
            object.__setattr__(self, "images", None)
        of_keras = self.feature_layer is not None and self.target in TARGETS
        refuse({f"`feature_layer` goes with a Keras model's path as `target`, received {self.target}": of_keras})

    def changed(self, changes: Mapping[str, Any]) -> ExperimentConfig:
        """With other fields; where the test images are others, those that were trained on need not be there."""
        tested = {"images": None} if changes.get("test_dir") is not None else {}
        return dataclasses.replace(
            self, **{**tested, **dict(with_new_names(changes.items(), settings(ExperimentConfig)))}
        )
