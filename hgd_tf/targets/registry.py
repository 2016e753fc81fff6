"""The targets known by name."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from hgd_tf.architectures import mini
from hgd_tf.data import fashion_mnist
from hgd_tf.errors import TargetError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.imagenet import IMAGENET_TARGETS
from hgd_tf.targets.published import TargetSpec

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"


def _mini(build: Callable[[int], keras.Model], parameters: int, accuracy: float, role: str) -> TargetSpec:
    return TargetSpec(
        build,
        mini.INPUT_SIZE,
        mini.CHANNELS,
        fashion_mnist.CLASSES,
        parameters,
        accuracy,
        role,
        fashion_mnist.CLASS_NAMES,
    )


TARGETS: dict[str, TargetSpec] = {
    "mini_inception": _mini(mini.mini_inception, 63_030, 0.9115, "target; plays Inception v3"),
    "mini_inception_resnet": _mini(
        mini.mini_inception_resnet, 58_842, 0.9176, "attacked member; plays Inception-ResNet v2"
    ),
    "mini_resnet": _mini(mini.mini_resnet, 64_426, 0.9190, "attacked member; plays ResNet-50 v2"),
    "mini_vgg": _mini(mini.mini_vgg, 70_330, 0.9271, "hold-out of the black-box set; plays Inception v4"),
    "ens_mini_inception": _mini(
        mini.mini_inception, 63_030, 0.9093, "mini_inception, ensemble adversarially trained; plays ensV3"
    ),
    **IMAGENET_TARGETS,
}


def target_spec(name: str) -> TargetSpec:
    """The registered target of that name.

    Raises:
      TargetError: there is none.
    """
    if name not in TARGETS:
        raise TargetError(
            f"unknown target {name!r}: expected one of {', '.join(TARGETS)}, or a .keras or SavedModel path"
        )
    return TARGETS[name]


def shipped_weights(name: str) -> Path:
    """Where the weights that come with this package lie; the file exists for the minis only."""
    return SHIPPED_WEIGHTS / f"{name}.weights.h5"


def class_name(name: str, index: int) -> str:
    """What to call a class of the target of that name: "class 3 (Dress)", or "class 3" where names are unknown."""
    names = TARGETS[name].class_names if name in TARGETS else ()
    return f"class {index} ({names[index]})" if index < len(names) else f"class {index}"
