"""The entrance of every function that segments: any way to give an image gives its pixels, or says what to do."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.errors import UserError
from deeplab_tf.images.files import pixels_of

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
