"""Scores of attacks and defences from what the defences said, as the NIPS 2017 competition computed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

NO_LABEL = 0  # of the background class, which is never right


class Classifications(NamedTuple):
    """What D defences said about N images, each attacked by A attacks. Labels are the competition's, 1..1000.

    Attributes:
      attacks: A names.
      targeted: (A,), bool: which of them are targeted.
      defenses: D names.
      image_ids: N names.
      true_labels: (N,), int.
      target_classes: (N,), int: what targeted attacks are to reach.
      written: (A, N), bool: whether the attack wrote the image.
      predicted: (A, D, N), int: labels; `NO_LABEL` where there is none, or none that can be right.
    """

    attacks: list[str]
    targeted: np.ndarray
    defenses: list[str]
    image_ids: list[str]
    true_labels: np.ndarray
    target_classes: np.ndarray
    written: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """(A, D, N), bool: whether the true label was said."""
        return (self.predicted == self.true_labels) & self.written[:, np.newaxis]

    @property
    def hits(self) -> np.ndarray:
        """(A, D, N), bool: whether the target class was said; never for an attack that is not targeted."""
        reached = (self.predicted == self.target_classes) & self.written[:, np.newaxis]
        return reached & self.targeted[:, np.newaxis, np.newaxis]

    @property
    def complete(self) -> np.ndarray:
        """(A,), bool: which attacks wrote every image."""
        return self.written.all(axis=1)


class DefenseScore(NamedTuple):
    """A defence's figures. Those that are fractions are None where no attack wrote every image.

    Attributes:
      score: the development toolkit's: correctly classified images, over all attacks.
      normalized: fraction of correctly classified images, over the attacks that wrote every image.
      worst_accuracy: the least accuracy under one of those attacks.
      worst_image_accuracy: fraction of images that are right under every one of those attacks.
    """

    name: str
    score: int
    normalized: Optional[float]
    worst_accuracy: Optional[float]
    worst_attack: Optional[str]
    worst_image_accuracy: Optional[float]


class AttackScore(NamedTuple):
    """An attack's figures.

    Attributes:
      score: the development toolkit's: images times defences less the correctly classified; of a targeted attack the
        number of times that the target class was said. An image that was not written counts for the former.
      normalized: the score as a fraction of images times defences; None for an attack that did not write every image.
    """

    name: str
    targeted: bool
    score: int
    normalized: Optional[float]
    written: int


def defense_scores(classifications: Classifications) -> list[DefenseScore]:
    """Every defence's figures, the highest score first."""
    correct, complete = classifications.correct, classifications.complete
    scores = []
    for number, name in enumerate(classifications.defenses):
        score = int(correct[:, number].sum())
        if not complete.any():
            scores.append(DefenseScore(name, score, None, None, None, None))
            continue
        scored = correct[complete, number]  # (attacks that wrote every image, N)
        accuracies = scored.mean(axis=1)
        worst = int(accuracies.argmin())
        scores.append(
            DefenseScore(
                name,
                score,
                normalized=float(scored.mean()),
                worst_accuracy=float(accuracies[worst]),
                worst_attack=classifications.attacks[np.flatnonzero(complete)[worst]],
                worst_image_accuracy=float(scored.all(axis=0).mean()),
            )
        )
    return sorted(scores, key=_highest_first)


def attack_scores(classifications: Classifications) -> list[AttackScore]:
    """Every attack's figures: the targeted ones after the others, in either part the highest score first."""
    correct, hits = classifications.correct, classifications.hits
    trials = len(classifications.defenses) * len(classifications.image_ids)
    scores = []
    for number, name in enumerate(classifications.attacks):
        targeted = bool(classifications.targeted[number])
        score = int(hits[number].sum()) if targeted else trials - int(correct[number].sum())
        normalized = score / trials if classifications.complete[number] else None
        scores.append(AttackScore(name, targeted, score, normalized, int(classifications.written[number].sum())))
    return sorted(scores, key=lambda score: (score.targeted, _highest_first(score)))


def _highest_first(score) -> tuple[int, str]:
    return -score.score, score.name


def seconds_for(images: int, runs: Sequence[tuple[float, int]]) -> Optional[float]:
    """The median time of a number of images; None: there was no run.

    Args:
      images: the number; longer and shorter runs are scaled to it in proportion.
      runs: seconds and images of each.
    """
    return float(np.median([seconds * images / count for seconds, count in runs])) if runs else None
