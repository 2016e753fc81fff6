"""Timing of programs that take turns in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable

import numpy as np

WARM_UP = 2


def median_seconds(programs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each program over `rounds` turns, after `WARM_UP` turns."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + WARM_UP):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[WARM_UP:])) for name, values in seconds.items()}
