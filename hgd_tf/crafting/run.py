"""Crafting a set: the shards that are missing, then the manifest that says it is complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Optional, Union

from tqdm import tqdm

from hgd_tf.crafting.plan import SetPlan
from hgd_tf.crafting.shards import FORMATS, ShardFormat
from hgd_tf.errors import DataError
from hgd_tf.files import remove_leftovers, write_json

PLAN_FILE, MANIFEST_FILE = "plan.json", "manifest.json"

CraftShards = Callable[[ShardFormat, Sequence[int]], None]


def craft_set(
    plan: SetPlan, folder: Union[str, Path], shard_format: str = "tfrecord", craft_shards: Optional[CraftShards] = None
) -> dict[str, Any]:
    """Crafts a set, or what is missing of it; the result does not depend on interruptions.

    Args:
      folder: where it stands afterwards: shards, `plan.json` and, when it is complete, `manifest.json`, which adds the
        numbers of images, the names of those left out and a checksum a shard.
      shard_format: a name of `FORMATS`.
      craft_shards: crafts and writes the missing shards; None: one after the other in this process.

    Returns:
      The manifest.

    Raises:
      DataError: another set stands in the folder, or there are no images.
    """
    folder = Path(folder)
    description = {**plan.description(), "format": shard_format}
    if not plan.shard_count:
        raise DataError(f"{plan.recipe.name}: no images to attack")
    shards = FORMATS[shard_format](folder, plan.shard_count, plan.names)
    missing = shards.missing()
    if (folder / PLAN_FILE).exists():
        _check_same(folder, description, complete=not missing)
        remove_leftovers(folder)
    else:
        write_json(folder / PLAN_FILE, description)
    if missing:
        (craft_shards or _in_this_process(plan))(shards, missing)
    elif (folder / MANIFEST_FILE).exists():
        return read_manifest(folder)
    manifest = {**description, **_contents(plan, shards)}
    write_json(folder / MANIFEST_FILE, manifest)
    return manifest


def read_manifest(folder: Union[str, Path]) -> dict[str, Any]:
    """The manifest of a complete set.

    Raises:
      DataError: there is none, or it is damaged.
    """
    path = Path(folder) / MANIFEST_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no complete set of attacked images in {folder} ({MANIFEST_FILE} is absent)") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def open_shards(folder: Union[str, Path], manifest: dict[str, Any]) -> ShardFormat:
    """The shards of a complete set."""
    names = [attack["name"] for attack in manifest["attacks"]]
    return FORMATS[manifest["format"]](Path(folder), manifest["shards"], names)


def _in_this_process(plan: SetPlan) -> CraftShards:
    def craft_shards(shards: ShardFormat, missing: Sequence[int]) -> None:
        total = sum(len(plan.numbers(shard)) for shard in missing) * len(plan.attacks)
        written: Optional[Future] = None
        with tqdm(total=total, desc=f"crafting {plan.recipe.name}", unit="img", mininterval=1) as bar:
            with ThreadPoolExecutor(1) as writer:
                for shard in missing:
                    records = plan.records(shard, bar.update)
                    if written is not None:
                        written.result()
                    written = writer.submit(shards.write, shard, records)
            if written is not None:
                written.result()

    return craft_shards


def _check_same(folder: Path, description: dict[str, Any], complete: bool) -> None:
    path = folder / PLAN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is absent or damaged ({error}); remove {folder} to craft the set again") from error
    elsewhere = ("replicas", "threads", "versions") if complete else ()
    for key in (key for key in {**found, **description} if key not in elsewhere):
        if found.get(key) != description.get(key):
            raise DataError(
                f"{folder} holds another set: its {key} is {_short(found.get(key))}, "
                f"not {_short(description.get(key))}; choose another folder or remove this one"
            )


def _contents(plan: SetPlan, shards: ShardFormat) -> dict[str, Any]:
    """What lies on disk, read back."""
    counts, kept = [], set()
    for shard in range(plan.shard_count):
        numbers = [record.number for record in shards.read(shard, images=False)]
        counts.append(len(numbers))
        kept.update(numbers)
    left_out = [name for number, name in enumerate(plan.source.names) if number not in kept]
    checksums = [shards.checksum(shard) for shard in range(plan.shard_count)]
    return {"images": sum(counts), "left_out": left_out, "shard_images": counts, "sha256": checksums}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:100] + "…"
