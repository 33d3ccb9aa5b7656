"""Label maps in PNG files, read and stored without compressing them anew where that is not needed.

A palette PNG of 8 bits and a grey one hold their pixels in the same way, a byte each: only the header and the palette
differ. So the compressed pixels of a mask can become those of the stored labels as they are.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bits, kind, compression, filters, interlaced
_GREY, _PALETTE = 0, 3
# Label maps of objects take 0.01 to 0.03 bytes a pixel; what takes more than this was hardly compressed.
_MOST_BYTES_A_PIXEL = 1 / 16
_MOST_BYTES_BESIDE = 64


class PlainPng(NamedTuple):
    """A PNG of a byte a pixel.

    Attributes:
        pixels: uint8 [H, W], palette indices or grey levels.
        palette: (red, green, blue) of each index; None for grey levels.
        grey: these as an 8-bit grey PNG; b"" where the file compresses them badly.
    """

    pixels: np.ndarray
    palette: list[tuple[int, int, int]] | None
    grey: bytes


def read_plain(data: bytes, max_pixels: int) -> PlainPng | None:
    """Reads a PNG of the simplest kind, which programs write for masks: 8-bit palette or grey, rows unfiltered.

    Args:
        data: a file.
        max_pixels: a larger one is none of these.

    Returns:
        Its pixels, with all checksums verified; None if it is of another kind or damaged: a general reader knows more.
    """
    chunks = read_chunks(data)
    if chunks is None or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != _HEADER.size:
        return None
    width, height, *kind = _HEADER.unpack(chunks[0][1])
    if kind not in ([8, _GREY, 0, 0, 0], [8, _PALETTE, 0, 0, 0]) or not 1 <= width * height <= max_pixels:
        return None
    compressed = b"".join(content for name, content in chunks if name == b"IDAT")
    length = height * (1 + width)  # each row starts with its filter
    try:
        unpacking = zlib.decompressobj()
        rows = unpacking.decompress(compressed, length + 1)
    except zlib.error:
        return None
    if len(rows) != length or not unpacking.eof or unpacking.unused_data:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, 1 + width)
    if table[:, 0].any():
        return None
    most = _MOST_BYTES_BESIDE + _MOST_BYTES_A_PIXEL * width * height
    levels = b"".join(content for name, content in chunks if name == b"PLTE")
    return PlainPng(
        pixels=np.ascontiguousarray(table[:, 1:]),
        palette=list(zip(levels[::3], levels[1::3], levels[2::3], strict=False)) if kind[1] == _PALETTE else None,
        grey=_grey(width, height, compressed) if len(compressed) <= most else b"",
    )


def encode_grey(pixels: np.ndarray) -> bytes:
    """Encodes uint8 [H, W] as an 8-bit grey PNG.

    By hand, because Pillow and OpenCV take two to three times as long: they try filters row by row. Label maps are runs
    of one value; unfiltered, and compressed by run lengths, their files are not larger.
    """
    height, width = pixels.shape
    rows = np.zeros((height, 1 + width), np.uint8)  # each row starts with its filter: 0, none
    rows[:, 1:] = pixels
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)  # runs are all it looks for, at any level
    return _grey(width, height, compressor.compress(rows.data) + compressor.flush())


def _grey(width: int, height: int, compressed: bytes) -> bytes:
    header = _HEADER.pack(width, height, 8, _GREY, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": compressed, b"IEND": b""}
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    )


def read_chunks(data: bytes) -> list[tuple[bytes, bytes]] | None:
    """Returns (name, content) of each chunk up to the end; None if the file is damaged or not a PNG.

    Pillow takes some damaged files, without the last chunk or with a wrong checksum; TensorFlow takes none.
    """
    if not data.startswith(_SIGNATURE):
        return None
    chunks, position, name = [], len(_SIGNATURE), b""
    while name != b"IEND":
        if len(data) < position + 12:
            return None
        (length,) = struct.unpack_from(">I", data, position)
        name, end = data[position + 4 : position + 8], position + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[position + 4 : end])):
            return None
        chunks.append((name, data[position + 8 : end]))
        position = end + 4
    return chunks
