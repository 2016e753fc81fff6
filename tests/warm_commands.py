"""Commands in forks of one process that has TensorFlow imported, which takes longer than most of them.

What only a process of its own shows (a quiet start, signals, the interpreter's own exit) is tested in one.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

# It imports what the commands do but their flags, and starts nothing of TensorFlow, whose threads no fork inherits.
SERVER = """
import json, os, runpy, sys, traceback

from hgd_tf.foundation.quiet import mute_tensorflow

mute_tensorflow()
import hgd_tf.competition.attack_folder, hgd_tf.submissions.packaging, hgd_tf.competition.runner
import hgd_tf.crafting.job, hgd_tf.crafting.verify, hgd_tf.evaluation.described_table, hgd_tf.targets.verification
import hgd_tf.study

def run(logs, folder, environment, module, arguments):
    for stream in (1, 2):
        os.dup2(os.open(f"{logs}/{stream}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status or 0)  # at once: taking TensorFlow down takes a second

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


def run_warm(
    folder: Path,
    module: str,
    arguments: Sequence[str],
    environment: Optional[Mapping[str, str]] = None,
    installed: Optional[Path] = None,
) -> Outcome:
    """Runs `python -m MODULE` in a folder; environment variables are added to this process's.

    `installed`: a folder with another package than that of this process.
    """
    server, logs = _server(installed)
    job = [str(logs), str(folder), dict(environment or {}), module, list(map(str, arguments))]
    print(json.dumps(job), file=server.stdin, flush=True)
    status = int(server.stdout.readline())
    return Outcome(status, *((logs / stream).read_text() for stream in "12"))


@functools.cache
def _server(installed: Optional[Path]) -> tuple[subprocess.Popen, Path]:
    logs = tempfile.TemporaryDirectory()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    if installed:
        environment["PYTHONPATH"] = str(installed)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=installed,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_stop, server, logs)
    return server, Path(logs.name)


def _stop(server: subprocess.Popen, logs: tempfile.TemporaryDirectory) -> None:
    server.stdin.close()
    server.wait()
    logs.cleanup()
