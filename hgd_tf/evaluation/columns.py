"""The columns of a results table, each with its threat model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from hgd_tf.data.transports import NONE

OBLIVIOUS = "oblivious"
TRANSFER = "transfer"
END_TO_END = "end to end"
BUT_FOR_TRANSPORT = "end to end but for the transport"


class Setting(NamedTuple):
    """Where a table's images are attacked, and what happens to them then.

    Attributes:
      side: of the attacked images in pixels; None: that of the images as they are read, the target's own.
      transport: as `hgd_tf/data/transports.py` spells it.
    """

    side: Optional[int] = None
    transport: str = NONE

    def key(self, key: str) -> str:
        """A column's or an attack's key in files, under this setting: `KEY[@SIDE][+TRANSPORT]`."""
        column, *attack = key.split("/")
        at_side = "" if self.side is None else f"@{self.side}"
        transport = "" if self.transport == NONE else f"+{self.transport}"
        return "/".join([f"{column}{at_side}{transport}", *attack])


class Column(NamedTuple):
    """A set of test images: key in files, title, threat model, epsilon in pixel units (0: clean), and its setting."""

    key: str
    title: str
    threat_model: str
    epsilon: int
    setting: Setting = Setting()


COLUMNS = (
    Column("clean", "Clean", "no attack", 0),
    Column("white_eps4", "White ε=4", OBLIVIOUS, 4),
    Column("white_eps16", "White ε=16", OBLIVIOUS, 16),
    Column("black_eps4", "Black ε=4", TRANSFER, 4),
    Column("black_eps16", "Black ε=16", TRANSFER, 16),
    Column("adaptive_eps4", "Adaptive ε=4", END_TO_END, 4),
    Column("adaptive_eps16", "Adaptive ε=16", END_TO_END, 16),
)
STORED_COLUMNS = tuple(column for column in COLUMNS if column.threat_model in (OBLIVIOUS, TRANSFER))
ADAPTIVE_COLUMNS = tuple(column for column in COLUMNS if column.threat_model == END_TO_END)


def columns_of(settings: Sequence[Setting]) -> list[Column]:
    """All columns under each setting; an adaptive attack that a transport follows is not said to know all."""
    return [
        column._replace(key=setting.key(column.key), threat_model=_threat_model(column, setting), setting=setting)
        for setting in settings
        for column in COLUMNS
    ]


def _threat_model(column: Column, setting: Setting) -> str:
    ignorant = column.threat_model == END_TO_END and setting.transport != NONE
    return BUT_FOR_TRANSPORT if ignorant else column.threat_model


LEGEND = (
    "White (oblivious): the attack knows the target and its ensemble, not the defence before it.",
    "Black (transfer): the attack knows neither; it is made on a network held out of all training.",
    "Adaptive (end to end): 20 steps of ε/8 from a random start, through denoiser and target, on the true label.",
)
TRANSPORT_LEGEND = (
    "What happens to attacked images on their way (…, then …) is known to no attack, not even to Adaptive."
)
