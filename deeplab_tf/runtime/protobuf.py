"""Protocol buffers' wire format, as far as messages are read and written here without their declarations.

A field is a key, its number and the type of what follows, and a value. Numbers are varints: seven bits a byte, the
lowest first; the highest bit of a byte says that more follow. Strings, bytes and messages are a length, as a varint,
and so many bytes.
"""

from __future__ import annotations

# Types of values. The groups, 3 and 4, are no longer written by anything.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def encode_varint(number: int) -> bytes:
    """Returns an integer >= 0 as a varint."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def decode_varint(data: bytes | memoryview, start: int, end: int) -> tuple[int, int]:
    """Reads the varint at `start`, of 0 to 64 bits.

    Args:
        data: the message.
        start: where it begins.
        end: where the message ends.

    Returns:
        The number, and the position after it.

    Raises:
        ValueError: there is none.
    """
    value = 0
    for index, byte in enumerate(data[start : min(end, start + 10)]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value % 2**64, start + index + 1
    raise ValueError(f"no number at byte {start}")


def before_content(number: int, length: int) -> bytes:
    """Returns what stands before the content of a field with a length.

    Args:
        number: of the field.
        length: of the content, in bytes.
    """
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)


def encode_field(number: int, content: bytes) -> bytes:
    """Returns a field that is a string, bytes or a message."""
    return before_content(number, len(content)) + content
