"""The graph finds the orientation that Pillow finds, and survives whatever it is given."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.images.decode import decode_image
from deeplab_tf.images.files import decode_pixels, without_warnings
from deeplab_tf.images.orientation import orientation
from deeplab_tf.images.orientation_graph import orientation_in_graph, turned_in_graph

PHOTOS = Path(__file__).resolve().parents[4] / "shared" / "cases" / "photos"
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
FIND = tf.function(orientation_in_graph, input_signature=[tf.TensorSpec([], tf.string)])


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def read(encoded):
    return turned_in_graph(decode_image(encoded), orientation_in_graph(encoded))


def jpeg(number=None, endian=None, before=b"", **tags):
    exif = Image.Exif()
    if endian:
        exif.endian = endian
    exif[271] = "A camera with a long name"
    if number is not None:
        exif[274] = number
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "JPEG", exif=exif, quality=95)
    whole = data.getvalue()
    return whole[:2] + before + whole[2:]


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("number", range(1, 9))
def test_photographs_stand_upright_in_a_graph(number, endian):
    data = jpeg(number, endian)
    assert int(FIND(data)) == number
    np.testing.assert_array_equal(read(data), decode_pixels(data))


def test_other_segments_before_the_tag_are_passed():
    xmp = b"\xff\xe1\x00\x20http://ns.adobe.com/xap".ljust(34, b"\0")
    comment = b"\xff\xfe\x20\x00" + bytes(0x2000 - 2)
    assert int(FIND(jpeg(6, before=xmp + comment))) == 6


def test_what_has_no_tag_or_one_out_of_range_is_not_turned():
    png = io.BytesIO()
    Image.fromarray(PIXELS).save(png, "PNG")
    for data in (b"", b"\xff", b"\xff\xd8", jpeg(), jpeg(0), jpeg(9), png.getvalue(), jpeg(6)[:30]):
        assert int(FIND(data)) == 1


def test_damaged_files_give_what_pillow_gives_or_stay_as_they_are():
    whole = jpeg(6)
    random = np.random.default_rng(1)
    # Damage in another tag makes Pillow read none; the graph reads the orientation, which is whole.
    other_tag = range(44, 52)
    for _ in range(300):
        damaged = bytearray(whole[: random.integers(2, len(whole))] if random.random() < 0.3 else whole)
        for place in random.integers(2, min(len(damaged), 90), random.integers(1, 4)) if len(damaged) > 3 else ():
            damaged[place] = damaged[place] if place in other_tag else random.integers(256)
        found = int(FIND(bytes(damaged)))
        assert 1 <= found <= 8
        try:
            with without_warnings(), Image.open(io.BytesIO(damaged)) as image:
                assert found in (1, orientation(image))
        except OSError:
            continue


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs shared/cases")
def test_a_cat_photographed_four_ways_is_upright():
    for path in sorted(PHOTOS.glob("exif*.jpg")):
        assert int(FIND(path.read_bytes())) == int(path.stem[-1])
