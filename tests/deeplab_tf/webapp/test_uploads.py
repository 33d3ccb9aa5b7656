import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.errors import UserError
from deeplab_tf.images.files import read_pixels
from deeplab_tf.webapp import uploads

MEGAPIXEL = 1_000_000


def decode_upload(data, max_pixels=MEGAPIXEL, say=pytest.fail):
    return uploads.decode_upload(data, max_pixels, "the file", say)


def file_of(image, kind, **options):
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


def picture(mode, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (37, 52, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def sixteen_bits(mode="I;16"):
    pixels = np.random.default_rng(1).integers(0, 65536, (37, 52), np.uint16)
    return Image.frombytes(mode, (52, 37), pixels.tobytes())


def rotated_by_exif():
    image = picture("RGB")
    exif = image.getexif()
    exif[274] = 6  # lying on its side
    return file_of(image, "JPEG", exif=exif)


def png_header(width, height):
    """A PNG that says how large it is, and then nothing."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    length, checksum = struct.pack(">I", len(head)), struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + length + chunk + checksum + struct.pack(">I", 1000) + b"IDAT"


FILES = {
    "rgb.jpg": file_of(picture("RGB"), "JPEG"),
    "progressive.jpg": file_of(picture("RGB"), "JPEG", progressive=True, subsampling=2),
    "grey.jpg": file_of(picture("L"), "JPEG"),
    "cmyk.jpg": file_of(picture("CMYK"), "JPEG"),
    "rotated.jpg": rotated_by_exif(),
    "two_pictures.jpg": file_of(picture("RGB"), "MPO", save_all=True, append_images=[picture("RGB", seed=2)]),
    "rgb.png": file_of(picture("RGB"), "PNG"),
    "rgba.png": file_of(picture("RGBA"), "PNG"),
    "grey.png": file_of(picture("L"), "PNG"),
    "grey_alpha.png": file_of(picture("LA"), "PNG"),
    "palette.png": file_of(picture("P"), "PNG"),
    "transparent_palette.png": file_of(picture("P"), "PNG", transparency=3),
    "bits.png": file_of(picture("1"), "PNG"),
    "sixteen_bits.png": file_of(sixteen_bits(), "PNG"),
    "sixteen_bits.tif": file_of(sixteen_bits(), "TIFF"),
    "rgb.bmp": file_of(picture("RGB"), "BMP"),
    "rgb.tif": file_of(picture("RGB"), "TIFF"),
    "rgb.webp": file_of(picture("RGB"), "WEBP"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_upload_has_the_pixels_that_prediction_sees(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = read_pixels(path)
    found = decode_upload(FILES[name])
    assert found.dtype == np.uint8 and found.shape == ((52, 37, 3) if name == "rotated.jpg" else (37, 52, 3))
    np.testing.assert_array_equal(found, expected)


# Pillow warns of the third by itself, and refuses the fourth.
@pytest.mark.parametrize("side", [1001, 9_000, 10_000, 14_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch, side):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match=r"at most 1 megapixels, got .*--max_megapixels"):
        decode_upload(png_header(side, side))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["rgb.jpg", "rgb.png", "rgb.bmp", "rgb.tif", "rgb.webp", "sixteen_bits.png"])
def test_a_damaged_image_is_refused_wherever_it_was_cut(name):
    data = FILES[name]
    for length in (0, 1, 10, len(data) // 3, len(data) * 9 // 10):
        with pytest.raises(UserError, match=r"^the file: expected a (whole )?image"):
            decode_upload(data[:length])


def test_what_is_no_image_and_what_would_start_a_program_are_refused():
    for data in (b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", file_of(picture("RGB"), "EPS")):
        with pytest.raises(UserError, match="no known image format"):
            decode_upload(data)


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000"])
def test_formats_that_nobody_has_photographs_in_are_refused(kind):
    with pytest.raises(UserError, match=rf"formats JPEG, PNG, .*got {kind}\. Export"):
        decode_upload(file_of(picture("RGB"), kind))


def test_the_pages_limit_is_the_only_one(monkeypatch):
    monkeypatch.setenv("DEEPLAB_MAX_PIXELS", "100")
    assert decode_upload(FILES["rgb.png"]).shape == (37, 52, 3)


def test_levels_without_a_known_range_are_refused():
    with pytest.raises(UserError, match="32 bits"):
        decode_upload(file_of(picture("F"), "TIFF"))


def test_what_is_assumed_of_an_upload_is_said():
    notes = []
    animation = file_of(picture("RGB"), "GIF", save_all=True, append_images=[picture("RGB", seed=2)])
    decode_upload(animation, say=notes.append)
    twelve_bits = np.full((37, 52), 4000, np.uint16)
    decode_upload(file_of(Image.fromarray(twelve_bits), "PNG"), say=notes.append)
    assert ["first is taken" in notes[0], "need 12" in notes[1], len(notes)] == [True, True, 2]
