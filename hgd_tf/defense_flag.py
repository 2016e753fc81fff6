"""The flag that says what classifies, under one name in every command; and its names of before."""

from __future__ import annotations

import sys
from typing import Optional

from absl import flags

NAME, WHAT = "defense", "A training run's folder, a defense that comes with the package, or the JSON file of a line-up."
ONE = f"expected one defense, as --{NAME}"

flags.disclaim_key_flags()  # what is defined here is in the --help of the command that asks for it


class _OldName(flags.Flag):
    """What stood in the flag's place: it says so, and passes its value on."""

    def parse(self, argument: str) -> None:
        print(f"--{self.name} is --{NAME} now", file=sys.stderr)
        super().parse(argument)
        defense = flags.FLAGS[NAME]
        if not defense.using_default_value and defense.value != argument:
            raise flags.IllegalFlagValueError(f"{ONE}, received {defense.value} and {argument}")
        defense.parse(argument)
        defense.using_default_value = False


def define_defense(*old_names: str, default: Optional[str] = None, required: bool = False) -> flags.FlagHolder:
    """The flag, whose value `load_defense` takes, and those of what it loads; no `--help` shows the old names."""
    for name in old_names:
        old = _OldName(flags.ArgumentParser(), None, name, None, f"Old name of --{NAME}.")
        flags.DEFINE_flag(old, module_name=__name__)
    for shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
        flags.declare_key_flag(shared)
    holder = flags.DEFINE_string(NAME, default, WHAT, required=required)
    if old_names:
        flags.register_multi_flags_validator(
            [NAME, *old_names],
            lambda values: all(values[name] in (None, values[NAME]) for name in old_names),
            ONE,
        )
    return holder
