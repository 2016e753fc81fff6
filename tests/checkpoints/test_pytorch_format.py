"""PyTorch files are read as PyTorch reads them, and nothing of them is run."""

from __future__ import annotations

import argparse
import builtins
import collections
import io
import os
import pickle
import struct
import subprocess
import zipfile

import numpy as np
import pytest

from hgd_tf.checkpoints.pytorch_format import MAGIC_NUMBER, read_pytorch
from hgd_tf.errors import CheckpointError

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Storage:
    """A storage in a hand-made file: its type's name and its values."""

    def __init__(self, kind: str, key: str, values, view=None):
        self.kind, self.key, self.view = kind, key, view
        self.values = np.asarray(values, {"Half": "<f2", "Float": "<f4", "Double": "<f8", "Long": "<i8"}[kind])


class Global:
    """Pickled as the name of something in a module, called with arguments."""

    def __init__(self, name: str, *arguments):
        self.name, self.arguments = name, arguments


def tensor(storage: Storage, shape, strides, offset=0, version=2):
    rest = (False, collections.OrderedDict()) if version == 2 else ()
    return Global(
        f"torch._utils _rebuild_tensor{'_v2' if version == 2 else ''}", storage, offset, shape, strides, *rest
    )


def dump(value, count_of=lambda storage: len(storage.values)) -> bytes:
    """Pickles by hand, protocol 2, strings as Python 2 writes them."""
    out = io.BytesIO()

    def write(value):
        if isinstance(value, str):
            raw = value.encode("latin-1")
            out.write(b"U" + bytes([len(raw)]) + raw)
        elif isinstance(value, Storage):
            out.write(b"(")
            write("storage")
            out.write(f"ctorch\n{value.kind}Storage\n".encode())
            for part in (value.key, "cuda:0", count_of(value), value.view):
                write(part)
            out.write(b"tQ")
        elif isinstance(value, Global):
            out.write(b"c" + value.name.replace(" ", "\n").encode() + b"\n")
            write(tuple(value.arguments))
            out.write(b"R")
        elif isinstance(value, tuple):
            out.write(b"(")
            for part in value:
                write(part)
            out.write(b"t")
        elif isinstance(value, dict):
            out.write(b"ccollections\nOrderedDict\n)R" if isinstance(value, collections.OrderedDict) else b"}")
            for key, part in value.items():
                write(key)
                write(part)
                out.write(b"s")
        elif isinstance(value, list):
            out.write(b"]")
            for part in value:
                write(part)
                out.write(b"a")
        else:
            out.write(pickle.dumps(value, 2)[2:-1])

    out.write(b"\x80\x02")
    write(value)
    out.write(b".")
    return out.getvalue()


def legacy(value, storages, content=None, magic=None, keys=None) -> bytes:
    parts = [magic or dump(MAGIC_NUMBER), dump(1001), dump(SYSTEM), content or dump(value)]
    parts.append(keys or dump([storage.key for storage in storages]))
    parts += [struct.pack("<q", len(storage.values)) + storage.values.tobytes() for storage in storages]
    return b"".join(parts)


def zipped(value, storages, content=None, byteorder=b"little", compression=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content or dump(value))
        archive.writestr("archive/byteorder", byteorder)
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
    return out.getvalue()


CONTAINERS = (legacy, zipped)


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> dict[str, np.ndarray]:
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return read_pytorch(path)

    return read


def _good(container) -> bytes:
    storage = Storage("Float", "7", np.arange(6))
    return container({"w": tensor(storage, (2, 3), (3, 1))}, [storage])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind, dtype", [("Half", "f2"), ("Float", "f4"), ("Double", "f8"), ("Long", "i8")])
def test_values_and_types_are_the_files(read, container, kind, dtype):
    storage = Storage(kind, "140", [1, -2, 3, 4])
    received = read(container({"a.weight": tensor(storage, (2, 2), (2, 1))}, [storage]))
    assert received["a.weight"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(received["a.weight"], [[1, -2], [3, 4]])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("version", [1, 2])
def test_views_of_one_storage_keep_offset_and_strides(read, container, version):
    storage = Storage("Float", "0", np.arange(6))
    tensors = {
        "transposed": tensor(storage, (3, 2), (1, 3), version=version),
        "part": tensor(storage, (2,), (2,), 1, version=version),
        "scalar": tensor(storage, (), (), 5, version=version),
        "empty": tensor(storage, (0, 4), (4, 1), version=version),
    }
    received = read(container(tensors, [storage]))
    assert list(received) == list(tensors)
    np.testing.assert_array_equal(received["transposed"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(received["part"], [1, 3])
    assert received["scalar"] == 5 and received["scalar"].shape == ()
    assert received["empty"].shape == (0, 4)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_training_state_gives_its_weights(read, container):
    storage = Storage("Float", "0", [1, 2])
    weights = collections.OrderedDict({"net.bias": tensor(storage, (2,), (1,))})
    state = {"epoch": 15, "save_dir": "r\xe9sultats", "state_dict": weights, "args": Global("argparse Namespace")}
    np.testing.assert_array_equal(read(container(state, [storage]))["net.bias"], [1, 2])


def test_the_keys_of_python_2_are_latin_1(read):
    storage = Storage("Float", "0", [1])
    assert list(read(legacy({"d\xe9bruit": tensor(storage, (1,), (1,))}, [storage]))) == ["d\xe9bruit"]


def test_parameters_are_tensors(read):
    storage = Storage("Float", "0", [4, 5])
    parameter = Global("torch._utils _rebuild_parameter", tensor(storage, (2,), (1,)), True, collections.OrderedDict())
    np.testing.assert_array_equal(read(zipped({"w": parameter}, [storage]))["w"], [4, 5])


CALLS = (
    ("posix system", "touch {}"),
    ("os system", "touch {}"),
    ("subprocess getoutput", "touch {}"),
    ("builtins eval", "open('{}', 'w')"),
    ("builtins exec", "open('{}', 'w')"),
    ("__builtin__ eval", "open('{}', 'w')"),
    ("builtins getattr", "{}"),
    ("operator attrgetter", "{}"),
    ("torch.storage _load_from_bytes", "{}"),
    ("torch BFloat16Storage", "{}"),
    ("numpy.core.multiarray scalar", "{}"),
)


@pytest.mark.parametrize("name, argument", CALLS, ids=[name for name, _ in CALLS])
@pytest.mark.parametrize("container", CONTAINERS)
def test_nothing_that_a_file_names_is_called(read, tmp_path, container, name, argument):
    victim = tmp_path / "victim"
    malicious = {"state_dict": {"w": Global(name, argument.format(victim))}}
    with pytest.raises(CheckpointError, match=rf"weights.pth: refused.*{name.replace(' ', '.')}"):
        read(container(malicious, []))
    assert not victim.exists()


@pytest.mark.parametrize("part", ["magic", "content", "keys"])
def test_nothing_is_called_from_any_pickle_of_a_legacy_file(read, tmp_path, part):
    victim = tmp_path / "victim"
    bomb = dump(Global("posix system", f"touch {victim}"))
    assert pickle.loads(bomb) == 0 and victim.exists()  # it would work
    victim.unlink()
    storage = Storage("Float", "0", [1])
    with pytest.raises(CheckpointError, match=r"refused: it would load posix\.system"):
        read(legacy({"w": tensor(storage, (1,), (1,))}, [storage], **{part: bomb}))
    assert not victim.exists()


@pytest.mark.parametrize("name", ["collections OrderedDict", "argparse Namespace", "torch._utils _rebuild_tensor_v2"])
def test_a_file_cannot_change_what_the_next_one_gets(read, name):
    build = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n}U\x09__class__U\x01xsN\x86b."
    with pytest.raises(CheckpointError):
        read(zipped(None, [], content=build))
    assert list(read(_good(zipped))) == ["w"]
    assert collections.OrderedDict.__module__ == "collections" and argparse.Namespace(a=1).a == 1


def _hostile(storage: Storage) -> dict[str, Global]:
    return {
        "beyond the end": tensor(storage, (7,), (1,)),
        "offset beyond": tensor(storage, (2,), (1,), 5),
        "negative offset": tensor(storage, (2,), (1,), -1),
        "negative stride": tensor(storage, (2,), (-1,), 3),
        "negative size": tensor(storage, (-2,), (1,)),
        "huge by a stride of 0": tensor(storage, (10**6, 10**6), (0, 0)),
        "ranks differ": tensor(storage, (2, 3), (1,)),
        "sizes are no numbers": tensor(storage, ("a",), (1,)),
        "no storage": Global("torch._utils _rebuild_tensor_v2", "data", 0, (1,), (1,), False, None),
        "an integer": 3,
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("fault", list(_hostile(Storage("Float", "0", [0]))))
def test_a_tensor_that_does_not_fit_its_storage_is_refused(read, container, fault):
    storage = Storage("Float", "0", np.arange(6))
    good = tensor(storage, (2,), (1,))
    with pytest.raises(CheckpointError, match=r"weights.pth"):
        read(container({"good": good, "bad": _hostile(storage)[fault]}, [storage]))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_small_file_cannot_claim_a_huge_storage(read, container):
    storage = Storage("Float", "0", [1])
    content = dump({"w": tensor(storage, (10**12,), (1,))}, count_of=lambda _: 10**12)
    with pytest.raises(CheckpointError, match=r"expected \d+ (bytes|values)"):
        read(container(None, [storage], content=content))


def test_a_compressed_storage_is_refused(read):
    storage = Storage("Float", "0", np.zeros(10**6))
    with pytest.raises(CheckpointError, match="not compressed"):
        read(zipped({"w": tensor(storage, (10**6,), (1,))}, [storage], compression=zipfile.ZIP_DEFLATED))


def test_big_endian_files_are_refused(read):
    storage = Storage("Float", "0", [1])
    with pytest.raises(CheckpointError, match="little-endian"):
        read(zipped({"w": tensor(storage, (1,), (1,))}, [storage], byteorder=b"big"))


def test_a_storage_that_views_another_is_refused(read):
    storage = Storage("Float", "0", [1, 2], view=("1", 0, 2))
    with pytest.raises(CheckpointError, match="view of another"):
        read(legacy({"w": tensor(storage, (1,), (1,))}, [storage]))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 5, {"state_dict": {"a": 1}}, {3: 4}])
def test_content_without_tensors_is_named(read, container, content):
    with pytest.raises(CheckpointError, match=r"expected names and tensors, received a (dict|list|int)"):
        read(container(content, []))


@pytest.mark.parametrize("container", CONTAINERS)
def test_truncated_anywhere_it_is_no_pytorch_file(read, container):
    content = _good(container)
    assert read(content)["w"].shape == (2, 3)
    for length in range(0, len(content) - 1, 3):
        with pytest.raises(CheckpointError, match=r"weights\.pth"):
            read(content[:length])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b"weights" * 1000,
        pickle.dumps({"w": [1, 2]}),
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"\x8a\x7f" + b"\xff" * 127 + b".",
        b"\x80\x02j\xff\xff\xff\x7f.",
    ],
    ids=["empty", "page", "text", "pickle", "marks", "number", "memo"],
)
def test_other_files_are_named(read, content):
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read(content)


def test_another_zip_is_named(read):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(CheckpointError, match=r"a zip archive without one data\.pkl"):
        read(out.getvalue())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file: .*absent.pth"):
        read_pytorch(tmp_path / "absent.pth")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pytorch(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("new_format", [False, True])
def test_a_file_of_pytorchs_own_comes_out_as_it_loads_it(tmp_path, new_format):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weights = {
        "plain": base,
        "view": base[1:3, ::2],
        "transposed": base.t(),
        "parameter": torch.nn.Parameter(base[0].clone()),
        "half": base.half(),
        "double": base.double(),
        "counter": torch.tensor(12),
        "empty": torch.zeros(0, 3),
        **torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict(),
    }
    state = {"epoch": 1, "args": argparse.Namespace(lr=0.1), "state_dict": weights, "done": {1, 2}}
    path = tmp_path / "weights.pth"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    received = read_pytorch(path)
    assert list(received) == list(weights)
    for name, expected in weights.items():
        expected = expected.detach().numpy()
        assert received[name].dtype == expected.dtype
        np.testing.assert_array_equal(received[name], expected)


@pytest.mark.slow
@pytest.mark.parametrize("new_format", [False, True])
@pytest.mark.parametrize("callable_", [os.system, subprocess.getoutput, builtins.exec, builtins.eval])
def test_a_malicious_file_of_pytorchs_own_writes_nothing(tmp_path, new_format, callable_):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    victim = tmp_path / "victim"

    class Malicious:
        def __reduce__(self):
            python = f"__import__('pathlib').Path({str(victim)!r}).touch()"
            return callable_, (python if callable_ in (eval, exec) else f"touch {victim}",)

    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": {"w": torch.ones(2)}, "args": Malicious()}, path, _use_new_zipfile_serialization=new_format
    )
    with pytest.raises(CheckpointError, match=rf"refused: it would load \w+\.{callable_.__name__}"):
        read_pytorch(path)
    assert not victim.exists()
