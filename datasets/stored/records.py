"""The bytes of a TFRecord file, written and checked without TensorFlow.

The processes that convert a data set start in a fraction of a second this way. A record is framed as

    length   uint64, little endian
    check    masked CRC-32C of these 8 bytes
    payload  length bytes
    check    masked CRC-32C of the payload

and the payload is a tf.train.Example with three byte strings, in protobuf's wire format:

    image_id    UTF-8
    image       JPEG or PNG, 8-bit RGB or grey, as `raw_files.read_image` gives it
    labels      8-bit grey PNG, grey value = class index, 255 = ignore; empty in a test split
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import google_crc32c

from deeplab_tf.runtime.protobuf import before_content

from ..raw import png
from ..source import Example

_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
# Bytes that frame a payload.
FRAME_BYTES = _LENGTH.size + 2 * _CHECK.size


def encode(example: Example) -> bytes:
    """Returns the payload of a record: the same example gives the same bytes."""
    labels = b"" if example.labels is None else example.labels_png or png.encode_grey(example.labels)
    fields = {"image_id": example.image_id.encode(), "image": example.image, "labels": labels}
    parts: list[bytes] = []
    for name, value in fields.items():
        parts += [_before_value(name.encode(), len(value)), value]
    return b"".join([before_content(1, sum(map(len, parts))), *parts])


def frame(payload: bytes) -> bytes:
    """Returns a payload with its length and checksums, as it stands in a TFRecord file."""
    length = _LENGTH.pack(len(payload))
    return b"".join([length, _CHECK.pack(_masked_crc(length)), payload, _CHECK.pack(_masked_crc(payload))])


class Fields(NamedTuple):
    """A record, taken apart.

    Attributes:
        image_id: UTF-8 text.
        image: an encoded JPEG or PNG.
        labels: an encoded PNG, b"" in a test split.
    """

    image_id: str
    image: bytes
    labels: bytes


def read(path: str | os.PathLike[str], offset: int, length: int) -> Fields | str:
    """Reads one record.

    Args:
        path: a TFRecord file.
        offset: where the record starts, in bytes.
        length: its length, framing included.

    Returns:
        The record, or what is wrong with it.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        record = file.read(length)
    problem = _problem(record, length)
    try:
        return problem or decode(_payload(record))
    except ValueError as error:
        return str(error)


def read_payload(path: str | os.PathLike[str], offset: int, length: int) -> bytes:
    """Returns the payload of a record, see `read`, whatever its checksums."""
    with open(path, "rb") as file:
        file.seek(offset)
        return _payload(file.read(length))


def _payload(record: bytes) -> bytes:
    return record[_LENGTH.size + _CHECK.size : -_CHECK.size]


def decode(payload: bytes) -> Fields:
    """Takes a payload of `encode` apart, whatever the order of its entries.

    Raises:
        ValueError: it is something else.
    """
    values = {}
    for features in _contents(payload, 1):
        for entry in _contents(features, 1):
            (name,), (feature,) = _contents(entry, 1), _contents(entry, 2)
            ((value,),) = (_contents(bytes_list, 1) for bytes_list in _contents(feature, 1))
            values[name.decode()] = value
    if not {"image_id", "image", "labels"} <= values.keys():
        raise ValueError(
            f"expected a record of image_id, image and labels, got one of {', '.join(values) or 'nothing'}"
        )
    return Fields(values["image_id"].decode(), values["image"], values["labels"])


def _contents(message: bytes, field: int) -> list[bytes]:
    """Returns the contents of one field of a protobuf message whose fields are all length-delimited."""
    found, position = [], 0
    while position < len(message):
        tag, start = message[position], position + 1
        length = 0
        # A length has five bytes at most; a number without an end would take for ever.
        for shift, group in enumerate(message[start : start + 5]):
            length |= (group & 0x7F) << 7 * shift
            if group < 0x80:
                start += shift + 1
                break
        else:
            raise ValueError("the record is not a tf.train.Example")
        if start + length > len(message):
            raise ValueError("the record is not a tf.train.Example: it ends in the middle of a value")
        if tag == field << 3 | 2:
            found.append(message[start : start + length])
        position = start + length
    return found


def find_damage(path: str | os.PathLike[str], record_bytes: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Checks every record of a file against its checksums, one record in memory at a time.

    Args:
        path: a TFRecord file.
        record_bytes: length of each record as it was written, framing included.

    Yields:
        (record number from 0, what is wrong with it) for each damaged record.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size
        for number, expected in enumerate(record_bytes):
            # What a manifest claims decides how much is read, but never how much memory that takes.
            problem = _problem(file.read(min(expected, left)), expected)
            left = max(left - expected, 0)
            if problem:
                yield number, problem


def _problem(record: bytes, expected: int) -> str:
    """Says what is wrong with a framed record; "" if nothing is."""
    if len(record) < expected:
        return f"the file ends {expected - len(record)} bytes too early"
    length, end = record[: _LENGTH.size], len(record) - _CHECK.size
    payload = memoryview(record)[_LENGTH.size + _CHECK.size : end]
    if record[_LENGTH.size : _LENGTH.size + _CHECK.size] != _CHECK.pack(_masked_crc(length)):
        return "the checksum of its length does not match"
    if _LENGTH.unpack(length)[0] != len(payload):
        return f"it holds {_LENGTH.unpack(length)[0]} bytes instead of {len(payload)}"
    if record[end:] != _CHECK.pack(_masked_crc(bytes(payload))):
        return "its checksum does not match"
    return ""


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord has it: a CRC of data that hold CRCs would be weak."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _before_value(name: bytes, length: int) -> bytes:
    """Returns an entry of the map from names to features, up to the value, of so many bytes, that ends it.

    Each message is as long as what stands before the value in it, and the value; so no image is copied for them.
    """
    before = b""
    for field, key in ((1, b""), (1, b""), (2, before_content(1, len(name)) + name), (1, b"")):
        # The list of byte strings, the feature, its entry of the map, the map.
        before = key + before_content(field, len(before) + length) + before
    return before
