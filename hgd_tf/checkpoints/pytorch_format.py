"""PyTorch files read without PyTorch, and without running anything that they contain.

Such a file is a pickle of names and tensors' descriptions, and the tensors' bytes ("storages"). Unpickling calls what
the pickle names; here it may name what tensors need and nothing else.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple, Union

import numpy as np

from hgd_tf.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of the legacy format, before PyTorch 1.6
PROTOCOL_VERSION = 1001
STATE_DICT = "state_dict"
DTYPES = {"HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8"}
STORAGE_MODULES = ("torch", "torch.cuda")


class _Storage(NamedTuple):
    """A persistent id: what of which type lies under which key."""

    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; its values come when all of the pickle is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pytorch(path: Union[str, Path]) -> dict[str, np.ndarray]:
    """Reads the tensors of a `.pth` file: a state_dict, or a dict that holds one under `state_dict`.

    Args:
      path: a file of either format, written by Python 2 or 3. Tensors of float16, float32, float64 and int64 are
        admitted, from any device.

    Returns:
      The arrays by name, in the file's order.

    Raises:
      CheckpointError: the file is missing, damaged, no such file, or names something that weights do not need.
    """
    try:
        with open(path, "rb") as file:
            content, storages = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
            return {name: _array(name, tensor, storages) for name, tensor in _state_dict(content).items()}
    except FileNotFoundError:
        raise CheckpointError(f"no such file: {path}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    # A damaged or hostile pickle can make the unpickler raise nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is truncated, damaged or no PyTorch file ({reason})") from error


def _read_zip(file: BinaryIO) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(file)
    pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("expected a PyTorch file, received a zip archive without one data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
        raise CheckpointError("expected little-endian tensors, received big-endian ones")

    def storage(wanted: _Storage) -> np.ndarray:
        name = f"{root}data/{wanted.key}"
        entry, expected = archive.getinfo(name), wanted.length * wanted.dtype.itemsize
        if entry.compress_size != expected or entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"expected {expected} bytes, not compressed, in {name}, received {entry.compress_size}"
            )
        return np.frombuffer(archive.read(name), wanted.dtype)

    return _Unpickler(io.BytesIO(archive.read(pickles[0]))).load(), storage


def _read_legacy(file: BinaryIO) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if _Unpickler(file).load() != MAGIC_NUMBER:
        raise CheckpointError("expected a PyTorch file, received a pickle of something else")
    version, system = _Unpickler(file).load(), _Unpickler(file).load()
    if version != PROTOCOL_VERSION:
        raise CheckpointError(f"expected protocol version {PROTOCOL_VERSION}, received {version!r}")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("expected little-endian tensors, received others")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    arrays = {}
    for key in _Unpickler(file).load():
        if key not in unpickler.storages:
            raise CheckpointError(f"holds a storage {key!r} that nothing names")
        storage = unpickler.storages[key]
        count, size = int.from_bytes(file.read(8), "little"), storage.length * storage.dtype.itemsize
        if count != storage.length or size > end - file.tell():
            raise CheckpointError(f"is truncated: expected {storage.length} values in storage {key!r}")
        arrays[key] = np.frombuffer(file.read(size), storage.dtype)
    return content, lambda storage: arrays[storage.key]


def _state_dict(content: Any) -> dict[str, _Tensor]:
    if isinstance(content, dict) and isinstance(content.get(STATE_DICT), dict):
        content = content[STATE_DICT]
    if not isinstance(content, dict) or not any(isinstance(value, _Tensor) for value in content.values()):
        raise CheckpointError(f"expected names and tensors, received {_kind(content)}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise CheckpointError(f"expected names and tensors, received {_kind(value)} under {name!r}")
    return content


def _kind(value: Any) -> str:
    return f"a {type(value).__name__} without tensors" if isinstance(value, dict) else f"a {type(value).__name__}"


def _array(name: str, tensor: _Tensor, storages: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    storage = storages(tensor.storage)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
    count = int(np.prod(tensor.shape, dtype=object))
    if count == 0:
        return np.empty(tensor.shape, storage.dtype)
    if last >= len(storage) or count > len(storage):
        raise CheckpointError(
            f"{name} of shape {tensor.shape} does not lie within its storage of {len(storage)} values"
        )
    byte_strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, byte_strides, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    """Admits what tensors, containers and `argparse.Namespace` need."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin-1")  # Python 2's strings are bytes
        self.storages: dict[str, _Storage] = {}
        self._admitted = _admitted()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._admitted:
            raise CheckpointError(f"refused: it would load {module}.{name}, which weights do not need")
        return self._admitted[module, name]

    def persistent_load(self, identity: Any) -> _Storage:
        kind, dtype, key, _, count, *view = identity
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str) or not _is_size(count):
            raise CheckpointError(f"expected a storage of a known type, received {identity!r}")
        if any(part is not None for part in view):
            raise CheckpointError("refused: a storage that is a view of another one")
        storage = _Storage(dtype, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise CheckpointError(f"expected one type and size of storage {key!r}, received two")
        return storage


def _admitted() -> dict[tuple[str, str], Any]:
    """What a pickle may name; new objects for every file, so that none can change what the next one gets."""

    class Namespace:
        """Stands in for `argparse.Namespace`, which the authors' files hold beside their weights."""

    def rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
        sizes = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or not all(map(_is_size, sizes)):
            raise CheckpointError(f"expected a tensor, received storage {storage!r}, sizes {shape!r}, {strides!r}")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def rebuild_parameter(tensor, *_) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise CheckpointError(f"expected a tensor as parameter, received a {type(tensor).__name__}")
        return tensor

    class OrderedDict(collections.OrderedDict):
        """An ordered mapping whose class a file may change without harm."""

    storage_types = {(module, name): np.dtype(dtype) for module in STORAGE_MODULES for name, dtype in DTYPES.items()}
    return {
        ("collections", "OrderedDict"): OrderedDict,
        ("argparse", "Namespace"): Namespace,
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        **storage_types,
    }


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
