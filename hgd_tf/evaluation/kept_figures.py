"""Figures of an unfinished evaluation, in a file beside its results, so that the same command goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from hgd_tf.files import write_json
from hgd_tf.foundation.stack import keras

Figures = dict[str, Sequence[float]]  # accuracy and denoising loss by defence; of an adaptive attack by transport


class KeptFigures:
    """What an evaluation's steps measured.

    Args:
      path: of the file; None: nothing is kept.
      identity: of all that the figures depend on. A file of another identity counts as absent.
    """

    def __init__(self, path: Optional[Path] = None, identity: str = ""):
        self._path = path
        self._identity = identity
        self._steps: dict[str, Any] = _read(path, identity)

    def measured(self, step: str, measure: Callable[[], Any], skip: Callable[[], Any] = lambda: None) -> Any:
        """The step's figures, of JSON types: those kept, after `skip()`, or what `measure()` gives, which is kept."""
        if step in self._steps:
            skip()
        else:
            self._steps[step] = measure()
            if self._path is not None:
                write_json(self._path, {"identity": self._identity, "steps": self._steps})
        return self._steps[step]


def _read(path: Optional[Path], identity: str) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(kept, dict) or kept.get("identity") != identity:
        return {}
    return kept["steps"]


def identity(description: Any, models: Iterable[keras.Model], arrays: Iterable[np.ndarray]) -> str:
    """A digest of a description (JSON types), of models with their weights, and of arrays."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for model in models:
        digest.update(repr(model.get_config()).encode())
        for weight in model.get_weights():
            digest.update(np.ascontiguousarray(weight).data)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
