"""The errors that a user can mend. Commands print them on one line and exit with status 1.

Below the commands a message speaks of arguments, in backquotes: `craft='online'`. A command prints its flags for them.
"""


class HgdError(Exception):
    """Base of every error that names what was expected and what was received."""


class DataError(HgdError):
    """Images, labels or a set on disk are missing, truncated or of another kind than expected."""


class TargetError(HgdError):
    """A classifier is unknown, or its file or layers do not fit."""


class RunError(HgdError):
    """A run directory is absent, unfinished, finished already, or of another configuration."""


class CheckpointError(HgdError):
    """A file of weights is missing, damaged, dangerous, or of another network than expected."""


def first_line(error: BaseException) -> str:
    """What an error of another program says, without what it adds on further lines."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
