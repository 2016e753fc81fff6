"""Who attacks, as data: what the attacker knows, does and may change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from hgd_tf.attacks import LOSSES
from hgd_tf.data.transports import NONE, Transport
from hgd_tf.errors import HgdError, RunError
from hgd_tf.foundation.description import (
    POSITIVE,
    Rule,
    at_least,
    check,
    one_of,
    read,
    read_json,
    refuse,
    setting,
    within,
)

NOTHING, OBLIVIOUS, TRANSFER, END_TO_END = "none", "oblivious", "transfer", "end_to_end"
PGD, APGD, SQUARE = "pgd", "apgd", "square"
EXACT, IDENTITY = "exact", "identity"
UNTARGETED_LOSSES = tuple(name for name in LOSSES if not name.startswith("targeted_"))
IS_TRANSPORT = Rule("a transport, such as jpeg:75", lambda name: Transport(name).name)


@dataclasses.dataclass(frozen=True)
class ThreatModel:
    """One attacker. Of several attacks with one key, an image counts as held only if all of them fail on it."""

    key: str = setting("", "Of the column in files; attackers of one key are one column.")
    title: str = setting("", "Of the column in tables; default: the key.")
    knowledge: str = setting(
        END_TO_END,
        "none: no attack; oblivious: the classifiers without their denoisers; transfer: `networks` alone; end_to_end: "
        "all of the defence.",
        one_of((NOTHING, OBLIVIOUS, TRANSFER, END_TO_END)),
    )
    method: str = setting(PGD, "Step rule, or square: by answers alone, no gradients.", one_of((PGD, APGD, SQUARE)))
    loss: str = setting("cross_entropy", "Which the attacker raises.", one_of(UNTARGETED_LOSSES))
    targets: int = setting(
        0, "0: away from the label; else towards that many of the likeliest wrong classes, one by one.", at_least(0)
    )
    norm: str = setting("linf", "Of the perturbation.", one_of(("linf", "l2")))
    epsilon: float = setting(4.0, "Radius in pixel units, of that norm; may be fractional.", POSITIVE)
    steps: int = setting(20, "Steps; of square, queries an image.", at_least(1))
    step: float = setting(1 / 8, "Length of pgd's steps, in units of epsilon.", POSITIVE)
    momentum: float = setting(0.0, "Of pgd: how much of the earlier gradients a step keeps.", within(0, 1))
    backward: str = setting(
        EXACT, "Gradients through denoisers: exact, or as if each were the identity (BPDA).", one_of((EXACT, IDENTITY))
    )
    restarts: int = setting(1, "Random starts; each on the images that are still held.", at_least(1))
    expectation: int = setting(1, "Gradients averaged for a step: for defences with randomness.", at_least(1))
    rounding: bool = setting(False, "Whether the attacked image is rounded to whole pixel values.")
    side: Optional[int] = setting(None, "Side of the attacked images in pixels; default: the target's.", at_least(8))
    transport: str = setting(NONE, "What happens to attacked images then; no attack knows of it.", IS_TRANSPORT)
    networks: tuple[str, ...] = setting(
        (), "Attacked together for transfer, classifiers or defences; default: the held-out network."
    )
    images: Optional[int] = setting(
        None, "The first images attacked; default: as for the adaptive columns.", at_least(1)
    )
    seed: int = setting(0, "Of random starts and proposals.", at_least(0))

    def __post_init__(self):
        check(self)
        targeted = self.targets > 0
        refuse(
            {
                f"`networks` go with `knowledge` transfer, received {self.knowledge}": bool(self.networks)
                and self.knowledge != TRANSFER,
                "`targets` go with gradients, not with square": targeted and self.method == SQUARE,
                f"square attacks answers end to end, received `knowledge` {self.knowledge}": self.method == SQUARE
                and self.knowledge not in (END_TO_END, NOTHING),
                f"`backward` {self.backward} is of gradients end to end": self.backward != EXACT
                and (self.knowledge != END_TO_END or self.method == SQUARE),
                f"`momentum` goes with pgd, received {self.method}": self.momentum > 0 and self.method != PGD,
            }
        )
        if not self.key:
            object.__setattr__(self, "key", f"{self.knowledge}_{self.method}_eps{self.epsilon:g}")
        if not self.title:
            object.__setattr__(self, "title", self.key)


CLEAN = ThreatModel(key="clean", title="Clean", knowledge=NOTHING)


def _oblivious(epsilon: float) -> tuple[ThreatModel, ...]:
    """Projected gradient descent on the classifiers alone."""
    return (ThreatModel(knowledge=OBLIVIOUS, epsilon=epsilon),)


def _transfer(epsilon: float) -> tuple[ThreatModel, ...]:
    """The same on the held-out network."""
    return (ThreatModel(knowledge=TRANSFER, epsilon=epsilon),)


def _pgd(epsilon: float) -> tuple[ThreatModel, ...]:
    """Madry et al. 2018: 20 steps of epsilon / 8 from a random start."""
    return (ThreatModel(epsilon=epsilon),)


def _athalye_carlini(epsilon: float) -> tuple[ThreatModel, ...]:
    """Athalye & Carlini 2018, arXiv 1804.03286: 100 steps of one pixel unit (at 4), away from the label and towards
    another class; the likeliest one here."""
    known = ThreatModel(epsilon=epsilon, steps=100, step=1 / 4)
    return (known, dataclasses.replace(known, targets=1))


def _apgd(epsilon: float) -> tuple[ThreatModel, ...]:
    """The gradients of AutoAttack (Croce & Hein 2020, arXiv 2003.01690): APGD on cross-entropy and on the targeted
    difference of logits ratio, 100 steps each."""
    known = ThreatModel(method=APGD, epsilon=epsilon, steps=100)
    return (known, dataclasses.replace(known, loss="dlr", targets=9))


def _square(epsilon: float) -> tuple[ThreatModel, ...]:
    """Andriushchenko et al. 2020, arXiv 1912.00049: 1,000 queries."""
    return (ThreatModel(method=SQUARE, epsilon=epsilon, steps=1000),)


def _worst(epsilon: float) -> tuple[ThreatModel, ...]:
    """All of them, the cheapest first: each attacks what those before it left."""
    makers = (_oblivious, _transfer, _pgd, _apgd, _square)
    return tuple(attacker for maker in makers for attacker in maker(epsilon))


PRESETS = {
    "oblivious": _oblivious,
    "transfer": _transfer,
    "pgd": _pgd,
    "athalye_carlini": _athalye_carlini,
    "apgd": _apgd,
    "square": _square,
    "worst": _worst,
}


def preset(name: str, epsilon: float) -> tuple[ThreatModel, ...]:
    """The attackers of a name in `PRESETS`, all of one column, with the radius in pixel units.

    Raises:
      HgdError: there is no such name, or the radius is not positive.
    """
    if name not in PRESETS:
        raise HgdError(f"expected one of {', '.join(PRESETS)}, or a JSON file, received {name!r}")
    key, title = f"{name}_eps{epsilon:g}", f"{name} ε={epsilon:g}"
    return tuple(dataclasses.replace(attacker, key=key, title=title) for attacker in PRESETS[name](epsilon))


def read_threat_models(
    names: Union[str, Path, Sequence[str]], epsilons: Sequence[float] = (4.0, 16.0)
) -> tuple[ThreatModel, ...]:
    """Presets by name, each at every radius; or a JSON file's array of objects of `ThreatModel`'s fields.

    Raises:
      HgdError, RunError: a name is unknown, or the file is missing, no JSON, or describes something else.
    """
    names = [str(names)] if isinstance(names, (str, Path)) else list(names)
    if len(names) == 1 and names[0].endswith(".json"):
        content = read_json(names[0], "threat models")
        if not isinstance(content, list) or not content:
            raise RunError(f"{names[0]}: expected an array of at least one threat model, received {content!r:.60}")
        try:
            return tuple(read(ThreatModel, each) for each in content)
        except HgdError as error:
            raise RunError(f"{names[0]}: {error}") from error
    return tuple(attacker for name in names for epsilon in epsilons for attacker in preset(name, epsilon))
