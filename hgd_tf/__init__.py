"""hgd-tf: the high-level representation guided denoiser (Liao et al., CVPR 2018) in TensorFlow.

Public names; whatever is not listed here is private. They load on first use: `import hgd_tf` alone is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hgd_tf.foundation.quiet import mute_tensorflow, starts_a_command

if TYPE_CHECKING:
    from hgd_tf.attacks import (
        METHODS,
        Roles,
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
    from hgd_tf.attacks.recipes import RECIPES
    from hgd_tf.checkpoints.locate import set_checkpoint_directory
    from hgd_tf.crafting import AttackedSet, SetCrafter
    from hgd_tf.data import LabeledImages, load_fashion_mnist, load_samples
    from hgd_tf.defenses import Classifier, Defense, load_defense, save_defense
    from hgd_tf.defenses.ensemble import Ensemble, Flow
    from hgd_tf.defenses.exporting import export_defense
    from hgd_tf.defenses.guarding import guard
    from hgd_tf.denoisers import dae, dunet, gaussian, load_official_denoiser, median
    from hgd_tf.errors import HgdError
    from hgd_tf.evaluation import COLUMNS
    from hgd_tf.evaluation.evaluate import TestSets, craft_test_sets, evaluate_defense
    from hgd_tf.foundation.stack import keras
    from hgd_tf.guidance import GUIDANCES, Guidance, GuidedDenoiser, Term, parse_guidance
    from hgd_tf.targets import Target, load_target

__version__ = "0.2.0"

if starts_a_command():
    mute_tensorflow()

_NAMES = {
    "hgd_tf.attacks": "METHODS Roles SignGradientAttack adaptive_ifgsm decayed_ifgsm fgsm ifgsm momentum_ifgsm no_op "
    "projected_gradient_descent sign_noise",
    "hgd_tf.attacks.recipes": "RECIPES",
    "hgd_tf.checkpoints.locate": "set_checkpoint_directory",
    "hgd_tf.crafting": "AttackedSet SetCrafter",
    "hgd_tf.data": "LabeledImages load_fashion_mnist load_samples",
    "hgd_tf.defenses": "Classifier Defense load_defense save_defense",
    "hgd_tf.defenses.ensemble": "Ensemble Flow",
    "hgd_tf.defenses.exporting": "export_defense",
    "hgd_tf.defenses.guarding": "guard",
    "hgd_tf.denoisers": "dae dunet gaussian load_official_denoiser median",
    "hgd_tf.errors": "HgdError",
    "hgd_tf.evaluation": "COLUMNS",
    "hgd_tf.evaluation.evaluate": "TestSets craft_test_sets evaluate_defense",
    "hgd_tf.guidance": "GUIDANCES Guidance GuidedDenoiser Term parse_guidance",
    "hgd_tf.foundation.stack": "keras",
    "hgd_tf.targets": "Target load_target",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [
    "COLUMNS",
    "GUIDANCES",
    "METHODS",
    "RECIPES",
    "AttackedSet",
    "Classifier",
    "Defense",
    "Ensemble",
    "Flow",
    "Guidance",
    "GuidedDenoiser",
    "HgdError",
    "LabeledImages",
    "Roles",
    "SetCrafter",
    "SignGradientAttack",
    "Target",
    "Term",
    "TestSets",
    "adaptive_ifgsm",
    "craft_test_sets",
    "dae",
    "decayed_ifgsm",
    "dunet",
    "evaluate_defense",
    "export_defense",
    "fgsm",
    "gaussian",
    "guard",
    "ifgsm",
    "keras",
    "load_defense",
    "load_fashion_mnist",
    "load_official_denoiser",
    "load_samples",
    "load_target",
    "median",
    "momentum_ifgsm",
    "no_op",
    "parse_guidance",
    "projected_gradient_descent",
    "save_defense",
    "set_checkpoint_directory",
    "sign_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
