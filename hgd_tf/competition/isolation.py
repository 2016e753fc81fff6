"""Running a program that may do anything: in a process group of its own, within a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from hgd_tf.checkpoints.locate import DIRECTORY_VARIABLE, chosen_directory

CANNOT_START = 126  # as shells report a file that cannot be executed
POLL_SECONDS = 0.02


class Cancelled(Exception):
    """The run was stopped before its end."""


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
      seconds: that it took.
      status: as in `subprocess`, negative: by that signal; None: killed at the time limit.
    """

    seconds: float
    status: Optional[int]


def run_isolated(
    command: Sequence[Union[str, Path]], directory: Path, log: Path, time_limit: float, stop: threading.Event
) -> Ended:
    """Runs a program; it and its children are dead afterwards.

    A child that leaves the process group (setsid) is not found.

    Args:
      log: file for stdout and stderr.
      time_limit: seconds, after which the whole group is killed.
      stop: set by who wants it to end at once.

    Raises:
      Cancelled: `stop` was set.
    """
    start = time.monotonic()
    with open(log, "ab") as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            output.write(f"{command[0]} cannot be started: {error}\n".encode())
            return Ended(time.monotonic() - start, CANNOT_START)
    with _killed_in_the_end(process):
        while process.poll() is None and time.monotonic() - start < time_limit:
            if stop.wait(POLL_SECONDS):
                raise Cancelled
        return Ended(time.monotonic() - start, process.returncode)


def _environment() -> dict[str, str]:
    """This process's, with its Python for entries that ask for one, and no caches written beside an entry's code."""
    weights = {} if chosen_directory() is None else {DIRECTORY_VARIABLE: str(chosen_directory())}
    return {"PYTHON": sys.executable, **os.environ, **weights, "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def _killed_in_the_end(process: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        # Where nobody is left, there is nobody to kill.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
