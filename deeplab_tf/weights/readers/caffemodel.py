"""Caffe's `.caffemodel` files, read without Caffe.

Such a file is one protobuf message. Parsed in the ordinary way it would need memory for all its numbers a second
time; here the file is mapped, only the fields below are walked, and the arrays are views of the map.

    NetParameter      layer 100, before 2015 layers 2
    LayerParameter    name 1, type 2 (text), blobs 7
    V1LayerParameter  name 4, type 5 (a number), blobs 6
    BlobProto         data 5 (float) or 8 (double); shape 7, before 2015 num, channels, height, width 1 to 4
    BlobShape         dim 1

All else is skipped. The messages are nested three deep at most, so nothing recurses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from deeplab_tf.runtime.protobuf import FIXED32, FIXED64, LENGTH, VARINT, decode_varint
from deeplab_tf.weights.readers.mapped import map_file

_LAYER_FIELDS = {100: (1, 2, 7), 2: (4, 5, 6)}  # field of the net: fields of name, type and blobs
_INNER_PRODUCT = ("InnerProduct", 14)

# Bounds for files that are damaged, far above those of any network: a multi-scale ResNet-101 has some 20,000
# fields. They keep the walk through a large damaged file to seconds.
_MOST_FIELDS = 300_000
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 256


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of a `.caffemodel` file, in its order.

    A layer X gives `X.weight` and `X.bias`, kernels OIHW, matrices of inner products [outputs, inputs]. Batch
    normalisation gives `X.running_mean` and `X.running_var`, both divided by the layer's third blob. Layers
    without blobs give nothing.

    Args:
        path: the file.

    Yields:
        (name, array), float32, or float64 where the file has doubles. The arrays are read-only views of the file,
        which stays mapped as long as one of them lives.

    Raises:
        ValueError: damaged, or of another format.
        OSError: not readable.
    """
    message = _Message(map_file(path))
    for field in message.fields(0, len(message.data)):
        if field.number in _LAYER_FIELDS and field.wire_type == LENGTH:
            yield from _read_layer(message, field)


class _Field(NamedTuple):
    """One field of a message: the bytes [start, end) are its value.

    For fixed-size numbers it is all those of the same field that follow each other, `stride` bytes apart.
    """

    number: int
    wire_type: int
    start: int
    end: int
    stride: int = 0


class _Message:
    """Protobuf's wire format over a mapped file.

    Args:
        data: the file.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._fields_left = _MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """Yields the fields of the message in the bytes [start, end).

        Raises:
            ValueError: it is not a message.
        """
        while start < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError(f"more than {_MOST_FIELDS} fields")
            key, value = decode_varint(self.data, start, end)
            wire_type, stride = key & 7, 0
            if wire_type == VARINT:
                stop = decode_varint(self.data, value, end)[1]
            elif wire_type == LENGTH:
                length, value = decode_varint(self.data, value, end)
                stop = value + length
            elif wire_type in (FIXED32, FIXED64):
                stride = value - start + (4 if wire_type == FIXED32 else 8)
                stop = start + stride * self._count_repeats(start, end, value - start, stride)
            else:
                raise ValueError(f"no field of a message at byte {start}")
            if stop > end or key < 8:
                raise ValueError(f"no field of a message at byte {start}")
            yield _Field(key >> 3, wire_type, value, stop, stride)
            start = stop

    def text(self, field: _Field) -> str:
        """Returns a short text, fit for a message of one line."""
        if field.end - field.start > _LONGEST_NAME:
            raise ValueError(f"a name of {field.end - field.start} bytes")
        text = bytes(self.data[field.start : field.end]).decode()
        if not text.isprintable():
            raise ValueError(f"the name {text!r}")
        return text

    def numbers(self, field: _Field, dtype: np.dtype) -> np.ndarray:
        """Returns a view of the numbers of a field: packed into one value, or each with its own key."""
        if field.wire_type == LENGTH:
            stride = dtype.itemsize
            count, rest = divmod(field.end - field.start, stride)
            if rest:
                raise ValueError(f"{field.end - field.start} bytes of numbers of {stride} bytes")
        else:
            stride = field.stride
            count = (field.end - field.start) // stride + 1
        return np.ndarray((count,), dtype, self.data, field.start, (stride,))

    def _count_repeats(self, start: int, end: int, key_length: int, stride: int) -> int:
        """Counts the records of `stride` bytes from `start` on that begin with the same key.

        A loop over fields would take minutes for the numbers of a network that are not packed.
        """
        key = np.frombuffer(self.data, np.uint8, key_length, start)
        count, step = 1, 1
        # The step grows with the run, so that a short run costs little and a long one few steps.
        while (step := min(2 * step, 2**20, (end - start) // stride - count)) > 0:
            keys = np.ndarray((step, key_length), np.uint8, self.data, start + count * stride, (stride, 1))
            same = np.all(keys == key, axis=1)
            if not same.all():
                return count + int(same.argmin())
            count += step
        return count


def _read_layer(message: _Message, layer: _Field) -> Iterator[tuple[str, np.ndarray]]:
    name_field, type_field, blobs_field = _LAYER_FIELDS[layer.number]
    name = ""
    kind: str | int = ""
    blobs = []
    for field in message.fields(layer.start, layer.end):
        if field.number == name_field and field.wire_type == LENGTH:
            name = message.text(field)
        elif field.number == type_field and field.wire_type == LENGTH:
            kind = message.text(field)
        elif field.number == type_field and field.wire_type == VARINT:
            kind = decode_varint(message.data, field.start, field.end)[0]
        elif field.number == blobs_field and field.wire_type == LENGTH:
            blobs.append(_read_blob(message, field))
    if kind == "BatchNorm" and blobs:
        yield from _divide_statistics(name, blobs)
        return
    for index, blob in enumerate(blobs):
        if kind in _INNER_PRODUCT and index == 0 and blob.ndim == 4:
            blob = blob.reshape(-1, blob.shape[-1])  # [1, 1, outputs, inputs]
        elif kind == "Scale" or index > 0:
            blob = _as_vector(blob)
        yield f"{name}.{('weight', 'bias')[index] if index < 2 else f'blob{index}'}", blob


def _divide_statistics(name: str, blobs: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Caffe keeps sums over batches, and the factor to divide them by; where that is 0, both count as 0."""
    if len(blobs) != 3 or blobs[2].size != 1:
        raise ValueError(f"batch normalisation {name} with blobs of shapes {[blob.shape for blob in blobs]}")
    factor = blobs[2].item()
    for leaf, blob in zip(("running_mean", "running_var"), blobs, strict=False):
        # What a damaged file overflows to is refused later, with all values that are not finite.
        with np.errstate(all="ignore"):
            scaled = blob / factor if factor != 0 else np.zeros(blob.shape)
            yield f"{name}.{leaf}", _as_vector(scaled.astype(np.float32))


def _as_vector(blob: np.ndarray) -> np.ndarray:
    """[1, 1, 1, C], as older files write it, -> [C]."""
    return blob.reshape(-1) if blob.size == max(blob.shape, default=1) else blob


def _read_blob(message: _Message, blob: _Field) -> np.ndarray:
    floats, doubles = [], []
    dimensions: list[int] = []
    legacy: dict[int, int] = {}
    for field in message.fields(blob.start, blob.end):
        if field.number == 5 and field.wire_type in (LENGTH, FIXED32):
            floats.append(message.numbers(field, np.dtype("<f4")))
        elif field.number == 8 and field.wire_type in (LENGTH, FIXED64):
            doubles.append(message.numbers(field, np.dtype("<f8")))
        elif field.number == 7 and field.wire_type == LENGTH:
            dimensions += _read_dimensions(message, field)
        elif field.number in (1, 2, 3, 4) and field.wire_type == VARINT:
            legacy[field.number] = decode_varint(message.data, field.start, field.end)[0]
    # As in Caffe, where both are there: doubles before floats, the old form of a shape before the new one.
    parts = doubles or floats or [np.zeros(0, np.float32)]
    shape = tuple(legacy.get(number, 0) for number in (1, 2, 3, 4)) if legacy else tuple(dimensions)
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # Compared before anything is reshaped: what is declared never decides how much memory is taken.
    if math.prod(shape) != values.size or max(shape, default=0) >= 2**63:
        signed = tuple(size if size < 2**63 else size - 2**64 for size in shape)
        raise ValueError(f"a blob of shape {signed} with {values.size} values")
    return values.reshape(shape)


def _read_dimensions(message: _Message, shape: _Field) -> list[int]:
    dimensions: list[int] = []
    for field in message.fields(shape.start, shape.end):
        if field.number != 1 or field.wire_type not in (LENGTH, VARINT):
            continue
        position = field.start
        while position < field.end:
            size, position = decode_varint(message.data, position, field.end)
            dimensions.append(size)
            if len(dimensions) > _MOST_DIMENSIONS:
                raise ValueError(f"a blob of more than {_MOST_DIMENSIONS} dimensions")
    return dimensions
