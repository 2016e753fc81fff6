"""What determines an experiment, as plain data that a run directory keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Optional

from hgd_tf.attacks.roles import THE_TARGET
from hgd_tf.data.transports import NONE, Transport


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
        check_transports(self.test_transports)


def check_transports(names: Iterable[str]) -> None:
    """That they can be read, which is known so before any image is attacked; raises `DataError`."""
    for name in names:
        Transport(name)


def replaced(fields: dict[str, Any], kind: type, other: type) -> dict[str, Any]:
    """The same, with values of one kind of sequence as another."""
    return {name: other(value) if isinstance(value, kind) else value for name, value in fields.items()}
