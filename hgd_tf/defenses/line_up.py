"""Ensembles described in a file: denoisers, targets, and how images flow through them.

    {
      "denoisers": {"A": {"defense": "efficientnet_lite0_lgd"},
                    "B": {"official": "IncV3_denoiser.ckpt", "preprocessing": "inception"}},
      "targets": {"X": {"name": "efficientnet_lite0", "image_size": 224},
                  "Y": {"name": "inception_v3", "checkpoint": "inception_v3.ckpt"}},
      "flows": ["A->X", "A&B->X&Y", {"flow": "Y", "weight": 0.5}]
    }

A denoiser is that of a defense (a shipped one's name, or a folder), an official file, or a filter, as
{"filter": "median"}; beside the first two, "output_scale" is a factor on the noise that it predicts (2: the paper's
PGD x2, appendix B). A target is what `load_target` loads. Paths are relative to the file; official denoisers and
checkpoints are looked for in the folder of published weights too. A flow weighs in the mean of logits what it says, or
else the number of its targets.

Several line-ups may flow through the parts that one file describes (hgd_tf/evaluation/described_table.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

from hgd_tf.checkpoints.locate import checkpoint_directory
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.saving import load_denoiser
from hgd_tf.denoisers import gaussian, load_official_denoiser, median, rescaled
from hgd_tf.denoisers.layers import AddNoise
from hgd_tf.errors import HgdError, RunError
from hgd_tf.foundation.bundled import bundled
from hgd_tf.foundation.description import read_sections
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

ARROW, AND = "->", "&"
FILTERS = {"gaussian": gaussian, "median": median}
RGB = 3  # channels
KINDS: dict[str, tuple[type, ...]] = {"image_size": (int,), "channels": (int,), "output_scale": (int, float)}
TEXT = (str,)  # what every other value is
SECTIONS = {"denoisers": dict, "targets": dict, "flows": list}

Loader = Callable[[], Any]


class DescribedFlow(NamedTuple):
    """A flow by names; the attributes are those of `Flow`."""

    denoisers: tuple[str, ...]
    targets: tuple[str, ...]
    weight: Optional[float] = None


class LineUp(NamedTuple):
    """A described ensemble, not loaded yet; without flows, the parts of several.

    Attributes:
      denoisers: how to load each, by its name.
      targets: the same.
      flows: by the names of denoisers and targets.
    """

    path: Path
    denoisers: dict[str, Loader]
    targets: dict[str, Loader]
    flows: tuple[DescribedFlow, ...] = ()

    def with_flows(self, flows: Any, where: str = "") -> LineUp:
        """The same parts with these flows, as a file has them; `where` they stand in it is for messages.

        Raises:
          RunError: there is no flow, or one is malformed or names what the file does not describe.
        """
        if not isinstance(flows, list):
            raise RunError(f"{self.path}: {where}expected an array of flows, received {flows!r}")
        if not flows:
            raise RunError(f"{self.path}: {where}expected at least one flow, such as 'A{ARROW}X', received none")
        prefix = f"{self.path}: {where}"
        return self._replace(flows=tuple(_parse(prefix, flow, self.denoisers, self.targets) for flow in flows))

    def load(self) -> Ensemble:
        """Loads what the flows use.

        Raises:
          RunError: files are missing or damaged; the message names every one.
          TargetError: the parts do not fit together.
        """
        return self.through(load_parts([self]))

    def through(self, parts: Mapping[str, Any]) -> Ensemble:
        """The ensemble of loaded denoisers and targets, by their names.

        Raises:
          TargetError: they do not fit together.
        """

        def loaded(flow: DescribedFlow) -> Flow:
            denoisers, targets = ([parts[name] for name in side] for side in (flow.denoisers, flow.targets))
            return Flow(denoisers, targets, title(flow.denoisers, flow.targets), flow.weight)

        return Ensemble([loaded(flow) for flow in self.flows])


def load_parts(line_ups: Sequence[LineUp]) -> dict[str, Any]:
    """Loads what the flows of line-ups of the same parts use, by name; each part once.

    Raises:
      RunError: files are missing or damaged; the message names every one.
    """
    path, denoisers, targets, _ = line_ups[0]
    flows = [flow for line_up in line_ups for flow in line_up.flows]
    used = {name for flow in flows for name in (*flow.denoisers, *flow.targets)}
    return _load_all(path, {name: load for name, load in {**denoisers, **targets}.items() if name in used})


def title(denoisers: tuple[str, ...], targets: tuple[str, ...]) -> str:
    """A flow as it is written: `A&B->X&Y`."""
    return ARROW.join(AND.join(names) for names in (denoisers, targets) if names)


def read_line_up(path: Union[str, Path]) -> LineUp:
    """Reads an ensemble's description; see the head of this file.

    Args:
      path: of the file; where nothing is, `submission/models.json`, `fast.json` and `paper.json` are the package's.

    Raises:
      RunError: the file is missing or malformed, or a flow names what it does not describe.
    """
    path = bundled(path)
    content = read_sections(path, SECTIONS, "an ensemble")
    return described_parts(path, content).with_flows(content["flows"])


def described_parts(path: Union[str, Path], content: Mapping[str, Any]) -> LineUp:
    """What the sections `denoisers` and `targets` of a file's content describe.

    Raises:
      RunError: an entry is malformed, or two bear the same name.
    """
    path = Path(path)
    denoisers = {name: _denoiser_loader(path, name, entry) for name, entry in content["denoisers"].items()}
    targets = {name: _target_loader(path, name, entry) for name, entry in content["targets"].items()}
    both = denoisers.keys() & targets.keys()
    if both:
        raise RunError(f"{path}: {min(both)} is the name of a denoiser and of a target")
    return LineUp(path, denoisers, targets)


def _weighted(where: str, entry: dict[str, Any]) -> tuple[Any, Optional[float]]:
    """Flow and weight of an entry; no flow where it holds something else."""
    if entry.keys() != {"flow", "weight"}:
        return None, None
    flow, weight = entry["flow"], entry["weight"]
    if type(weight) not in (int, float) or not 0 < weight < float("inf"):
        raise RunError(f"{where}flow {flow!r}: weight: expected a positive number, received {weight!r}")
    return flow, weight


def _parse(where: str, entry: Any, denoisers, targets) -> DescribedFlow:
    flow, weight = _weighted(where, entry) if isinstance(entry, dict) else (entry, None)
    if not isinstance(flow, str):
        example = json.dumps({"flow": f"A{ARROW}X", "weight": 0.5})
        raise RunError(f"{where}expected a flow such as 'A{ARROW}X', or {example}, received {entry!r}")
    sides = [tuple(name.strip() for name in side.split(AND)) for side in flow.split(ARROW)]
    if len(sides) > 2:
        raise RunError(f"{where}expected one {ARROW} in a flow, received {flow!r}")
    first, second = ((), sides[0]) if len(sides) == 1 else sides
    for names, known, kind in ((first, denoisers, "denoiser"), (second, targets, "target")):
        for name in names:
            if name not in known:
                raise RunError(
                    f"{where}flow {flow!r} names {kind} {name!r}; described are {', '.join(known) or 'none'}"
                )
    return DescribedFlow(first, second, weight)


def _entry(path: Path, name: str, entry: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(entry, dict) or not entry.keys() <= set(keys) or not entry.keys() & {keys[0]}:
        perhaps = "".join(f", perhaps {key!r}" for key in keys[1:])
        raise RunError(f"{path}: {name}: expected {keys[0]!r}{perhaps}, received {entry!r}")
    for key, value in entry.items():
        kinds = KINDS.get(key, TEXT)
        if type(value) not in kinds:
            kind = "text" if kinds is TEXT else "number"
            raise RunError(f"{path}: {name}: {key}: expected a {kind}, received {value!r}")
    return entry


def _denoiser_loader(path: Path, name: str, entry: Any) -> Loader:
    if isinstance(entry, dict) and "official" in entry:
        official = _entry(path, name, entry, ("official", "preprocessing", "output_scale"))
        arguments = [official[key] for key in ("preprocessing",) if key in official]
        return _scaled(
            path, name, official, lambda: load_official_denoiser(located(path, official["official"]), *arguments)
        )
    if isinstance(entry, dict) and "filter" in entry:
        described = _entry(path, name, entry, ("filter", "channels"))
        if described["filter"] not in FILTERS:
            raise RunError(
                f"{path}: {name}: expected a filter of {', '.join(FILTERS)}, received {described['filter']!r}"
            )
        return lambda: FILTERS[described["filter"]](described.get("channels", RGB))
    described = _entry(path, name, entry, ("defense", "output_scale"))
    directory = described["defense"]
    beside = path.parent / directory
    return _scaled(path, name, described, lambda: load_denoiser(beside if beside.exists() else directory))


def _scaled(path: Path, name: str, entry: dict[str, Any], load: Callable[[], keras.Model]) -> Loader:
    """Loads a denoiser with the `output_scale` of its entry, if it has one."""
    if "output_scale" not in entry:
        return load
    scale = entry["output_scale"]
    if not 0 < scale < float("inf"):
        raise RunError(f"{path}: {name}: output_scale: expected a positive number, received {scale!r}")

    def load_scaled():
        denoiser = load()
        if not any(isinstance(layer, AddNoise) for layer in denoiser.layers):
            raise RunError(f"output_scale: expected a denoiser that predicts noise, as DUNET, received {denoiser.name}")
        return rescaled(denoiser, scale)

    return load_scaled


def _target_loader(path: Path, name: str, entry: Any) -> Loader:
    described = _entry(path, name, entry, ("name", "checkpoint", "image_size"))

    def load():
        checkpoint = described.get("checkpoint")
        file = None if checkpoint is None else located(path, checkpoint)
        return load_target(described["name"], file, described.get("image_size"))

    return load


def located(path: Path, file: str) -> str:
    """The file of weights beside the description; where there is none, in the folder of published weights."""
    beside = path.parent / file
    return str(beside if beside.exists() else checkpoint_directory() / file)


def _load_all(path: Path, loaders: dict[str, Loader]) -> dict[str, Any]:
    def attempt(loader: Loader) -> Any:
        try:
            return loader()
        except (HgdError, ValueError) as error:
            return error

    # One after another: Keras builds models in one thread alone, or rarely fails.
    parts = {name: attempt(load) for name, load in loaders.items()}
    failures = [f"{name}: {error}" for name, error in parts.items() if isinstance(error, Exception)]
    if failures:
        raise RunError(f"{path}: {len(failures)} of {len(parts)} parts cannot be loaded: {'; '.join(failures)}")
    return parts
