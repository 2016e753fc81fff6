"""TensorFlow checkpoints of both versions, in every place where a user has them."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.checkpoints.tensorflow_format import find_checkpoint, open_tensorflow
from hgd_tf.errors import CheckpointError

tf1 = tf.compat.v1
VALUES = {"net/weights": np.arange(60_000, dtype=np.float32).reshape(100, 600), "global_step": np.int64(7)}
VERSIONS = {"V1": tf1.train.SaverDef.V1, "V2": tf1.train.SaverDef.V2}


@pytest.fixture(params=list(VERSIONS))
def prefix(request, tmp_path):
    folder = tmp_path / "network_2016"
    folder.mkdir()
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in VALUES.items():
            tf1.get_variable(name, initializer=value)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(write_version=VERSIONS[request.param]).save(
            session, str(folder / "network.ckpt"), write_meta_graph=False
        )
    return folder / "network.ckpt"


def _read(path) -> dict[str, np.ndarray]:
    with open_tensorflow(path) as checkpoint:
        return {name: checkpoint[name] for name in checkpoint}


def _assert_read(path):
    received = _read(path)
    assert set(received) == set(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(received[name], value)


def _archive(prefix, path, members=None):
    with tarfile.open(path, "w:gz") as archive:
        for file in members or sorted(prefix.parent.iterdir()):
            archive.add(file, f"./deep/{file.name}")
    return path


def test_it_is_read_from_its_prefix_its_folder_and_its_archive(prefix, tmp_path):
    _assert_read(prefix)
    _assert_read(prefix.parent)
    _assert_read(_archive(prefix, tmp_path / "network_2016.tar.gz"))


def test_any_of_its_files_names_it(prefix):
    for file in prefix.parent.iterdir():
        if file.name != "checkpoint":
            assert find_checkpoint(file) == prefix


def test_an_unknown_name_is_a_key_error(prefix):
    with open_tensorflow(prefix) as checkpoint:
        assert "net/weights" in checkpoint and "net/biases" not in checkpoint and len(checkpoint) == 2
        with pytest.raises(KeyError):
            checkpoint["net/biases"]


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"no TensorFlow checkpoint at .*absent\.ckpt: expected absent\.ckpt\.index"
    ):
        _read(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match=r"no such file: .*absent\.tar\.gz"):
        _read(tmp_path / "absent.tar.gz")


def test_an_empty_folder_and_one_with_two_are_named(prefix, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"expected one TensorFlow checkpoint in .*empty, found none"):
        _read(tmp_path / "empty")
    for file in list(prefix.parent.iterdir()):
        (prefix.parent / file.name.replace("network", "other")).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"found network\.ckpt, other\.ckpt"):
        _read(prefix.parent)


def test_an_archive_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    path = _archive(None, tmp_path / "notes.tar.gz", [tmp_path / "notes.txt"])
    with pytest.raises(CheckpointError, match=r"notes\.tar\.gz holds no single TensorFlow checkpoint"):
        _read(path)


def test_an_archive_writes_nothing_outside(prefix, tmp_path):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(prefix.parent.iterdir()):
            archive.add(file, f"../../{file.name}")
        link = tarfile.TarInfo("link.ckpt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = set(tmp_path.iterdir())
    _assert_read(path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.95])
def test_truncated_it_is_named(prefix, tmp_path, kept):
    archive = _archive(prefix, tmp_path / "network_2016.tar.gz")
    for path in (archive, max(prefix.parent.iterdir(), key=lambda file: file.stat().st_size)):
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(CheckpointError, match=path.name.split(".")[0]):
            _read(path)


def test_a_flipped_bit_is_noticed(prefix):
    path = max(prefix.parent.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"network\.ckpt"):
        _read(prefix)


@pytest.mark.parametrize("content", [b"<html>moved</html>", b"text " * 10_000])
@pytest.mark.parametrize("name", ["page.ckpt", "page.tar.gz"])
def test_another_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}.* is (damaged|truncated) or no"):
        _read(tmp_path / name)
