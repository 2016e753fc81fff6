"""The attacks as data: each is a schedule of the one loop's steps, or several schedules tried one after the other.

`METHODS` names those that recipes, commands and the competition's directories use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FROM_IMAGE, FROM_UNIFORM, FROM_SIGNS = "image", "uniform", "signs"


class Schedule(NamedTuple):
    """One run of the loop.

    Attributes:
      steps: the length of each step, in units of epsilon.
      start: the image itself; a `uniform` point of the ball around it; or one of the ball's corners (`signs`).
      momentum: how much of the earlier gradients, each divided by its mean absolute value, a step keeps.
      diversity: with which probability a step's gradient is that at the image shrunk at random to 0.9 to 1 of its
        sides, and padded with black, drawn anew for each step and image (Xie et al. 2019, arXiv 1803.06978).
      translation: side, in pixels, of the Gaussian kernel that each gradient is convolved with, which spans 3 standard
        deviations either way (Dong et al. 2019, arXiv 1904.02884); 0: none.
      nesterov: whether the gradient is that ahead of the image, moved by the step's length times momentum times the
        earlier gradients, as the momentum keeps them (Lin et al. 2020, arXiv 1908.06281).
      scales: the gradient is the mean over this many copies, of which each has half the pixel values of that before it
        (the same paper; its program halves values in [-1, 1], towards grey instead of black).
      admix: how much of another image, of another class if there is one, is added to each copy, which is not clipped
        (Wang et al. 2021, arXiv 2102.00436); drawn anew for each step and image; 0: none.
      admix_images: the other images that are mixed in, one a copy; each mixture has its `scales`.
      neighbours: the gradient is tuned by its variance, which is the mean gradient less the gradient itself, at the
        step before; the mean is over as many uniform points around it (Wang and He 2021, arXiv 2103.15571); 0: none.
      neighbourhood: how far these points are away at most, in units of epsilon.
    """

    steps: tuple[float, ...]
    start: str = FROM_IMAGE
    momentum: float = 0.0
    diversity: float = 0.0
    translation: int = 0
    nesterov: bool = False
    scales: int = 1
    admix: float = 0.0
    admix_images: int = 3
    neighbours: int = 0
    neighbourhood: float = 1.5

    @property
    def copies(self) -> int:
        """Of an image, over which a gradient is the mean."""
        return self.scales * (self.admix_images if self.admix else 1)


Method = tuple[Schedule, ...]
"""Schedules, each run on the images that those before it left unfooled; most methods are of one."""


def no_op() -> Method:
    """The image as it is (appendix D)."""
    return (Schedule(()),)


def sign_noise() -> Method:
    """Each value plus or minus epsilon with equal chance (appendix D)."""
    return (Schedule((), FROM_SIGNS),)


def fgsm() -> Method:
    """The fast gradient sign method (Goodfellow et al. 2015; section 2.1): one step of epsilon."""
    return ifgsm(1)


def ifgsm(
    count: int,
    *,
    momentum: float = 0.0,
    diversity: float = 0.0,
    translation: int = 0,
    nesterov: bool = False,
    scales: int = 1,
    admix: float = 0.0,
    admix_images: int = 3,
    neighbours: int = 0,
    neighbourhood: float = 1.5,
) -> Method:
    """Iterative FGSM (Kurakin et al. 2017; section 2.1): `count` steps of epsilon / count.

    Args:
      count: steps.
      momentum, diversity, translation: as in `Schedule`; the authors' choices are 1, 0.5 and 15.
      nesterov, scales, admix, admix_images: as in `Schedule`; the authors' choices are true, 5, 0.2 and 3.
      neighbours, neighbourhood: as in `Schedule`; the authors' choices are 20 and 1.5.

    Raises:
      ValueError: count, scales or admix_images is below 1, diversity no probability, translation neither 0 nor odd,
        admix, neighbours or neighbourhood is negative, or nesterov is without momentum.
    """
    if not 0.0 <= diversity <= 1.0:
        raise ValueError(f"expected a probability as diversity, received {diversity}")
    if translation < 0 or (translation and translation % 2 == 0):
        raise ValueError(f"expected 0 or an odd number of pixels as translation, received {translation}")
    if nesterov and not momentum:
        raise ValueError(f"expected a momentum that nesterov looks ahead along, received {momentum}")
    for name, value in (("admix", admix), ("neighbours", neighbours), ("neighbourhood", neighbourhood)):
        if value < 0:
            raise ValueError(f"expected at least 0 as {name}, received {value}")
    steps = (1.0 / _positive(count),) * count
    copies = (_positive(scales), admix, _positive(admix_images))
    ahead = (momentum, diversity, translation, nesterov)
    return (Schedule(steps, FROM_IMAGE, *ahead, *copies, neighbours, neighbourhood),)


def momentum_ifgsm(count: int, momentum: float = 1.0) -> Method:
    """Momentum IFGSM (Dong et al. 2018, arXiv 1710.06081): along the sum of gradients of unit mean absolute value.

    Args:
      count: steps, of epsilon / count.
      momentum: factor on the sum so far; 1 is the authors' choice.

    Raises:
      ValueError: count is below 1.
    """
    return ifgsm(count, momentum=momentum)


def decayed_ifgsm(steps: Sequence[float]) -> Method:
    """Appendix D's dIFGSM: steps of given lengths, in units of epsilon."""
    return (Schedule(tuple(steps)),)


def adaptive_ifgsm(*methods: Method) -> Method:
    """Appendix D's adaIFGSM: methods of growing power, the next only where the attacked models are not all fooled."""
    return sum(methods, ())


def projected_gradient_descent(count: int, fraction: float, restarts: int = 1) -> Method:
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083) from uniformly random points of the ball.

    Args:
      count: steps, of fraction * epsilon.
      fraction: of epsilon.
      restarts: starts, each only where those before it failed.

    Raises:
      ValueError: count or restarts is below 1.
    """
    return (Schedule((fraction,) * _positive(count), FROM_UNIFORM),) * _positive(restarts)


def linear_decay(count: int) -> tuple[float, ...]:
    """Steps that fall linearly and sum to epsilon: for 4, (0.4, 0.3, 0.2, 0.1)."""
    return tuple(2.0 * (count - number) / (count * (count + 1)) for number in range(_positive(count)))


def _positive(count: int) -> int:
    if count < 1:
        raise ValueError(f"expected at least 1, received {count}")
    return count


METHODS: dict[str, Method] = {
    "no_op": no_op(),
    "sign_noise": sign_noise(),
    "fgsm": fgsm(),
    **{f"ifgsm{count}": ifgsm(count) for count in (2, 4, 5, 8, 10, 20)},
    **{f"momentum_ifgsm{count}": momentum_ifgsm(count) for count in (4, 10)},
    "diverse_ifgsm4": ifgsm(4, diversity=0.5),
    "invariant_ifgsm4": ifgsm(4, translation=15),
    **{
        f"diverse_invariant_momentum_ifgsm{count}": ifgsm(count, momentum=1.0, diversity=0.5, translation=15)
        for count in (4, 10)
    },
    "nesterov_ifgsm10": ifgsm(10, momentum=1.0, nesterov=True),
    "scale_momentum_ifgsm10": ifgsm(10, momentum=1.0, scales=5),
    "scale_nesterov_ifgsm10": ifgsm(10, momentum=1.0, nesterov=True, scales=5),
    "scale_nesterov_diverse_invariant_ifgsm10": ifgsm(
        10, momentum=1.0, diversity=0.5, translation=15, nesterov=True, scales=5
    ),
    "admix_momentum_ifgsm10": ifgsm(10, momentum=1.0, scales=5, admix=0.2),
    "variance_momentum_ifgsm10": ifgsm(10, momentum=1.0, neighbours=20),
    "variance_nesterov_ifgsm10": ifgsm(10, momentum=1.0, nesterov=True, neighbours=20),
    # Appendix D. The paper's text lost the numbers of steps; these are a choice, in its order of growing power.
    "difgsm4": decayed_ifgsm(linear_decay(4)),
    "adaifgsm2": adaptive_ifgsm(decayed_ifgsm(linear_decay(4)), ifgsm(10)),
    "adaifgsm3": adaptive_ifgsm(decayed_ifgsm(linear_decay(4)), decayed_ifgsm(linear_decay(10)), ifgsm(20)),
    "adaifgsm5": adaptive_ifgsm(fgsm(), ifgsm(2), ifgsm(4), ifgsm(8), ifgsm(20)),
    "pgd20": projected_gradient_descent(20, 1 / 8),
    "pgd20_restarts5": projected_gradient_descent(20, 1 / 8, restarts=5),
}
