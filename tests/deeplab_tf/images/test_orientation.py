"""Photographs that were taken with the camera held upright, upside down or sideways."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplab_tf.batch.blocks import Picture, _upright_size
from deeplab_tf.images.files import decode_pixels
from deeplab_tf.images.orientation import orientation, turned, upright_size
from deeplab_tf.webapp.uploads import decode_upload

ORIENTATIONS = range(1, 9)


def photograph(height=12, width=20):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def encoded(kind, exif, **options):
    buffer = io.BytesIO()
    photograph().save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def turned_by(number):
    exif = Image.Exif()
    exif[274] = number
    return exif


def with_late_exif(number):
    """A PNG whose EXIF data come after its pixels."""
    data = encoded("PNG", None)
    body = turned_by(number).tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + body
    return data[:-12] + struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:]


@pytest.mark.parametrize("number", ORIENTATIONS)
def test_stored_pixels_are_turned_as_pillow_turns_them(number):
    image = photograph()
    expected = image.copy()
    expected.getexif()[274] = number
    expected = np.asarray(ImageOps.exif_transpose(expected))
    np.testing.assert_array_equal(turned(np.asarray(image), number), expected)
    np.testing.assert_array_equal(turned(np.asarray(image)[:, :, 0], number), expected[:, :, 0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("number", ORIENTATIONS)
def test_every_format_is_decoded_upright(kind, number):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(kind, turned_by(number), **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert upright_size(image) == expected.shape[1::-1]
    np.testing.assert_array_equal(decode_pixels(data), expected)
    np.testing.assert_array_equal(decode_upload(data, 1000, "the file", pytest.fail), expected)
    assert _upright_size(Picture("x", data=data)) == expected.shape[1::-1]


def test_a_png_with_its_exif_data_at_the_end_is_decoded_upright():
    assert decode_pixels(with_late_exif(6)).shape == (20, 12, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + bytes(20),
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        turned_by(0),
        turned_by(9),
    ],
    ids=["zeros", "cut", "nowhere", "zero", "nine"],
)
def test_exif_data_without_a_meaning_turn_nothing(exif):
    data = encoded("JPEG", exif)
    with Image.open(io.BytesIO(data)) as image:
        assert orientation(image) == 1
    assert decode_pixels(data).shape == (12, 20, 3)
