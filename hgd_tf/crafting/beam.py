"""Crafting on Apache Beam: a shard an element, the networks loaded once a worker."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from hgd_tf.checkpoints.locate import chosen_directory, set_checkpoint_directory
from hgd_tf.crafting.job import CraftConfig, load_plan
from hgd_tf.crafting.run import CraftShards
from hgd_tf.crafting.shards import FORMATS, ShardFormat
from hgd_tf.errors import HgdError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise HgdError("Apache Beam is not installed: pip install 'hgd-tf[beam]'") from None


class _CraftShards(beam.DoFn):
    """Crafts and writes shards, to a folder that all workers share."""

    def __init__(self, config: CraftConfig, folder: str, shard_format: str, threads: int):
        self._config, self._folder, self._format, self._threads = config, folder, shard_format, threads
        self._weights = chosen_directory()

    def setup(self):
        set_checkpoint_directory(self._weights)
        if self._threads and tf.config.threading.get_intra_op_parallelism_threads() != self._threads:
            tf.config.threading.set_intra_op_parallelism_threads(self._threads)
        self._plan = load_plan(self._config)
        self._shards = FORMATS[self._format](Path(self._folder), self._plan.shard_count, self._plan.names)

    def process(self, shard: int) -> Iterator[int]:
        if not self._shards.path(shard).exists():  # Beam may give an element to two workers
            self._shards.write(shard, self._plan.records(shard))
        yield shard


def on_beam(config: CraftConfig, options: Sequence[str] = ()) -> CraftShards:
    """What `craft_set` takes as `craft_shards`.

    Args:
      options: Beam's own, such as `--runner=FlinkRunner`; default: its DirectRunner.
    """

    def craft_shards(shards: ShardFormat, missing: Sequence[int]) -> None:
        shard_format = next(name for name, kind in FORMATS.items() if kind is type(shards))
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        worker = _CraftShards(config, str(shards.folder.resolve()), shard_format, threads)
        pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
        _ = pipeline | beam.Create(list(missing)) | beam.Reshuffle() | beam.ParDo(worker)
        with _progress(shards, missing, config.recipe):
            pipeline.run().wait_until_finish()

    return craft_shards


@contextlib.contextmanager
def _progress(shards: ShardFormat, missing: Sequence[int], name: str) -> Iterator[None]:
    """A bar that counts the shards as they appear, whoever writes them."""
    finished = threading.Event()
    with tqdm(total=len(missing), desc=f"crafting {name}", unit="shard", mininterval=1) as bar:

        def watch():
            while not finished.wait(1.0):
                bar.update(len(missing) - len(shards.missing()) - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            bar.update(len(missing) - len(shards.missing()) - bar.n)
