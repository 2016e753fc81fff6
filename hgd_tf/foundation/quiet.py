"""TensorFlow imported without the remarks on the machine that it writes to standard error, whatever its log level."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator


def starts_a_command() -> bool:
    """Whether `python -m hgd_tf.COMMAND` is what imports the package, and no program that has a say of its own."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith("<frozen importlib") and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_globals.get("__name__") == "runpy"


def mute_tensorflow() -> None:
    """Makes the coming import of TensorFlow silent, and its later remarks of less weight than an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _SilentImport())


class _SilentImport(importlib.abc.MetaPathFinder):
    """TensorFlow 2.18 and later write through file descriptor 2 before they know of a log level."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = _silently(spec.loader.exec_module)
        return spec


def _silently(execute):
    def execute_silently(module):
        with _standard_error_closed():
            execute(module)

    return execute_silently


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
