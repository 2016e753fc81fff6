"""An ensemble described in a file: its denoisers, its targets, and how images flow through them.

    {
      "denoisers": {"A": {"defense": "efficientnet_lite0_lgd"},
                    "B": {"official": "IncV3_denoiser.ckpt", "preprocessing": "inception"}},
      "targets": {"X": {"name": "efficientnet_lite0", "image_size": 160},
                  "Y": {"name": "inception_v3", "checkpoint": "inception_v3.ckpt"}},
      "flows": ["A->X", "A&B->X&Y", "Y"]
    }

A denoiser is that of a defense (a shipped one's name, or a folder), an official file, or a filter, as
{"filter": "median"}; a target is what `load_target` loads. Paths are relative to the file; official denoisers and
checkpoints are looked for in the folder of published weights too.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

from hgd_tf.checkpoints.locate import checkpoint_directory
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.saving import load_denoiser
from hgd_tf.denoisers import gaussian, load_official_denoiser, median
from hgd_tf.errors import HgdError, RunError
from hgd_tf.targets import load_target

ARROW, AND = "->", "&"
FILTERS = {"gaussian": gaussian, "median": median}
RGB = 3  # channels
NUMBERS = ("image_size", "channels")
SECTIONS = {"denoisers": dict, "targets": dict, "flows": list}

Loader = Callable[[], Any]


class LineUp(NamedTuple):
    """A described ensemble, not loaded yet.

    Attributes:
      path: of its file.
      denoisers: how to load each, by its name.
      targets: the same.
      flows: of each: the names of its denoisers, and of its targets.
    """

    path: Path
    denoisers: dict[str, Loader]
    targets: dict[str, Loader]
    flows: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    def load(self) -> Ensemble:
        """Loads what the flows use, all at a time.

        Raises:
          RunError: files are missing or damaged; the message names every one.
        """
        parts = _load_all(self._used(0, self.denoisers), self._used(1, self.targets), self.path)
        return Ensemble([self._flow(flow, parts) for flow in self.flows])

    def _used(self, side: int, loaders: dict[str, Loader]) -> dict[str, Loader]:
        used = {name for flow in self.flows for name in flow[side]}
        return {name: loader for name, loader in loaders.items() if name in used}

    @staticmethod
    def _flow(flow: tuple[tuple[str, ...], tuple[str, ...]], parts: dict[str, Any]) -> Flow:
        denoisers, targets = ([parts[name] for name in names] for names in flow)
        return Flow(denoisers, targets, title(*flow))


def title(denoisers: tuple[str, ...], targets: tuple[str, ...]) -> str:
    """A flow as it is written: `A&B->X&Y`."""
    return ARROW.join(AND.join(names) for names in (denoisers, targets) if names)


def read_line_up(path: Union[str, Path]) -> LineUp:
    """Reads an ensemble's description; see the head of this file.

    Raises:
      RunError: the file is missing or malformed, or a flow names what it does not describe.
    """
    path = Path(path)
    content = _content(path)
    denoisers = {name: _denoiser_loader(path, name, entry) for name, entry in content["denoisers"].items()}
    targets = {name: _target_loader(path, name, entry) for name, entry in content["targets"].items()}
    both = denoisers.keys() & targets.keys()
    if both:
        raise RunError(f"{path}: {min(both)} is the name of a denoiser and of a target")
    return LineUp(path, denoisers, targets, tuple(_parse(path, flow, denoisers, targets) for flow in content["flows"]))


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RunError(f"no such description of an ensemble: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}") from None
    for section, kind in SECTIONS.items():
        if not isinstance(content, dict) or not isinstance(content.get(section), kind):
            raise RunError(f"{path}: expected {section!r}, a JSON {'object' if kind is dict else 'array'}")
    unknown = content.keys() - SECTIONS.keys()
    if unknown:
        raise RunError(f"{path}: expected {', '.join(SECTIONS)}, received {min(unknown)!r}")
    if not content["flows"]:
        raise RunError(f"{path}: expected at least one flow, such as 'A{ARROW}X', received none")
    return content


def _parse(path: Path, flow: Any, denoisers, targets) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(flow, str):
        raise RunError(f"{path}: expected a flow such as 'A{ARROW}X', received {flow!r}")
    sides = [tuple(name.strip() for name in side.split(AND)) for side in flow.split(ARROW)]
    if len(sides) > 2:
        raise RunError(f"{path}: expected one {ARROW} in a flow, received {flow!r}")
    first, second = ((), sides[0]) if len(sides) == 1 else sides
    for names, known, kind in ((first, denoisers, "denoiser"), (second, targets, "target")):
        for name in names:
            if name not in known:
                raise RunError(
                    f"{path}: flow {flow!r} names {kind} {name!r}; described are {', '.join(known) or 'none'}"
                )
    return first, second


def _entry(path: Path, name: str, entry: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(entry, dict) or not entry.keys() <= set(keys) or not entry.keys() & {keys[0]}:
        perhaps = "".join(f", perhaps {key!r}" for key in keys[1:])
        raise RunError(f"{path}: {name}: expected {keys[0]!r}{perhaps}, received {entry!r}")
    for key, value in entry.items():
        kind = "number" if key in NUMBERS else "text"
        if type(value) is not (int if key in NUMBERS else str):
            raise RunError(f"{path}: {name}: {key}: expected a {kind}, received {value!r}")
    return entry


def _denoiser_loader(path: Path, name: str, entry: Any) -> Loader:
    if isinstance(entry, dict) and "official" in entry:
        official = _entry(path, name, entry, ("official", "preprocessing"))
        arguments = [official[key] for key in ("preprocessing",) if key in official]
        return lambda: load_official_denoiser(_located(path, official["official"]), *arguments)
    if isinstance(entry, dict) and "filter" in entry:
        described = _entry(path, name, entry, ("filter", "channels"))
        if described["filter"] not in FILTERS:
            raise RunError(
                f"{path}: {name}: expected a filter of {', '.join(FILTERS)}, received {described['filter']!r}"
            )
        return lambda: FILTERS[described["filter"]](described.get("channels", RGB))
    directory = _entry(path, name, entry, ("defense",))["defense"]
    beside = path.parent / directory
    return lambda: load_denoiser(beside if beside.exists() else directory)


def _target_loader(path: Path, name: str, entry: Any) -> Loader:
    described = _entry(path, name, entry, ("name", "checkpoint", "image_size"))

    def load():
        checkpoint = described.get("checkpoint")
        located = None if checkpoint is None else _located(path, checkpoint)
        return load_target(described["name"], located, described.get("image_size"))

    return load


def _located(path: Path, file: str) -> str:
    """The file beside the description; where there is none, in the folder of published weights."""
    beside = path.parent / file
    return str(beside if beside.exists() else checkpoint_directory() / file)


def _load_all(denoisers: dict[str, Loader], targets: dict[str, Loader], path: Path) -> dict[str, Any]:
    loaders = {**denoisers, **targets}

    def attempt(loader: Loader) -> Any:
        try:
            return loader()
        except (HgdError, ValueError) as error:
            return error

    with ThreadPoolExecutor() as pool:
        parts = dict(zip(loaders, pool.map(attempt, loaders.values())))
    failures = [f"{name}: {error}" for name, error in parts.items() if isinstance(error, Exception)]
    if failures:
        raise RunError(f"{path}: {len(failures)} of {len(parts)} parts cannot be loaded: {'; '.join(failures)}")
    return parts
