"""Bytes of `.pth` and `.safetensors` files as torch.save and safetensors lay them out, written without either.

`archive` (PyTorch 1.6 and later) and `row_of_pickles` (before) were compared byte by byte with files of PyTorch 2.13
of the same state dict; only its random serialization id and its storage keys differ.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
SAFETENSORS = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
PREAMBLE = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class View(NamedTuple):
    """A strided part of an array, which is stored whole; offset and strides in elements."""

    base: np.ndarray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Parameter(NamedTuple):
    """What torch.nn.Parameter is pickled as."""

    data: np.ndarray


class Call(NamedTuple):
    """module.name(*arguments)."""

    module: str
    name: str
    arguments: tuple


class Reference(NamedTuple):
    """A storage."""

    base: np.ndarray


class Pickle:
    """A pickle in the making, of protocol 2; numbers the storages it meets."""

    def __init__(self, legacy=False):
        self.bytes = b"\x80\x02"
        self.storages = {}  # key: array
        self._legacy = legacy
        self._memo = {}

    def finish(self):
        return self.bytes + b"."

    def write(self, value):
        match value:
            case None:
                self.bytes += b"N"
            case bool():
                self.bytes += b"\x88" if value else b"\x89"
            case int() if 0 <= value < 256:
                self.bytes += b"K" + struct.pack("<B", value)
            case int() if 0 <= value < 65536:
                self.bytes += b"M" + struct.pack("<H", value)
            case int() if -(2**31) <= value < 2**31:
                self.bytes += b"J" + struct.pack("<i", value)
            case int():
                digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                self.bytes += b"\x8a" + struct.pack("<B", len(digits)) + digits
            case float():
                self.bytes += b"G" + struct.pack(">d", value)
            case str():
                self._once(value, b"X" + struct.pack("<I", len(value.encode())) + value.encode())
            case np.ndarray():
                strides = tuple(stride // value.itemsize for stride in np.empty(value.shape, value.dtype).strides)
                self.write(View(value, 0, value.shape, strides))
            case View(base, offset, shape, strides):
                arguments = (Reference(base), offset, shape, strides, False, OrderedDict())
                self.write(Call("torch._utils", "_rebuild_tensor_v2", arguments))
            case Parameter(data):
                self.write(Call("torch._utils", "_rebuild_parameter", (data, True, OrderedDict())))
            case Reference(base):
                self._reference(base)
            case Call(module, name, arguments):
                self.name(module, name)
                self.write(arguments)
                self.bytes += b"R"
                self._put()
            case tuple():
                self._tuple(value)
            case list():
                self.bytes += b"]"
                self._put()
                self._items([(item,) for item in value], b"a", b"e")
            case OrderedDict():
                self.write(Call("collections", "OrderedDict", ()))
                self._items(value.items(), b"s", b"u")
                if vars(value):
                    self.write(vars(value))
                    self.bytes += b"b"
            case dict():
                self.bytes += b"}"
                self._put()
                self._items(value.items(), b"s", b"u")
            case _:
                raise TypeError(type(value))
        return self

    def name(self, module, name):
        self._once((module, name), f"c{module}\n{name}\n".encode())

    def _reference(self, base):
        key = next((key for key, array in self.storages.items() if array is base), None)
        if key is None:
            key = str(len(self.storages) + (94464396515968 if self._legacy else 0))
            self.storages[key] = base
        self.bytes += b"("
        self.write("storage")
        self.name("torch", STORAGES[str(base.dtype)])
        for value in (key, "cpu", base.size, *([None] if self._legacy else [])):
            self.write(value)
        self.bytes += b"t"
        self._put()
        self.bytes += b"Q"

    def _tuple(self, values):
        if not values:
            self.bytes += b")"
            return
        self.bytes += b"(" if len(values) > 3 else b""
        for value in values:
            self.write(value)
        self.bytes += {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t")
        self._put()

    def _items(self, items, one, many):
        items = list(items)
        for start in range(0, len(items), 1000):
            batch = items[start : start + 1000]
            self.bytes += b"(" if len(batch) > 1 else b""
            for item in batch:
                for value in item:
                    self.write(value)
            self.bytes += many if len(batch) > 1 else one

    def _once(self, key, written):
        if key in self._memo:
            index = self._memo[key]
            self.bytes += b"h" + struct.pack("<B", index) if index < 256 else b"j" + struct.pack("<I", index)
        else:
            self.bytes += written
            self._put(key)

    def _put(self, key=None):
        index = len(self._memo)
        self._memo[index if key is None else key] = index
        self.bytes += b"q" + struct.pack("<B", index) if index < 256 else b"r" + struct.pack("<I", index)


def archive(value, name="archive", **members):
    """A file of PyTorch 1.6 or later. `members` replaces members ("data.pkl") or, with None, leaves them out."""
    pickle = Pickle().write(value)
    contents = {
        "data.pkl": pickle.finish(),
        ".format_version": b"1",
        ".storage_alignment": b"64",
        "byteorder": b"little",
        **{f"data/{key}": base.tobytes() for key, base in pickle.storages.items()},
        "version": b"3\n",
        ".data/serialization_id": b"0689529564785206557815251255238484178646",
    } | members
    return zip_file([(f"{name}/{member}", content) for member, content in contents.items() if content is not None])


def zip_file(members, flags=0x0808, method=0):
    """An archive of stored members, each at a multiple of 64 bytes, as PyTorch's writer makes it."""
    file, directory = bytearray(), b""
    for name, content in members:
        name = name.encode()
        padding = -(len(file) + 30 + len(name) + 4) % 64
        sums = struct.pack("<III", zlib.crc32(content), len(content), len(content))
        start = len(file)
        file += b"PK\3\4" + struct.pack("<5H3I2H", 0, flags, method, 0, 0, 0, 0, 0, len(name), 4 + padding)
        file += name + b"FB" + struct.pack("<H", padding) + b"Z" * padding + content
        file += b"PK\7\x08" + sums
        directory += b"PK\1\2" + struct.pack("<6H", 0, 0, flags, method, 0, 0) + sums
        directory += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, start) + name
    count, end = len(members), len(file) + len(directory)
    file64 = struct.pack("<QHHIIQQQQ", 44, 0x031E, 45, 0, 0, count, count, len(directory), len(file))
    end64 = struct.pack("<IQI", 0, end, 1)
    last = struct.pack("<4H2IH", 0, 0, count, count, len(directory), len(file), 0)
    return bytes(file) + directory + b"PK\6\6" + file64 + b"PK\6\7" + end64 + b"PK\5\6" + last


def row_of_pickles(value, machine=MACHINE):
    """A file of PyTorch before 1.6."""
    pickle = Pickle(legacy=True).write(value)
    keys = sorted(pickle.storages)
    contents = [struct.pack("<q", pickle.storages[key].size) + pickle.storages[key].tobytes() for key in keys]
    pickles = [Pickle().write(machine).finish(), pickle.finish(), Pickle().write(keys).finish()]
    return PREAMBLE + b"".join(pickles) + b"".join(contents)


def safetensors(arrays, metadata=None):
    """A `.safetensors` file."""
    header, position = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, array in arrays.items():
        offsets = [position, position + array.nbytes]
        header[name] = {"dtype": SAFETENSORS[str(array.dtype)], "shape": list(array.shape), "data_offsets": offsets}
        position = offsets[1]
    return safetensors_file(header, b"".join(array.tobytes() for array in arrays.values()))


def safetensors_file(header, content):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content
