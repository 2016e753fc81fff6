"""The columns of a results table, each with its threat model."""

from __future__ import annotations

from typing import NamedTuple

OBLIVIOUS = "oblivious"
TRANSFER = "transfer"
END_TO_END = "end to end"


class Column(NamedTuple):
    """A set of test images: key in files, title, threat model and epsilon in pixel units (0: clean)."""

    key: str
    title: str
    threat_model: str
    epsilon: int


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

LEGEND = (
    "White (oblivious): the attack knows the target and its ensemble, not the defence before it.",
    "Black (transfer): the attack knows neither; it is made on a network held out of all training.",
    "Adaptive (end to end): 20 steps of ε/8 from a random start, through denoiser and target, on the true label.",
)
