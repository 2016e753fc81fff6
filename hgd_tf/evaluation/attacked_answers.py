"""A defence's classes of a folder's images, kept as a table, so that an interrupted evaluation goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np
import tensorflow as tf

from hgd_tf.data.images import decode_image
from hgd_tf.data.splits import UNKNOWN
from hgd_tf.data.tables import Table
from hgd_tf.defenses import Classifier
from hgd_tf.evaluation.attacked_files import Survey
from hgd_tf.evaluation.attacked_labels import LabelTable
from hgd_tf.files import replacing, sha256, write_json
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import batch_size_for, resize_to

IDENTITIES_FILE = "answers.json"
COLUMNS = ("filename", "label", "target", "class")


class Answers:
    """The classes that defences answer, each in a table of its own, 0-based; a target is empty where there is none.

    Args:
      folder: of the tables, and of what they were made of; None: nothing is kept.
      labels: the file of the table of classes.
    """

    def __init__(self, folder: Optional[Path], labels: Union[str, Path], table: LabelTable):
        self._folder = folder
        self._table = table
        self._labels = sha256(labels)
        self._names: list[str] = []
        self._digests: dict[int, str] = {}
        self._identities = {} if folder is None else _read(folder / IDENTITIES_FILE)

    def of(
        self, title: str, found: Survey, name: str, defense: Classifier, on_batch: Callable[[int], object]
    ) -> dict[int, int]:
        """The class of each of the folder's images, by their row: those kept, or those that the defence answers."""
        if self._folder is None:
            return _classified(defense, found.files, on_batch)
        path = self._folder / self._unlike(f"{title}.{name}")
        identity = self._identity(found, name, defense)
        if path.is_file() and self._identities.get(path.name) == [identity, sha256(path)]:
            on_batch(len(found.files))
            kept = Table(path).rows("class")
            return {row: int(cells[0]) for row, (_, cells) in zip(found.files, kept)}
        classes = _classified(defense, found.files, on_batch)
        self._write(path, found, classes)
        self._identities[path.name] = [identity, sha256(path)]
        write_json(self._folder / IDENTITIES_FILE, self._identities)
        return classes

    def _unlike(self, name: str) -> str:
        """A file's name, for a folder and defence of any."""
        plain = re.sub(r"[^\w.@+-]+", "_", name).strip("_.")
        self._names.append(plain)
        again = self._names.count(plain)
        return f"{plain}.csv" if again == 1 else f"{plain}.{again}.csv"

    def _identity(self, found: Survey, name: str, defense: Classifier) -> str:
        if id(defense) not in self._digests:
            self._digests[id(defense)] = weights_digest(defense)
        stats = [(row, path.name, path.stat()) for row, path in found.files.items()]
        files = [[row, file, stat.st_size, stat.st_mtime_ns] for row, file, stat in stats]
        text = json.dumps([str(found.folder.resolve()), self._labels, name, self._digests[id(defense)], files])
        return hashlib.sha256(text.encode()).hexdigest()

    def _write(self, path: Path, found: Survey, classes: dict[int, int]) -> None:
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row, answer in classes.items():
                target = int(self._table.targets[row])
                told = "" if target == UNKNOWN else target
                writer.writerow([found.files[row].name, int(self._table.labels[row]), told, answer])


def weights_digest(classifier: Classifier) -> str:
    """Of all that decides its answers: its flows, and the settings and weights of their layers."""
    digest = hashlib.sha256()
    total = sum(flow.weight for flow in classifier.flows)
    for flow in classifier.flows:
        digest.update(f"{flow.weight / total:.6f} {[target.image_size for target in flow.targets]}".encode())
        for model in (*flow.denoisers, *(target.network for target in flow.targets)):
            digest.update(_of_model(model))
    return digest.hexdigest()


def _of_model(model: keras.Model) -> bytes:
    settings = [{**layer.get_config(), "name": type(layer).__name__} for layer in model.layers]
    digest = hashlib.sha256(str(settings).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.digest()


def _read(path: Path) -> dict[str, list[str]]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _classified(defense: Classifier, files: dict[int, Path], on_batch: Callable[[int], object]) -> dict[int, int]:
    """The classes of images of any sizes; each is resized by itself, so that all go in the same batches."""
    signature = {size: tf.TensorSpec((None, size, size, defense.channels), tf.float32) for size in defense.sizes}
    compiled = tf.function(lambda images: defense.of_sized(images)["classes"], input_signature=[signature])
    classes: dict[int, int] = {}
    rows, batch_size = list(files), batch_size_for(max(defense.sizes))
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        images = [decode_image(files[row], defense.channels)[np.newaxis] for row in batch]
        sized = {size: tf.concat([resize_to(image, size) for image in images], axis=0) for size in defense.sizes}
        classes.update(zip(batch, map(int, compiled(sized).numpy())))
        on_batch(len(batch))
    return classes
