"""Whether attacks on a defence can be believed (after Carlini et al. 2019, arXiv 1902.06705, and AutoAttack's checks).

A defence that hides its gradients seems to hold. Each check fails where that is likely, and says by which figure.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from hgd_tf.attacks.losses import LOSSES
from hgd_tf.data import LabeledImages
from hgd_tf.evaluation.attack_suite import AttackSuite, Held
from hgd_tf.evaluation.attackers import ALIKE, SOME_IMAGES, AnyDefense, Model, answers_apart
from hgd_tf.evaluation.threat_models import SQUARE, TRANSFER, ThreatModel
from hgd_tf.foundation.pixel_range import PIXEL_MAX

UNBOUNDED = 128.0  # a radius at which every image can be made grey
NUDGE = 0.25  # pixel units, of a finite difference
FEW_QUERIES = 300


class Check(NamedTuple):
    """One check: what it says, whether it holds, and by which figure."""

    name: str
    passed: bool
    figure: str

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.figure}"


def sanity_checks(
    defense: AnyDefense,
    images: LabeledImages,
    epsilon: float,
    holdout: Optional[Model] = None,
    expectation: int = 1,
) -> list[Check]:
    """Checks attacks on a defence, by attacks of its own on the images.

    Args:
      defense: as in `AttackSuite`.
      images: uint8 (N, H, W, C) with their classes; 50 are enough, and few are checked less sharply.
      epsilon: L-infinity radius in pixel units at which attacks are compared: the largest that is claimed.
      holdout: attacked for the transfer; None: that check is left out.
      expectation: gradients averaged for a step by those attacks whose figures the checks are about.
    """
    some = images.head(SOME_IMAGES)
    attackers = {
        "known": ThreatModel(key="known", epsilon=epsilon, expectation=expectation),
        "more": ThreatModel(key="more", epsilon=epsilon, steps=50, restarts=2, expectation=expectation),
        "unbounded": ThreatModel(key="unbounded", epsilon=UNBOUNDED, expectation=expectation),
        "square": ThreatModel(key="square", method=SQUARE, epsilon=epsilon, steps=FEW_QUERIES),
    }
    if holdout is not None:
        attackers["transfer"] = ThreatModel(key="transfer", knowledge=TRANSFER, epsilon=epsilon)
    suite = AttackSuite({"": defense}, list(attackers.values()), images, holdout=holdout)
    held = {key: suite.attack("", key) for key in attackers}
    return [
        *_of_answers(defense, some, expectation),
        *_of_gradients(defense, some),
        _rises(held["known"]),
        _at_most_one_percent(held["unbounded"]),
        _not_weaker("more steps and restarts", held["more"], "20 steps", held["known"]),
        *(
            _not_weaker("20 steps end to end", held["known"], name, held[name])
            for name in (TRANSFER, SQUARE)
            if name in held
        ),
    ]


def _of_answers(defense: AnyDefense, images: LabeledImages, expectation: int) -> list[Check]:
    pixels = tf.constant(images.images, tf.float32)
    answers, apart = np.asarray(defense(pixels)["logits"], np.float64), answers_apart(defense, images.images)
    alike = apart <= ALIKE
    known = "" if alike else f", attacked with the mean of {expectation} gradients"
    probable = bool(np.all(answers >= 0) and np.allclose(answers.sum(axis=1), 1.0, atol=1e-3))
    return [
        Check("answers twice alike, or is attacked with expectation", alike or expectation > 1, f"{apart:.1g}{known}"),
        Check("outputs are logits", not probable, f"{answers.min():.3g} to {answers.max():.3g}"),
    ]


def _of_gradients(defense: AnyDefense, images: LabeledImages) -> list[Check]:
    """That there are gradients, and that the margin changes along them as they say."""
    labels = tf.constant(images.labels, tf.int64)
    points = tf.constant(images.images, tf.float32)
    usual = _gradient(defense, points, labels, "cross_entropy")
    finite = np.isfinite(usual).all()
    present = float(np.mean(np.any(usual != 0, axis=(1, 2, 3))))
    gradient = _gradient(defense, points, labels, "margin")
    step = NUDGE * np.sign(np.nan_to_num(gradient))
    ends = [tf.clip_by_value(points + way * step, 0.0, PIXEL_MAX) for way in (1.0, -1.0)]
    ahead, behind = (np.asarray(_loss(defense, end, labels, "margin")) for end in ends)
    promised = np.sum(np.asarray(ends[0] - ends[1]) * gradient, axis=(1, 2, 3))
    kept = float(np.median((ahead - behind) / np.maximum(promised, 1e-12)))
    return [
        Check(
            "gradients are numbers, and not zero", bool(finite and present >= 0.9), f"of {present:.0%} of the images"
        ),
        Check(
            "the loss changes as its gradient says",
            bool(0.5 <= kept <= 1.5),
            f"by {kept:.2f} of that, over {2 * NUDGE:g} pixel units",
        ),
    ]


def _loss(defense: AnyDefense, points: tf.Tensor, labels: tf.Tensor, name: str) -> tf.Tensor:
    return LOSSES[name](tf.cast(defense(points)["logits"], tf.float32), labels)


def _gradient(defense: AnyDefense, points: tf.Tensor, labels: tf.Tensor, name: str) -> np.ndarray:
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = _loss(defense, points, labels, name)
    return np.asarray(tape.gradient(loss, points, unconnected_gradients=tf.UnconnectedGradients.ZERO))


def _rises(held: Held) -> Check:
    losses = np.asarray(held.losses)
    first, last = (float(losses[0]), float(losses[-1])) if len(losses) else (np.nan, np.nan)
    nothing_to_attack = not len(losses)
    return Check(
        "the mean loss rises along the attack", nothing_to_attack or last > first, f"{first:.3g} to {last:.3g}"
    )


def _at_most_one_percent(held: Held) -> Check:
    return Check(f"at most 1 % at ε={UNBOUNDED:g}", held.accuracy <= 0.01, f"{held.accuracy:.1%}")


def _not_weaker(stronger: str, of_stronger: Held, weaker: str, of_weaker: Held) -> Check:
    """That the attack which should be the stronger one leaves no more, by more than two standard errors."""
    error = 2 * np.hypot(of_stronger.standard_error, of_weaker.standard_error)
    return Check(
        f"{stronger} leave no more than {weaker}",
        bool(of_stronger.accuracy <= of_weaker.accuracy + max(error, 1 / len(of_weaker.answers))),
        f"{of_stronger.accuracy:.1%} against {of_weaker.accuracy:.1%}",
    )
