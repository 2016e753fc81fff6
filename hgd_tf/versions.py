"""Versions of what decides numbers, to stand beside every result."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("tensorflow", "keras", "tf-keras", "cleverhans", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of Python and of what decides numbers, to stand beside every result."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{package}-cpu") if package == "tensorflow" else "absent"
