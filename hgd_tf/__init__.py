"""hgd-tf: the high-level representation guided denoiser (Liao et al., CVPR 2018) in TensorFlow.

Public names; whatever is not listed here is private. They load on first use: `import hgd_tf` alone is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from hgd_tf.quiet import mute_tensorflow

if TYPE_CHECKING:
    from hgd_tf.attacks import (
        SignGradientAttack,
        adaptive_ifgsm,
        decayed_ifgsm,
        fgsm,
        ifgsm,
        momentum_ifgsm,
        no_op,
        projected_gradient_descent,
        sign_noise,
    )
    from hgd_tf.data import load_fashion_mnist, load_samples
    from hgd_tf.defenses import Classifier, Defense, load_defense, save_defense
    from hgd_tf.defenses.guarding import guard
    from hgd_tf.denoisers import dae, dunet, gaussian, load_official_denoiser, median
    from hgd_tf.targets import Target, load_target

__version__ = "0.2.0"

if sys.argv[:1] == ["-m"]:  # `python -m hgd_tf.<command>` is starting
    mute_tensorflow()

_HOMES = {
    "Classifier": "hgd_tf.defenses",
    "Defense": "hgd_tf.defenses",
    "SignGradientAttack": "hgd_tf.attacks",
    "Target": "hgd_tf.targets",
    "adaptive_ifgsm": "hgd_tf.attacks",
    "dae": "hgd_tf.denoisers",
    "decayed_ifgsm": "hgd_tf.attacks",
    "dunet": "hgd_tf.denoisers",
    "fgsm": "hgd_tf.attacks",
    "gaussian": "hgd_tf.denoisers",
    "guard": "hgd_tf.defenses.guarding",
    "ifgsm": "hgd_tf.attacks",
    "load_defense": "hgd_tf.defenses",
    "load_fashion_mnist": "hgd_tf.data",
    "load_official_denoiser": "hgd_tf.denoisers",
    "load_samples": "hgd_tf.data",
    "load_target": "hgd_tf.targets",
    "median": "hgd_tf.denoisers",
    "momentum_ifgsm": "hgd_tf.attacks",
    "no_op": "hgd_tf.attacks",
    "projected_gradient_descent": "hgd_tf.attacks",
    "save_defense": "hgd_tf.defenses",
    "sign_noise": "hgd_tf.attacks",
}

__all__ = [
    "Classifier",
    "Defense",
    "SignGradientAttack",
    "Target",
    "adaptive_ifgsm",
    "dae",
    "decayed_ifgsm",
    "dunet",
    "fgsm",
    "gaussian",
    "guard",
    "ifgsm",
    "load_defense",
    "load_fashion_mnist",
    "load_official_denoiser",
    "load_samples",
    "load_target",
    "median",
    "momentum_ifgsm",
    "no_op",
    "projected_gradient_descent",
    "save_defense",
    "sign_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
