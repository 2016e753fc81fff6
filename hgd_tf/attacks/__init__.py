"""Attacks within a ball, the recipes of the paper's sets, and the sets themselves."""

from hgd_tf.attacks.attacked import Attacked
from hgd_tf.attacks.gradient_attack import GradientAttack
from hgd_tf.attacks.losses import LOSSES
from hgd_tf.attacks.methods import (
    METHODS,
    adaptive_ifgsm,
    decayed_ifgsm,
    fgsm,
    ifgsm,
    momentum_ifgsm,
    no_op,
    projected_gradient_descent,
    sign_noise,
)
from hgd_tf.attacks.recipes import (
    TEST_SETS,
    TRAINING_RECIPES,
    VALIDATION_RECIPES,
    Recipe,
    Roles,
    bind,
    check_players,
    draw_epsilon,
)
from hgd_tf.attacks.sign_gradient import SignGradientAttack
from hgd_tf.attacks.square import SquareAttack
