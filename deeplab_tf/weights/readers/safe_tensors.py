"""`.safetensors` files: the size of a header (8 bytes), the header in JSON, then the tensors' bytes without gaps."""

# The package safetensors reads them too, but copies every tensor while the file is mapped, which takes twice the
# file's size, and reports damage by exceptions of several kinds.

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from deeplab_tf.weights.readers.mapped import BFLOAT16, map_file

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_LARGEST_HEADER = 8 << 20  # a ResNet-101's takes 0.1 MB
_LARGEST_RANK = 8
_LONGEST_NAME = 200


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array) of a `.safetensors` file.

    Args:
        path: the file.

    Yields:
        Views of the mapped file, of the file's dtype.

    Raises:
        ValueError, OSError: damaged, or of another format.
    """
    data = map_file(path)
    size = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if not 2 <= size <= min(len(data) - 8, _LARGEST_HEADER):
        raise ValueError("it does not start with the size of a header")
    content = data[8 + size :]
    layout = _read_layout(str(data[8 : 8 + size], "utf-8"))
    end = 0
    for _, begin, next_end, *_ in sorted(layout, key=lambda entry: entry[1:3]):
        if begin != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = next_end
    if end != len(content):
        raise ValueError(f"its header describes {end} bytes of tensors, the file has {len(content)}")
    for name, begin, end, dtype, shape in layout:
        yield name, np.ndarray(shape, dtype, content[begin:end])


def _read_layout(text: str) -> list[tuple[str, int, int, np.dtype, list[int]]]:
    """Returns name, first and last byte (exclusive), dtype and shape of the tensors, in the header's order."""
    try:
        header = json.loads(text, object_pairs_hook=_refuse_duplicates)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header lists no tensors")
    layout = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"it has a tensor called {name!r:.60}")
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if dtype in _DTYPES:
                numbers = [begin, end, *shape]
                sound = len(shape) <= _LARGEST_RANK and all(type(n) is int and 0 <= n < 2**48 for n in numbers)
                if sound and end - begin == math.prod(shape) * _DTYPES[dtype].itemsize:
                    layout.append((name, begin, end, _DTYPES[dtype], shape))
                    continue
            case {"dtype": str(dtype)} if dtype not in _DTYPES:
                raise ValueError(f"{name} is of type {dtype!r:.20}; known are {', '.join(_DTYPES)}")
        raise ValueError(f"{name} has no usable shape and place")
    return layout


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) < len(pairs):
        raise ValueError("its header has a name twice")
    return items
