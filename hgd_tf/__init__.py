"""hgd-tf: the high-level representation guided denoiser (Liao et al., CVPR 2018) in TensorFlow.

Public names; whatever is not listed here is private. They load on first use: `import hgd_tf` alone is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hgd_tf.foundation.quiet import mute_tensorflow, starts_a_command

if TYPE_CHECKING:
    from hgd_tf.attacks import METHODS as METHODS
    from hgd_tf.attacks import GradientAttack as GradientAttack
    from hgd_tf.attacks import Roles as Roles
    from hgd_tf.attacks import SignGradientAttack as SignGradientAttack
    from hgd_tf.attacks import SquareAttack as SquareAttack
    from hgd_tf.attacks import adaptive_ifgsm as adaptive_ifgsm
    from hgd_tf.attacks import decayed_ifgsm as decayed_ifgsm
    from hgd_tf.attacks import fgsm as fgsm
    from hgd_tf.attacks import ifgsm as ifgsm
    from hgd_tf.attacks import momentum_ifgsm as momentum_ifgsm
    from hgd_tf.attacks import no_op as no_op
    from hgd_tf.attacks import projected_gradient_descent as projected_gradient_descent
    from hgd_tf.attacks import sign_noise as sign_noise
    from hgd_tf.attacks.recipes import RECIPES as RECIPES
    from hgd_tf.checkpoints.locate import set_checkpoint_directory as set_checkpoint_directory
    from hgd_tf.crafting import AttackedSet as AttackedSet
    from hgd_tf.crafting import SetCrafter as SetCrafter
    from hgd_tf.data import LabeledImages as LabeledImages
    from hgd_tf.data import load_fashion_mnist as load_fashion_mnist
    from hgd_tf.data import load_samples as load_samples
    from hgd_tf.defenses import Classifier as Classifier
    from hgd_tf.defenses import Defense as Defense
    from hgd_tf.defenses import load_defense as load_defense
    from hgd_tf.defenses import save_defense as save_defense
    from hgd_tf.defenses.ensemble import Ensemble as Ensemble
    from hgd_tf.defenses.ensemble import Flow as Flow
    from hgd_tf.defenses.exporting import export_defense as export_defense
    from hgd_tf.defenses.guarding import guard as guard
    from hgd_tf.denoisers import dae as dae
    from hgd_tf.denoisers import dunet as dunet
    from hgd_tf.denoisers import gaussian as gaussian
    from hgd_tf.denoisers import load_official_denoiser as load_official_denoiser
    from hgd_tf.denoisers import median as median
    from hgd_tf.errors import HgdError as HgdError
    from hgd_tf.evaluation import COLUMNS as COLUMNS
    from hgd_tf.evaluation.attack_suite import AttackSuite as AttackSuite
    from hgd_tf.evaluation.attacked_folders import evaluate_attacked as evaluate_attacked
    from hgd_tf.evaluation.certificates import evaluate_certified as evaluate_certified
    from hgd_tf.evaluation.evaluate import TestSets as TestSets
    from hgd_tf.evaluation.evaluate import craft_test_sets as craft_test_sets
    from hgd_tf.evaluation.evaluate import evaluate_defense as evaluate_defense
    from hgd_tf.evaluation.perturbation import perturbation_levels as perturbation_levels
    from hgd_tf.evaluation.perturbation import perturbation_slope as perturbation_slope
    from hgd_tf.evaluation.sanity import sanity_checks as sanity_checks
    from hgd_tf.evaluation.smoothing import Smoothed as Smoothed
    from hgd_tf.evaluation.threat_models import ThreatModel as ThreatModel
    from hgd_tf.evaluation.threat_models import read_threat_models as read_threat_models
    from hgd_tf.foundation.stack import keras as keras
    from hgd_tf.guidance import GUIDANCES as GUIDANCES
    from hgd_tf.guidance import Guidance as Guidance
    from hgd_tf.guidance import GuidedDenoiser as GuidedDenoiser
    from hgd_tf.guidance import Term as Term
    from hgd_tf.guidance import parse_guidance as parse_guidance
    from hgd_tf.targets import Target as Target
    from hgd_tf.targets import load_target as load_target

__version__ = "0.2.0"

if starts_a_command():
    mute_tensorflow()

_NAMES = {
    "hgd_tf.attacks": "METHODS GradientAttack Roles SignGradientAttack SquareAttack adaptive_ifgsm decayed_ifgsm fgsm "
    "ifgsm momentum_ifgsm no_op projected_gradient_descent sign_noise",
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
    "hgd_tf.evaluation.attack_suite": "AttackSuite",
    "hgd_tf.evaluation.attacked_folders": "evaluate_attacked",
    "hgd_tf.evaluation.certificates": "evaluate_certified",
    "hgd_tf.evaluation.evaluate": "TestSets craft_test_sets evaluate_defense",
    "hgd_tf.evaluation.perturbation": "perturbation_levels perturbation_slope",
    "hgd_tf.evaluation.sanity": "sanity_checks",
    "hgd_tf.evaluation.smoothing": "Smoothed",
    "hgd_tf.evaluation.threat_models": "ThreatModel read_threat_models",
    "hgd_tf.guidance": "GUIDANCES Guidance GuidedDenoiser Term parse_guidance",
    "hgd_tf.foundation.stack": "keras",
    "hgd_tf.targets": "Target load_target",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
