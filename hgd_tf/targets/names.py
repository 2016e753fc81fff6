"""Names that people give, as names that TensorFlow admits."""

from __future__ import annotations

import re


def scope_name(name: str) -> str:
    """The name of a scope for any text: letters, digits, and `_.-/` stay, all else becomes `_`; never empty."""
    name = re.sub(r"[^A-Za-z0-9_./-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else f"m{name}"
