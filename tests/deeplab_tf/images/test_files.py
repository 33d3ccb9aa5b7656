"""The entrance of every function that segments: any way to give an image gives its pixels, or says what to do."""

import io
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.errors import UserError
from deeplab_tf.images import newer_formats
from deeplab_tf.images.files import decode_pixels, pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_arrays_pil_images_paths_and_bytes_give_the_same_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    lazy = Image.open(path)  # not decoded yet
    with lazy:
        ways = [PIXELS, Image.fromarray(PIXELS), lazy, path, str(path), path.read_bytes(), bytearray(path.read_bytes())]
        for image in [*ways, tf.constant(PIXELS)]:
            np.testing.assert_array_equal(pixels_of(image), PIXELS)
    assert pixels_of(PIXELS) is PIXELS


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "I;16"])
def test_a_pil_image_becomes_what_its_file_becomes(mode, tmp_path):
    image = Image.fromarray(PIXELS)
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    image.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pixels_of(image), pixels_of(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (PIXELS / 255, r"got float64 \[5, 7, 3\]. Its values go from 0.* to .*: np.rint\(255 \* image\)"),
        (PIXELS.astype(np.float32), r"got float32 .*: np.rint\(image\).clip\(0, 255\).astype\(np.uint8\)"),
        (PIXELS.astype(np.int64), r"got int64 .*image.astype\(np.uint8\)"),
        (PIXELS[..., 0], r"got uint8 \[5, 7\]. Repeat a grey image"),
        (PIXELS[..., :1], "Repeat a grey image"),
        (np.dstack([PIXELS, PIXELS[..., 0]]), r"image\[..., :3\]"),
        (PIXELS[np.newaxis], "Give one image at a time"),
        (PIXELS.transpose(2, 0, 1), "Put the channels last"),
        (PIXELS[:0], "It has no pixels"),
        ([[1, 2]], "got list"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_of_uint8_is_refused_with_what_to_do(image, says):
    with pytest.raises(ValueError, match=says):
        pixels_of(image)


def test_the_advice_for_floats_gives_the_image_back():
    np.testing.assert_array_equal(np.rint(255 * (PIXELS / 255)).clip(0, 255).astype(np.uint8), PIXELS)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "half.png").write_bytes(encoded(Image.fromarray(PIXELS))[:60])
    for path in (str(tmp_path / "half.png"), tmp_path / "half.png"):
        with pytest.raises(UserError, match=r"half\.png: expected a whole image, cannot decode it"):
            pixels_of(path)
    with pytest.raises(UserError, match=r"the third: expected a whole image"):
        pixels_of(b"no image", "the third")
    with (
        Image.open(Path(tmp_path / "half.png")) as half,
        pytest.raises(UserError, match="the fourth: "),
    ):
        pixels_of(half, "the fourth")


def said_of(image):
    notes = []
    return pixels_of(image, "it", notes.append), notes


def test_what_is_transparent_is_white_whatever_colours_hide_there():
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    rgba[2, 3, 3] = 0
    rgba[4, 1] = (10, 20, 30, 51)  # a fifth of it
    expected = PIXELS.copy()
    expected[2, 3] = 255
    expected[4, 1] = (206, 208, 210)
    for image in (Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
        np.testing.assert_array_equal(pixels_of(image), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_16_are_scaled_to_their_range_and_said(bits):
    highest = 2**bits - 1
    grey = np.linspace(0, highest, 35).round().astype(np.uint16).reshape(5, 7)
    expected = np.rint(grey * (255 / highest)).astype(np.uint8)
    for image in (Image.fromarray(grey), encoded(Image.fromarray(grey))):
        pixels, notes = said_of(image)
        np.testing.assert_array_equal(pixels, np.stack([expected] * 3, axis=-1))
        done = "taken as 8 bits" if bits == 8 else "scaled to the range of 8 bits"
        assert notes == [f"it: of its 16 bits the values need {bits} (up to {highest}); these are {done}."]
    with pytest.warns(UserWarning, match=f"the image: of its 16 bits the values need {bits}"):
        pixels_of(Image.fromarray(grey))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_12_bits_in_16_is_scaled_too(suffix, channels):
    values = np.random.default_rng(1).integers(0, 4096, (6, 9, channels), np.uint16)
    values[0, 0, 0] = 4095
    values[..., 3:] = 65535
    data = cv2.imencode(suffix, values)[1].tobytes()  # BGR, or BGRA
    pixels, notes = said_of(data)
    np.testing.assert_array_equal(pixels, np.rint(values[..., 2::-1] * (255 / 4095)).astype(np.uint8))
    assert len(notes) == 1 and "need 12" in notes[0]


def test_all_of_16_bits_and_black_say_nothing():
    for grey in (np.array([[0, 30000, 65535]], np.uint16), np.zeros((2, 3), np.uint16)):
        pixels, notes = said_of(Image.fromarray(grey))
        np.testing.assert_array_equal(pixels[..., 0], (grey / 257).round().astype(np.uint8))
        assert notes == []


@pytest.mark.parametrize("file_format", ["TIFF", "GIF", "WEBP", "PNG", "AVIF"])
def test_of_several_pages_or_frames_the_first_is_taken_and_that_is_said(file_format, tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), level, np.uint8)) for level in (200, 100, 50)]
    path = tmp_path / "pages"
    frames[0].save(path, file_format, save_all=True, append_images=frames[1:])
    notes = []
    assert abs(int(pixels_of(path, say=notes.append)[0, 0, 0]) - 200) < 3
    assert notes == [f"{path}: it has several pages or frames; the first is taken."]
    frames[0].save(path, file_format)
    assert said_of(path)[1] == []


def iso_file(brand):
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(40)


@pytest.fixture
def fresh_plug_ins(monkeypatch):
    newer_formats._register.cache_clear()
    yield monkeypatch
    newer_formats._register.cache_clear()


@pytest.mark.parametrize(("brand", "package"), [(b"heic", "pillow-heif"), (b"avif", "pillow-avif-plugin")])
def test_a_format_without_its_plug_in_names_the_plug_in(brand, package, fresh_plug_ins):
    for module in ("pillow_heif", "pillow_avif"):
        fresh_plug_ins.setitem(sys.modules, module, None)  # not installed
    for file_format in ("HEIF", "AVIF"):
        fresh_plug_ins.delitem(Image.OPEN, file_format, raising=False)
    with pytest.raises(UserError, match=rf"it: .* need a plug-in of Pillow: `pip install {package}`"):
        pixels_of(iso_file(brand), "it")


def test_an_installed_plug_in_is_switched_on_by_the_first_file_that_needs_it(fresh_plug_ins):
    def register():
        Image.register_open("HEIF", lambda fp, name: Image.Image.copy(decoded), lambda prefix: prefix[4:8] == b"ftyp")

    fresh_plug_ins.delitem(Image.OPEN, "HEIF", raising=False)
    fresh_plug_ins.setattr(Image, "ID", list(Image.ID))
    decoded = Image.fromarray(PIXELS)
    plug_in = types.SimpleNamespace(register_heif_opener=register)
    fresh_plug_ins.setitem(sys.modules, "pillow_heif", plug_in)
    try:
        np.testing.assert_array_equal(pixels_of(iso_file(b"heic")), PIXELS)
    finally:
        Image.OPEN.pop("HEIF", None)


def test_damaged_avif_files_are_named():
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8)).save(whole, "AVIF")
    data = whole.getvalue()
    for end in (20, len(data) // 2, len(data) - 9):
        with pytest.raises(UserError, match="it: expected a whole image"):
            pixels_of(data[:end], "it")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><html>404", "a web page.* Download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS.* git lfs pull"),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing.* Export it"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "a video"),
        (cv2.imencode(".tif", np.ones((4, 5, 3), np.float32))[1].tobytes(), ".*floating-point colours.* 8-bit PNG"),
    ],
)
def test_a_file_that_is_something_else_says_what_it_is(data, said):
    with pytest.raises(UserError, match=rf"^it: .* \(no known image format: {said}"):
        decode_pixels(data, "it")


def test_what_is_no_image_and_not_recognised_either_may_be_damaged():
    with pytest.raises(UserError, match=r"no known image format.* Copy the file again"):
        decode_pixels(b"hello", "it")
