"""What every command shares: errors on one line, exit codes, no noise."""

from __future__ import annotations

import functools
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Callable

from absl import app, flags
from absl import logging as absl_logging

from hgd_tf.checkpoints.locate import DIRECTORY_VARIABLE, set_checkpoint_directory
from hgd_tf.errors import HgdError
from hgd_tf.flag_files import expanded
from hgd_tf.foundation.old_names import NEW_NAMES, with_new_names

_CHECKPOINT_DIR = flags.DEFINE_string(
    "checkpoint_dir",
    None,
    f"Where published weights of ImageNet targets lie; default: ${DIRECTORY_VARIABLE}, or a folder in your cache.",
)

_CUSTOM_OBJECTS = flags.DEFINE_string(
    "custom_objects", None, "Python module with the layers and functions that files of Keras models need."
)
_SAFE_MODE = flags.DEFINE_bool(
    "safe_mode", True, "Refuse files of Keras models with Python code inside (Lambda layers)."
)

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run(main: Callable[[Sequence[str]], None], allow_arguments: bool = False) -> None:
    """Parses the flags and runs `main(arguments)`; never returns.

    Args:
      main: receives the positional arguments, without the program's name.
    """

    def guarded(argv: Sequence[str]) -> int:
        arguments = argv[1:]
        if _CHECKPOINT_DIR.value:
            set_checkpoint_directory(_CHECKPOINT_DIR.value)
        try:
            if _CUSTOM_OBJECTS.value or not _SAFE_MODE.value:
                from hgd_tf.targets.reading import ask_by_default  # needs TensorFlow, which start-up without may do

                ask_by_default(_CUSTOM_OBJECTS.value, _SAFE_MODE.value)
            main(arguments)
        except (HgdError, OSError) as error:
            return _fail(_with_flags(str(error)))
        except KeyboardInterrupt:
            print("\ninterrupted; the same command goes on where this one stopped", file=sys.stderr)
            return INTERRUPTED
        return 0

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.ERROR)  # TensorFlow 2.18 and later report there too
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app.run(guarded, flags_parser=functools.partial(_parse_flags, allow_arguments))


def _parse_flags(allow_arguments: bool, argv: Sequence[str]) -> list[str]:
    try:
        parsed = flags.FLAGS([argv[0], *_with_new_names(expanded(argv[1:]))])
        if parsed[1:] and not allow_arguments:
            raise HgdError(f"unexpected argument {parsed[1]!r}: this command takes flags only (see --helpshort)")
        return parsed
    except (flags.Error, HgdError, OSError) as error:
        sys.exit(_fail(str(error)))


def _with_new_names(arguments: Sequence[str]) -> list[str]:
    """The arguments with flags' names of today."""
    given, others, rest = [], [], list(arguments)
    while rest and rest[0] != "--":
        argument = rest.pop(0)
        flag = re.fullmatch(r"--?(\w+)(?:=(.*))?", argument, re.DOTALL)
        if flag and flag[1] in {*NEW_NAMES, *NEW_NAMES.values()} and (flag[2] is not None or rest):
            given.append((flag[1], rest.pop(0) if flag[2] is None else flag[2]))
        else:
            others.append(argument)
    renamed = with_new_names(given, set(flags.FLAGS), "--", functools.partial(print, file=sys.stderr))
    return [*(f"--{name}={value}" for name, value in renamed), *others, *rest]


def _with_flags(message: str) -> str:
    """With arguments that the library names, as in `overwrite=True`, spelled as this command's flags: --overwrite."""

    def spelled(found: re.Match[str]) -> str:
        name, value = found[1], (found[2] or "").strip("'\"")
        if name not in flags.FLAGS:
            return found[0]
        if value in ("True", "False"):
            return f"--{'no' if value == 'False' else ''}{name}"
        return f"--{name}={value}" if value else f"--{name}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", spelled, message)


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 1
