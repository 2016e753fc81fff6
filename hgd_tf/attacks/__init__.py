"""Attacks within an L-infinity ball, the recipes of the paper's sets, and the sets themselves."""

from hgd_tf.attacks.craft import craft, draw_epsilon
from hgd_tf.attacks.recipes import TEST_SETS, TRAIN_SET, VALIDATION_SET, Recipe, Roles, bind
from hgd_tf.attacks.sets import AttackedSet, SetCrafter
from hgd_tf.attacks.sign_gradient import SignGradientAttack, ifgsm_steps, projected_gradient_descent_steps

__all__ = [
    "TEST_SETS",
    "TRAIN_SET",
    "VALIDATION_SET",
    "AttackedSet",
    "Recipe",
    "Roles",
    "SetCrafter",
    "SignGradientAttack",
    "bind",
    "craft",
    "draw_epsilon",
    "ifgsm_steps",
    "projected_gradient_descent_steps",
]
