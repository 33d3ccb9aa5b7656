"""JPEGs: kept as they are where they are whole, by a look at their markers; damaged and odd ones."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.raw import files as raw_files
from datasets.raw import jpeg
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import DECODE_ERRORS


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (9, 1), (17, 500)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_of_any_size_is_kept_and_cut_anywhere_refused(tmp_path: Path, size: tuple, options: dict) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / "a.jpg", **options)
    data = (tmp_path / "a.jpg").read_bytes()
    assert raw_files.read_image(tmp_path / "a.jpg") == data
    for end in np.linspace(1, len(data) - 1, 15).astype(int):
        (tmp_path / "a.jpg").write_bytes(data[:end])
        with pytest.raises(UserError, match=r"a\.jpg: expected a whole image"):
            raw_files.read_image(tmp_path / "a.jpg")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A JPEG with one of the damages that disks, transfers and editors do."""
    changed = bytearray(data)
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
    match rng.integers(7):
        case 0:
            changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            changed[place : place + length] = bytes(min(length, len(data) - place))
        case 2:
            del changed[place:]
        case 3:
            del changed[place : place + length]
        case 4:
            changed[place:place] = rng.bytes(length)
        case 5:
            changed[place:place] = bytes([0xFF, int(rng.integers(256))])
        case 6:  # headers and tables, which decide more than pixels do
            changed[int(rng.integers(min(len(data), 640)))] = int(rng.integers(256))
    return bytes(changed)


def is_whole_jpeg(data: bytes) -> bool:
    markers = jpeg.without_pixels(data)
    return markers is not None and not markers.restarts and raw_files._size_by_headers(markers.data, "it") is not None


JPEG_OPTIONS: list[dict] = [
    {},
    {"progressive": True},
    {"restart_marker_blocks": 2},
    {"progressive": True, "optimize": True},
]


@pytest.mark.parametrize("options", JPEG_OPTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_short_look_at_a_jpeg_trusts_none_that_decoding_refuses(options: dict, mode: str) -> None:
    rng = np.random.default_rng(0)
    encoded = io.BytesIO()
    photo = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).convert(mode)
    photo.save(encoded, "JPEG", **options)
    whole = encoded.getvalue()
    assert is_whole_jpeg(whole) != ("restart_marker_blocks" in options)
    refused = 0
    for _ in range(300):
        data = mutated(whole, rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Image.open(io.BytesIO(data)).load()
        except DECODE_ERRORS:
            refused += 1
            assert not is_whole_jpeg(data)
    assert refused > 60


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, end: data[:2] + b"\xff\x00" + data[2:],  # no marker, which libjpeg skips
        lambda data, end: data[:end] + b"stray" + data[end:],
    ],
)
def test_a_jpeg_whose_markers_libjpeg_skips_is_stored_as_the_pixels_that_pillow_sees(
    tmp_path: Path, damage: Callable[[bytes, int], bytes]
) -> None:
    """TensorFlow refuses the first: training would end at it."""
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(encoded, "JPEG")
    data = damage(encoded.getvalue(), encoded.getvalue().index(b"\xff\xc4"))
    (tmp_path / "a.jpg").write_bytes(data)
    stored = raw_files.read_image(tmp_path / "a.jpg")
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(Image.open(io.BytesIO(stored)), Image.open(io.BytesIO(data)))


def test_filling_before_markers_and_bytes_behind_the_end_are_no_damage() -> None:
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(encoded, "JPEG")
    whole = encoded.getvalue()
    for marker in (b"\xff\xdb", b"\xff\xda", b"\xff\xd9"):
        assert is_whole_jpeg(whole.replace(marker, b"\xff\xff" + marker, 1))
    assert is_whole_jpeg(whole + b"\0" * 10)
    assert not is_whole_jpeg(whole[:-1])
