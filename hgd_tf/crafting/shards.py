"""A set of attacked images on disk: shards that are complete or absent."""

from __future__ import annotations

import abc
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np
import tensorflow as tf

from hgd_tf.crafting.plan import Record
from hgd_tf.data.images import as_picture, decode_image
from hgd_tf.errors import DataError, first_line
from hgd_tf.files import replacing, write_json

PNG_LEVEL = 1  # noise does not compress; higher levels only take longer
CLEAN = "clean"


class ShardFormat(abc.ABC):
    """How records lie in a folder.

    Args:
      attacks: names of the attacks, in the order of a record's.
    """

    def __init__(self, folder: Path, shard_count: int, attacks: Sequence[str]):
        self.folder, self.shard_count, self.attacks = Path(folder), shard_count, tuple(attacks)

    @abc.abstractmethod
    def path(self, shard: int) -> Path:
        """The file whose presence says that the shard is complete."""

    @abc.abstractmethod
    def write(self, shard: int, records: Sequence[Record]) -> None:
        """Writes a whole shard."""

    @abc.abstractmethod
    def read(self, shard: int, images: bool = True) -> Iterator[Record]:
        """A shard's records; without images, those arrays have no content.

        Raises:
          DataError: the shard is absent or damaged.
        """

    def files(self, shard: int) -> list[Path]:
        """All files of a complete shard."""
        return [self.path(shard)]

    def missing(self) -> list[int]:
        """The shards that are yet to be written."""
        return [shard for shard in range(self.shard_count) if not self.path(shard).exists()]

    def checksum(self, shard: int) -> str:
        """SHA-256 of the shard's files, one after the other.

        Raises:
          DataError: one of them is absent.
        """
        digest = hashlib.sha256()
        try:
            for path in self.files(shard):
                digest.update(path.read_bytes())
        except OSError as error:
            raise DataError(f"{self.path(shard)}: {error}") from error
        return digest.hexdigest()

    def _name(self, shard: int, ending: str) -> str:
        return f"images-{shard:05d}-of-{self.shard_count:05d}.{ending}"


class TFRecordFormat(ShardFormat):
    """A TFRecord file a shard, a `tf.train.Example` an image.

    Features: `number`, `name`, `label`; `clean`, a PNG file's content; and, in the order of the attacks, `attack`
    (names), `attacked` (PNG), `epsilon`, `mean_perturbation`; `answers`, the judges' answers (J * (1 + A)).
    """

    def path(self, shard: int) -> Path:
        return self.folder / self._name(shard, "tfrecord")

    def write(self, shard: int, records: Sequence[Record]) -> None:
        try:
            with replacing(self.path(shard)) as temporary, tf.io.TFRecordWriter(temporary) as writer:
                for record in records:
                    writer.write(self._example(record).SerializeToString(deterministic=True))
        except tf.errors.OpError as error:
            raise OSError(error.message) from error

    def _example(self, record: Record) -> tf.train.Example:
        features = {
            "number": _integers([record.number]),
            "name": _bytes([record.name.encode()]),
            "label": _integers([record.label]),
            "clean": _bytes([encode_png(record.clean)]),
            "attack": _bytes([name.encode() for name in self.attacks]),
            "attacked": _bytes(map(encode_png, record.attacked)),
            "epsilon": _integers(record.epsilon),
            "mean_perturbation": tf.train.Feature(float_list=tf.train.FloatList(value=record.mean_perturbation)),
            "answers": _integers(record.answers.ravel()),
        }
        return tf.train.Example(features=tf.train.Features(feature=features))

    def read(self, shard: int, images: bool = True) -> Iterator[Record]:
        path = self.path(shard)
        try:
            for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                features = tf.train.Example.FromString(content).features.feature
                yield self._record(features, images)
        except (tf.errors.OpError, IndexError, ValueError, DataError) as error:
            raise DataError(f"{path} is truncated or damaged ({first_line(error)})") from error

    def _record(self, features, images: bool) -> Record:
        attacked, epsilon = list(features["attacked"].bytes_list.value), features["epsilon"].int64_list.value
        if len(attacked) != len(self.attacks) or len(epsilon) != len(self.attacks):
            raise ValueError(f"expected {len(self.attacks)} attacked images, received {len(attacked)}")
        return Record(
            features["number"].int64_list.value[0],
            features["name"].bytes_list.value[0].decode(),
            features["label"].int64_list.value[0],
            np.array(epsilon, np.int64),
            np.array(features["mean_perturbation"].float_list.value, np.float32),
            np.array(features["answers"].int64_list.value, np.int64).reshape(-1, 1 + len(self.attacks)),
            *_decoded([*features["clean"].bytes_list.value, *attacked] if images else []),
        )


class PngFormat(ShardFormat):
    """PNG files: `clean/NAME.png` and `ATTACK/NAME.png`, and a JSON file a shard with the rest of its records."""

    def path(self, shard: int) -> Path:
        return self.folder / self._name(shard, "json")

    def files(self, shard: int) -> list[Path]:
        names = [record["name"] for record in self._records(shard)]
        return [self.path(shard), *(self._image(kind, name) for name in names for kind in (CLEAN, *self.attacks))]

    def write(self, shard: int, records: Sequence[Record]) -> None:
        for record in records:
            for kind, image in zip((CLEAN, *self.attacks), (record.clean, *record.attacked)):
                with replacing(self._image(kind, record.name)) as temporary:
                    Path(temporary).write_bytes(encode_png(image))
        write_json(self.path(shard), [_without_images(record) for record in records])

    def read(self, shard: int, images: bool = True) -> Iterator[Record]:
        for row in self._records(shard):
            kinds = (CLEAN, *self.attacks) if images else ()
            yield Record(
                row["number"],
                row["name"],
                row["label"],
                np.array(row["epsilon"], np.int64),
                np.array(row["mean_perturbation"], np.float32),
                np.array(row["answers"], np.int64).reshape(-1, 1 + len(self.attacks)),
                *_decoded([self._image(kind, row["name"]) for kind in kinds]),
            )

    def _image(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.png"

    def _records(self, shard: int) -> list[dict[str, Any]]:
        try:
            return json.loads(self.path(shard).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path(shard)} is truncated or damaged ({error})") from error


FORMATS: dict[str, Callable[[Path, int, Sequence[str]], ShardFormat]] = {"tfrecord": TFRecordFormat, "png": PngFormat}


def encode_png(image: np.ndarray) -> bytes:
    """A PNG file's content of an image, uint8 (H, W, 1 or 3)."""
    content = io.BytesIO()
    as_picture(image).save(content, "PNG", compress_level=PNG_LEVEL)
    return content.getvalue()


def _without_images(record: Record) -> dict[str, Any]:
    arrays = {key: getattr(record, key).tolist() for key in ("epsilon", "mean_perturbation", "answers")}
    return {"number": record.number, "name": record.name, "label": record.label, **arrays}


def _decoded(images: Sequence[Union[bytes, Path]]) -> tuple[np.ndarray, np.ndarray]:
    """A clean image (H, W, C) and what A attacks made of it (A, H, W, C); both empty where there is nothing."""
    if not images:
        return np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    clean, *attacked = map(decode_image, images)
    return clean, np.stack(attacked)


def _integers(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))


def _bytes(values) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=list(values)))
