"""`.pth` and `.pt` files, as `torch.save` writes state dicts: read without PyTorch, and without running the pickle.

Since PyTorch 1.6 a file is a zip archive, nothing in it compressed:

    NAME/data.pkl    the state dict; a tensor is a storage's key, an offset, a shape and strides
    NAME/data/KEY    the storages' bytes
    NAME/byteorder   little or big; newer files only

Before, it was a row of pickles: a magic number, a protocol version, a description of the machine, the state dict,
the list of the storages' keys; then each storage's number of elements and its bytes.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deeplab_tf.weights.readers.mapped import BFLOAT16, map_file
from deeplab_tf.weights.readers.restricted_pickle import MOST_OPERATIONS, read_pickle, set_items

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_STORAGE_TYPES = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": BFLOAT16,
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
# A ResNet-101's state dict takes 0.1 MB as a pickle, and its archive's directory as much.
_LARGEST_PICKLE = 16 << 20
_LARGEST_DIRECTORY = 4 << 20
_DEEPEST_NESTING = 8
_LONGEST_NAME = 200
_MOST_DIMENSIONS = 8
# What training programs keep beside the state dict: hyperparameters, paths, scores. No tensors are in them.
_INERT = re.compile(
    r"pathlib\.Pure(Posix|Windows)Path|pathlib(\._local)?\.(Posix|Windows)Path|argparse\.Namespace|_codecs\.encode"
    r"|numpy\.dtype|numpy\._?core\.multiarray\.scalar|numpy\.dtypes\.\w+|torch\.(device|Size|(b?float|u?int|complex)\d+|bool)"
    r"|(builtins|__builtin__)\.(set|frozenset|complex|slice|range|bytearray)|collections\.(defaultdict|deque|Counter)"
    r"|datetime\.\w+|(pytorch_lightning|lightning|lightning_fabric|torchmetrics|omegaconf|mmengine|mmcv|easydict|yacs)(\.\w+)+"
)
# Under these keys training programs put the state dict, beside the epoch, the optimizer and so on.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A run of elements in the file."""

    key: str
    dtype: np.dtype
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the storage {self.key!r:.100} has {self.count} values")


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A strided part of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_DIMENSIONS:
            raise ValueError("a tensor has no usable shape")
        if not all(isinstance(number, int) and 0 <= number < 2**48 for number in numbers):
            raise ValueError("a tensor has no usable offset, shape or strides")
        if 0 in self.shape:
            return
        last = 0
        for stride, size in sorted(zip(self.strides, self.shape, strict=True)):
            if size > 1:
                if stride <= last:
                    raise ValueError(f"a tensor of shape {self.shape} has overlapping strides {self.strides}")
                last += (size - 1) * stride
        if self.offset + last >= self.storage.count:
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond the {self.storage.count} values it is in")

    def view(self, content: memoryview) -> np.ndarray:
        """Returns the tensor as a view of its storage's bytes."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.storage.dtype)
        size = self.storage.dtype.itemsize
        strides = [stride * size for stride in self.strides]
        return np.ndarray(self.shape, self.storage.dtype, content, self.offset * size, strides)


class _Storages:
    """The storages that a state dict's pickle names."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def load_persistent(self, persistent_id: Any) -> _Storage:
        match persistent_id:
            # Before 1.6 a sixth entry said of which other storage it is a part; nothing has written such for years.
            case ("storage", np.dtype() as dtype, str(key), str(), int(count), *part) if part in ([], [None]):
                storage = _Storage(key, dtype, count)
            case _:
                raise ValueError("the pickle refers to something that is not a storage")
        if self.by_key.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key!r:.100} is described in two ways")
        return storage


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array) of the tensors in a file that `torch.save` wrote.

    The names are those of the state dict. Of a training program's file, a dict with the state dict in it, tensors
    elsewhere follow under their path: `optimizer.state.0.momentum_buffer`. What is not a tensor is left out: numbers,
    texts, and what Lightning, OmegaConf and others keep, see `_INERT`.

    Args:
        path: the file.

    Yields:
        Views of the mapped file, of the file's dtype, as strided as in PyTorch.

    Raises:
        ValueError, zipfile.BadZipFile, OSError: damaged, of another format, or it holds more than tensors, numbers
            and strings. Nothing in it is executed.
    """
    data = map_file(path)
    root, find = _open_archive(path, data) if data[:4] == b"PK\3\4" else _open_row_of_pickles(data)
    if not isinstance(root, dict):
        raise ValueError("it holds no state dict; write one with torch.save(model.state_dict(), FILE)")
    for name, tensor in _find_tensors(root):
        yield name, tensor.view(find(tensor.storage))


def _read_state_dict(stream: io.BytesIO, storages: _Storages) -> Any:
    constructors = {
        "collections.OrderedDict": _build_dict,
        "torch._utils._rebuild_tensor": _build_tensor,
        "torch._utils._rebuild_tensor_v2": _build_tensor,
        "torch._utils._rebuild_parameter": _build_parameter,
    }
    return read_pickle(stream, _STORAGE_TYPES, constructors, storages.load_persistent, _is_inert)


def _is_inert(name: str) -> bool:
    return _INERT.fullmatch(name) is not None


def _build_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    items: dict[Any, Any] = {}
    match arguments:
        case ():
            return items
        case (list() as pairs,) if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):  # Python 2
            set_items(items, [key for key, _ in pairs], [value for _, value in pairs])
            return items
    raise ValueError("an OrderedDict is not made of pairs")


def _build_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    match arguments:
        case (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *rest) if len(rest) in (0, 2, 3):
            # The rest: whether it needs a gradient, its hooks, and bits that say "negated" and "conjugated".
            if len(rest) < 3 or not rest[2]:
                return _Tensor(storage, offset, shape, strides)
    raise ValueError("a tensor is not made of a storage, an offset, a shape and strides alone")


def _build_parameter(arguments: tuple[Any, ...]) -> _Tensor:
    match arguments:
        case (_Tensor() as tensor, bool(), dict()):
            return tensor
    raise ValueError("a parameter is not made of a tensor")


def _find_tensors(root: dict[Any, Any]) -> Iterator[tuple[str, _Tensor]]:
    visits = itertools.count()

    def walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, _Tensor]]:
        # What refers to itself, or to the same thing many times, could go on for ever.
        if len(path) > _DEEPEST_NESTING or next(visits) > MOST_OPERATIONS:
            raise ValueError("it is nested too deeply for a state dict")
        if isinstance(value, _Tensor):
            name = ".".join(path[1:] if path[0] in _STATE_DICT_KEYS and len(path) > 1 else path)
            if len(name) > _LONGEST_NAME:
                raise ValueError(f"it has a tensor called {name:.60}...")
            yield name, value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, (*path, str(key)))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from walk(item, (*path, str(index)))

    return walk(root, ())


def _open_row_of_pickles(data: memoryview) -> tuple[Any, Callable[[_Storage], memoryview]]:
    """Opens a file from before PyTorch 1.6; returns the object in it, and what finds a storage's bytes."""
    stream = io.BytesIO(data[:_LARGEST_PICKLE])
    if read_pickle(stream, {}, {}) != _MAGIC_NUMBER or read_pickle(stream, {}, {}) != _PROTOCOL_VERSION:
        raise ValueError("it was not written by torch.save")
    machine = read_pickle(stream, {}, {})
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    storages = _Storages()
    root = _read_state_dict(stream, storages)
    keys = read_pickle(stream, {}, {})
    position = stream.tell()
    if not isinstance(keys, list) or len(keys) != len(storages.by_key):
        raise ValueError("the storages that follow are not those of the state dict")
    contents = {}
    for key in keys:
        storage = storages.by_key.get(key) if isinstance(key, str) else None
        if storage is None or storage in contents:
            raise ValueError("the storages that follow are not those of the state dict")
        size = storage.count * storage.dtype.itemsize
        if len(data) < position + 8 + size or struct.unpack_from("<q", data, position) != (storage.count,):
            raise ValueError(f"the storage {key!r:.100} is not all there")
        contents[storage] = data[position + 8 : position + 8 + size]
        position += 8 + size
    return root, contents.__getitem__


class _BoundedFile(io.FileIO):
    """A file that gives no more bytes at once than an archive's directory may take."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise ValueError(f"the archive's directory takes more than {_LARGEST_DIRECTORY} bytes")
        return super().read(size) or b""


class _Archive:
    """A zip archive whose members are views of the mapped file."""

    def __init__(self, path: str, data: memoryview) -> None:
        try:
            with _BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except NotImplementedError as error:
            raise ValueError(f"the archive's directory is damaged: {error}") from error
        # Members that share bytes would make a small file large.
        if len({info.filename for info in infos}) < len(infos) or sum(info.compress_size for info in infos) > len(data):
            raise ValueError("the archive's directory lists members twice, or larger than the file")
        self.infos = {info.filename: info for info in infos}
        self._data = data
        self._contents: dict[str, memoryview] = {}

    def find(self, name: str) -> memoryview:
        """Returns a member's bytes; their checksum is verified once."""
        if name not in self._contents:
            if name not in self.infos:
                raise ValueError(f"the archive lacks {name!r:.100}")
            self._contents[name] = _member(self._data, self.infos[name])
        return self._contents[name]


def _open_archive(path: str, data: memoryview) -> tuple[Any, Callable[[_Storage], memoryview]]:
    """Opens a file from PyTorch 1.6 or later; returns the object in it, and what finds a storage's bytes."""
    archive = _Archive(path, data)
    folders = [match[1] for name in archive.infos if (match := re.fullmatch(r"([^/]*)/data\.pkl", name))]
    if len(folders) != 1:
        raise ValueError("the archive was not written by torch.save: it has no data.pkl")
    folder = folders[0]
    if f"{folder}/byteorder" in archive.infos and archive.find(f"{folder}/byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    pickle = archive.find(f"{folder}/data.pkl")
    if len(pickle) > _LARGEST_PICKLE:
        raise ValueError(f"its data.pkl takes more than {_LARGEST_PICKLE} bytes")

    def find(storage: _Storage) -> memoryview:
        content = archive.find(f"{folder}/data/{storage.key}")
        if len(content) != storage.count * storage.dtype.itemsize:
            raise ValueError(f"the storage {storage.key!r:.100} has not the size that data.pkl says")
        return content

    return _read_state_dict(io.BytesIO(pickle), _Storages()), find


def _member(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """Returns the bytes of an archive's member in place, its checksum verified."""
    name = f"{info.filename!r:.100}"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise ValueError(f"the archive's {name} is compressed or encrypted, which torch.save does not do")
    header = data[max(info.header_offset, 0) :][:30]
    if info.header_offset < 0 or len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError(f"the archive's {name} is not where its directory says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    content = data[start : start + info.file_size]
    if len(content) < info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError(f"the archive's {name} does not match its checksum")
    return content
