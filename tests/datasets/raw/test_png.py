"""Masks that are stored as they were compressed are those that a general reader sees; others are left to it."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.raw import masks, png
from deeplab_tf.dataset_info import pascal_palette


def label_map(height: int = 120, width: int = 160) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[20:60, 30:90], labels[50:100, 70:140], labels[48:50, 60:90] = 3, 20, 255
    return labels


def palette_png(labels: np.ndarray, colours: int = 256, **options: Any) -> bytes:
    image = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    image.putpalette([level for colour in pascal_palette(colours) for level in colour])
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


def grey_png(labels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(labels).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("options", [{}, {"colours": 21}, {"transparency": 0}, {"compress_level": 9}])
def test_a_palette_png_is_read_like_pillow_and_stored_without_compressing_it_anew(options: dict[str, Any]) -> None:
    labels = label_map()
    data = palette_png(labels, **options)
    plain = png.read_plain(data, 10**6)
    assert plain is not None
    np.testing.assert_array_equal(plain.pixels, labels)
    assert plain.palette == masks.palette_of(Image.open(io.BytesIO(data)))
    with Image.open(io.BytesIO(plain.grey)) as stored:
        assert (stored.format, stored.mode, stored.info) == ("PNG", "L", {})
        np.testing.assert_array_equal(np.asarray(stored), labels)
    np.testing.assert_array_equal(tf.io.decode_png(plain.grey, channels=1)[:, :, 0], labels)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(plain.grey, np.uint8), cv2.IMREAD_UNCHANGED), labels)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    assert data[start : start + length] in plain.grey


def test_what_is_encoded_here_is_read_here_and_everywhere() -> None:
    for labels in (label_map(), label_map(1, 1), np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)):
        encoded = png.encode_grey(labels)
        plain = png.read_plain(encoded, 10**6)
        assert plain is not None and plain.palette is None
        for pixels in (plain.pixels, np.asarray(Image.open(io.BytesIO(encoded))), tf.io.decode_png(encoded)[..., 0]):
            np.testing.assert_array_equal(pixels, labels)
        assert plain.grey in (encoded, b"")


def test_a_file_that_compresses_badly_is_to_be_encoded_anew() -> None:
    plain = png.read_plain(palette_png(label_map(), compress_level=0), 10**6)
    assert plain is not None and plain.grey == b""


def interlaced(labels: np.ndarray) -> bytes:
    data = bytearray(grey_png(labels))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def filtered(labels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP])[1])


def test_files_of_other_kinds_are_left_to_a_general_reader() -> None:
    labels = label_map()
    data = io.BytesIO()
    Image.fromarray(np.stack([labels] * 3, -1)).save(data, "PNG")
    others = [data.getvalue(), palette_png(labels % 4, bits=2), filtered(labels), interlaced(labels), b"", b"\x89PNG"]
    data = io.BytesIO()
    Image.fromarray(labels).save(data, "TIFF")
    for other in [*others, data.getvalue()]:
        assert png.read_plain(other, 10**6) is None


def test_damage_anywhere_is_left_to_a_general_reader() -> None:
    whole = palette_png(label_map())
    for place in range(len(whole) - 12):  # the checksum of the last chunk is not looked at by everyone
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        assert png.read_plain(bytes(damaged), 10**6) is None
        assert png.read_plain(whole[:place], 10**6) is None


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: rows + b"\0"])
def test_too_few_or_too_many_pixels_are_left_to_a_general_reader(change: Any) -> None:
    rows = np.pad(label_map(), ((0, 0), (1, 0))).tobytes()
    assert png.read_plain(png._grey(160, 120, zlib.compress(rows)), 10**6) is not None
    assert png.read_plain(png._grey(160, 120, zlib.compress(change(rows))), 10**6) is None
    assert png.read_plain(png._grey(160, 120, zlib.compress(rows) + b"more"), 10**6) is None
    assert png.read_plain(png._grey(160, 120, zlib.compress(rows)[:-4] + b"wrng"), 10**6) is None
