"""RobustBench's description of a result (Croce et al. 2021, arXiv 2010.09670), as its `model_info` folder has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from hgd_tf.evaluation.attack_suite import Held
from hgd_tf.evaluation.threat_models import END_TO_END, ThreatModel
from hgd_tf.foundation.pixel_range import PIXEL_MAX


def robustbench_card(
    attackers: Sequence[ThreatModel], held: Held, clean: Held, dataset: str, architecture: str
) -> Optional[dict[str, Any]]:
    """The fields that figures fill; the others, and AutoAttack's own figure, are None: they are for whoever submits.

    Args:
      attackers: of one column. ε is of images in [0, 1] there, as a fraction for linf.
      held, clean: of the same defence: under these attackers, and under none.

    Returns:
      None if no attacker knows the defence, which no result there allows, or they differ in norm or radius.
    """
    balls = {(attacker.norm, attacker.epsilon) for attacker in attackers}
    if len(balls) > 1 or all(attacker.knowledge != END_TO_END for attacker in attackers):
        return None
    ((norm, epsilon),) = balls
    by = ", ".join(dict.fromkeys(f"{one.knowledge} {one.method} {one.loss}" for one in attackers))
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": dataset,
        "venue": None,
        "architecture": architecture,
        "eps": f"{epsilon:g}/255" if norm == "linf" else f"{epsilon / PIXEL_MAX:.4g}",
        "clean_acc": f"{100 * clean.accuracy:.2f}",
        "reported": f"{100 * held.accuracy:.2f}",
        "autoattack_acc": None,
        "footnote": f"reported: on {len(held.answers)} images, by {by}",
    }
