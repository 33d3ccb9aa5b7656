"""Raw images, masks and lists: what is kept, what is converted, what is refused and in which words."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets.raw import files as raw_files
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import read_pixels

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG with this header and these rows, whether they go together or not."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("rgb.jpg", COLOURS, {}),
        ("progressive.jpg", COLOURS, {"progressive": True}),
        ("grey.jpg", RAMP, {}),
        ("rgb.png", COLOURS, {}),
        ("grey.png", RAMP, {}),
    ],
)
def test_ordinary_images_keep_their_bytes(tmp_path: Path, name: str, pixels: np.ndarray, options: dict) -> None:
    Image.fromarray(pixels).save(tmp_path / name, **options)
    assert raw_files.read_image(tmp_path / name) == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("CMYK", "jpg"), *((mode, kind) for mode in ("RGBA", "P", "LA", "1") for kind in ("png", "tif"))],
)
def test_other_modes_become_rgb_png_and_what_is_transparent_is_laid_on_white(
    tmp_path: Path, mode: str, extension: str
) -> None:
    path = tmp_path / f"image.{extension}"
    image = Image.fromarray(COLOURS).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(RAMP))
    image.save(path)
    with Image.open(path) as saved:
        expected = on_white(saved) if mode in ("RGBA", "LA") else np.asarray(saved.convert("RGB"))
    result = decoded(raw_files.read_image(path))
    assert (result.format, result.mode) == ("PNG", "RGB")
    np.testing.assert_array_equal(np.asarray(result), expected)


def on_white(image: Image.Image) -> np.ndarray:
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


@pytest.mark.parametrize("extension", ["bmp", "webp", "tiff"])
def test_other_formats_become_png(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"image.{extension}"
    Image.fromarray(COLOURS).save(path, **({"lossless": True} if extension == "webp" else {}))
    np.testing.assert_array_equal(np.asarray(decoded(raw_files.read_image(path))), COLOURS)


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(16)
    image.save(tmp_path / "palette.png", transparency=bytes(range(0, 160, 10)))
    with Image.open(tmp_path / "palette.png") as saved:
        expected = on_white(saved)
    np.testing.assert_array_equal(np.asarray(decoded(raw_files.read_image(tmp_path / "palette.png"))), expected)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"deep.{extension}"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    result = np.asarray(decoded(raw_files.read_image(path)))
    np.testing.assert_array_equal(result, np.stack([RAMP] * 3, axis=-1))


def test_sixteen_bit_colour_is_stored_with_eight(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), COLOURS[:, :, ::-1].astype(np.uint16) * 257)
    data = raw_files.read_image(tmp_path / "deep.png")
    assert data[24] == 8  # bit depth in the PNG header
    np.testing.assert_array_equal(np.asarray(decoded(data)), COLOURS)


def test_a_png_without_its_end_is_stored_whole(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "open.png")
    data = (tmp_path / "open.png").read_bytes()
    (tmp_path / "open.png").write_bytes(data[:-12])  # TensorFlow would refuse it
    assert raw_files.read_image(tmp_path / "open.png").endswith(data[-12:])


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("number", range(2, 9))
def test_photographs_are_stored_upright_and_without_the_mark(tmp_path: Path, extension: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    path = tmp_path / f"turned.{extension}"
    Image.fromarray(COLOURS[:9]).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    result = decoded(raw_files.read_image(path))
    assert result.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(result), expected)
    assert raw_files.read_size(path) == result.size


def test_an_upright_photograph_with_exif_data_keeps_its_bytes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "a camera"
    Image.fromarray(COLOURS).save(tmp_path / "upright.jpg", exif=exif)
    assert raw_files.read_image(tmp_path / "upright.jpg") == (tmp_path / "upright.jpg").read_bytes()


@pytest.mark.parametrize("number", [5, 6, 7, 8])
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_the_size_says_whether_a_mask_was_drawn_on_the_upright_picture(
    tmp_path: Path, number: int, drawn_on: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(COLOURS[:9]).save(tmp_path / "image.png", exif=exif)
    stored = (COLOURS[:9, :, 0] > 40).astype(np.uint8)
    with Image.open(tmp_path / "image.png") as image:
        expected = (np.asarray(ImageOps.exif_transpose(image))[:, :, 0] > 40).astype(np.uint8)
    Image.fromarray(expected if drawn_on == "upright" else stored).save(tmp_path / "mask.png")
    example = raw_files.read_example("x", tmp_path / "image.png", tmp_path / "mask.png", 2)
    assert example.labels is not None
    np.testing.assert_array_equal(example.labels, expected)
    if example.labels_png:
        np.testing.assert_array_equal(np.asarray(decoded(example.labels_png)), expected)


def test_a_32_bit_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif.*32 bits"):
        raw_files.read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=rf"{name}: expected a whole image"):
        raw_files.read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_colour_of_12_bits_is_stored_with_the_pixels_that_prediction_sees(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (8, 9, 3), np.uint16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), values)
    notes: list[str] = []
    stored = raw_files.read_image(tmp_path / f"a{suffix}", say=notes.append)
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(stored))), read_pixels(tmp_path / f"a{suffix}", print)
    )
    assert len(notes) == 1 and "need 12" in notes[0]
    head = raw_files.read_head(tmp_path / f"a{suffix}")
    assert head.deep and raw_files.read_levels(tmp_path / f"a{suffix}") == values.max()


@pytest.mark.parametrize(("content", "reason"), [(b"", "0 bytes"), (b"hello", "no known image format")])
def test_an_empty_file_and_a_file_that_is_no_image_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.jpg.*{reason}"):
        raw_files.read_image(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jpg.*no such file"):
        raw_files.read_image(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match="expected a readable image file"):
        raw_files.read_image(tmp_path)


def save_mask(path: Path, mode: str) -> np.ndarray:
    labels = (np.arange(64).reshape(8, 8) % 4).astype(np.uint8)
    if mode == "P":
        image = Image.frombytes("P", (8, 8), labels.tobytes())
        image.putpalette([9, 9, 9, 200, 0, 0, 200, 0, 0, 0, 0, 1])  # two classes in one colour: indices must count
    elif mode == "1":
        labels = labels % 2
        image = Image.fromarray(labels.astype(bool))
    else:
        image = Image.fromarray(labels.astype({"L": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]))
    image.save(path)
    return labels


@pytest.mark.parametrize("mode", ["P", "L", "1", "I;16", "I"])
def test_masks_of_any_integer_mode_give_indices(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    labels = save_mask(path, mode)
    result = raw_files.read_mask(path, num_classes=4)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_mask_of_few_bits_gives_indices_and_not_stretched_levels(tmp_path: Path, bits: int) -> None:
    # By hand: Pillow writes no such PNG.
    labels = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    packed = np.packbits(np.unpackbits(labels[..., None], axis=-1)[..., 8 - bits :].reshape(8, -1), axis=-1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)

    (tmp_path / "mask.png").write_bytes(png(struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0), rows))
    np.testing.assert_array_equal(raw_files.read_mask(tmp_path / "mask.png", num_classes=2**bits), labels)


def test_the_ignore_value_becomes_255_and_255_stays(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 11, 255]], np.uint8)).save(tmp_path / "mask.png")
    result = raw_files.read_mask(tmp_path / "mask.png", num_classes=11, ignore_label=11)
    np.testing.assert_array_equal(result, [[0, 255, 255]])


def test_values_out_of_range_are_refused_with_file_and_values(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 3, 7, 200, 255]], np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"mask\.png: expected class indices 0\.\.2 .*got 3, 7, 200\."):
        raw_files.read_mask(tmp_path / "mask.png", num_classes=3)


def test_colour_masks_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for mode in ("RGB", "RGBA"):
        Image.fromarray(COLOURS).convert(mode).save(tmp_path / "mask.png")
        with pytest.raises(UserError, match=r"mask\.png: expected a mask of class indices.*8-bit grey PNG"):
            raw_files.read_mask(tmp_path / "mask.png", num_classes=3)


def test_a_jpeg_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(UserError, match=r"mask\.png: expected a mask stored without loss"):
        raw_files.read_mask(tmp_path / "mask.png", num_classes=256)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[:10]).save(tmp_path / "image.png")
    Image.fromarray(RAMP[:9] * 0).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"mask\.png: .*16x10 .*image\.png, got 16x9"):
        raw_files.read_example("image", tmp_path / "image.png", tmp_path / "mask.png", num_classes=2)


def test_a_list_may_have_a_byte_order_mark_blank_lines_and_windows_ends(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\nb \r\n")
    assert raw_files.read_list(tmp_path / "list.txt", "") == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"a\nb\na\n", "found twice: a"), (b"\n", "empty"), (b"\xff\xfe\x00", "UTF-8")]
)
def test_a_bad_list_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"list\.txt.*{reason}"):
        raw_files.read_list(tmp_path / "list.txt", "")


def test_all_ignored_pixels_are_an_empty_mask(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "image.png")
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"mask\.png: expected a mask with at least one labelled pixel"):
        raw_files.read_example("image", tmp_path / "image.png", tmp_path / "mask.png", num_classes=2)


def test_an_example_names_the_files_it_was_read_from(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "image.png")
    Image.fromarray(RAMP * 0).save(tmp_path / "mask.png")
    example = raw_files.read_example("a", tmp_path / "image.png", tmp_path / "mask.png", num_classes=2)
    assert example.files == (tmp_path / "image.png", tmp_path / "mask.png")
    assert raw_files.read_example("a", tmp_path / "image.png", None, 2).files == (tmp_path / "image.png",)


def test_a_palette_has_to_be_the_expected_one_where_the_mask_uses_it(tmp_path: Path) -> None:
    labels = save_mask(tmp_path / "mask.png", "P") % 4
    right = [(9, 9, 9), (200, 0, 0), (200, 0, 0), (0, 0, 1)]
    for palette in (right, [*right, (1, 2, 3)], right[:2], ()):
        np.testing.assert_array_equal(raw_files.read_mask(tmp_path / "mask.png", 4, palette=palette), labels)
    with pytest.raises(
        UserError, match=r"expected index 3 of its palette to be the colour \(5, 5, 5\), got \(0, 0, 1\)"
    ):
        raw_files.read_mask(tmp_path / "mask.png", 4, palette=[*right[:3], (5, 5, 5)])


def test_a_grey_palette_stands_for_its_indices(tmp_path: Path) -> None:
    image = Image.frombytes("P", (2, 1), bytes([0, 3]))
    image.putpalette([level for index in range(256) for level in (index, index, index)])
    image.save(tmp_path / "mask.png")
    result = raw_files.read_mask(tmp_path / "mask.png", 4, palette=[(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)])
    np.testing.assert_array_equal(result, [[0, 3]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_labels_by_a_table(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    table = {(0, 0, 1): 0, (0, 1, 0): 1, (255, 254, 253): 7, (1, 2, 3): 255}
    colours = np.array(list(table), np.uint8)
    chosen = rng.integers(0, len(table), (13, 17))
    image = Image.fromarray(colours[chosen])
    (image.quantize(4) if mode == "P" else image.convert(mode)).save(tmp_path / "mask.png")
    result = raw_files.read_mask(tmp_path / "mask.png", 8, colours=table)
    np.testing.assert_array_equal(result, np.array(list(table.values()), np.uint8)[chosen])
    del table[(255, 254, 253)]
    with pytest.raises(UserError, match=r"mask\.png: expected only the colours of the classes, got \(255, 254, 253\)"):
        raw_files.read_mask(tmp_path / "mask.png", 8, colours=table)


def test_a_jpeg_of_colours_is_refused_even_with_a_table(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(UserError, match="stored without loss"):
        raw_files.read_mask(tmp_path / "mask.png", 2, colours={(0, 0, 0): 0})


def test_a_png_that_only_pillow_takes_is_stored_anew(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    whole = encoded.getvalue()
    # Its last chunk became part of the pixels, or the checksum of the pixels is another one.
    length = whole.index(b"IDAT") - 4
    longer = int.from_bytes(whole[length : length + 4], "big") + 12
    for data in (whole[:length] + longer.to_bytes(4, "big") + whole[length + 4 :], whole[:-13] + b"x" + whole[-12:]):
        (tmp_path / "a.png").write_bytes(data)
        stored = raw_files.read_image(tmp_path / "a.png")
        assert stored != data
        np.testing.assert_array_equal(decoded(stored), pixels)


def test_labels_are_stored_as_their_file_compressed_them_only_where_they_are_the_same(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    values = np.repeat(np.arange(4, dtype=np.uint8), 64).reshape(16, 16)
    mask = Image.frombytes("P", (16, 16), values.tobytes())
    mask.putpalette([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, *[0] * 3 * 252])
    mask.save(tmp_path / "m.png")

    def stored(**options: Any) -> np.ndarray | None:
        example = raw_files.read_example("a", tmp_path / "a.png", tmp_path / "m.png", 4, **options)
        return np.asarray(decoded(example.labels_png)) if example.labels_png else None

    np.testing.assert_array_equal(stored(), values)
    assert stored(ignore_label=3) is None
    colours = {(0, 0, 0): 0, (1, 2, 3): 1, (4, 5, 6): 2, (7, 8, 9): 3}
    assert stored(colours=colours) is None
    example = raw_files.read_example("a", tmp_path / "a.png", tmp_path / "m.png", 4)
    assert raw_files.downsample(example, 2).labels_png == b""
    assert example.with_labels(values % 2).labels_png == b""


def test_a_link_to_nowhere_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: .*no such file \(a symbolic link to nowhere\)"):
        raw_files.read_image(tmp_path / "a.jpg")


def test_ids_may_be_paths_of_images(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("/JPEGImages/a.jpg /masks/a.png\nb\n")
    assert raw_files.read_ids(tmp_path / "list.txt", "") == ["a", "b"]
    (tmp_path / "list.txt").write_text("/JPEGImages/a.jpg /masks/a.png\na\n")
    with pytest.raises(UserError, match=r"list\.txt: expected every entry once, found twice: a"):
        raw_files.read_ids(tmp_path / "list.txt", "")


@pytest.mark.parametrize("size", [(10_001, 10_000), (15_000, 12_000), (2**31 - 1, 2**31 - 1)], ids=str)
def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png(struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0), b""))
    tracemalloc.start()
    for read in (raw_files.read_image, raw_files.read_size, lambda path: raw_files.read_mask(path, 2)):
        with pytest.raises(UserError, match=r"bomb\.png: expected .* of at most 100000000 pixels.*DEEPLAB_MAX_PIXELS"):
            read(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_the_limit_of_pixels_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    monkeypatch.setenv("DEEPLAB_MAX_PIXELS", "199")
    with pytest.raises(UserError, match="expected an image of at most 199 pixels, got 20x10"):
        raw_files.read_image(tmp_path / "a.png")
    monkeypatch.setenv("DEEPLAB_MAX_PIXELS", "200")
    raw_files.read_image(tmp_path / "a.png")
    for text in ("", "many", "-1", "0", "1e9", "999999999", "²"):
        monkeypatch.setenv("DEEPLAB_MAX_PIXELS", text)
        with pytest.raises(UserError, match="DEEPLAB_MAX_PIXELS: expected a number of pixels from 1 to 178956970"):
            raw_files.read_image(tmp_path / "a.png")


def test_a_file_that_would_start_a_program_is_no_image(tmp_path: Path) -> None:
    """Pillow hands Encapsulated PostScript to Ghostscript, whatever the file is called."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(postscript)
    with Image.open(io.BytesIO(postscript)) as image:
        assert image.format == "EPS"
    with pytest.raises(UserError, match=r"a\.png: expected a whole image, cannot decode it \(no known image format"):
        raw_files.read_image(tmp_path / "a.png")


def test_what_pillow_warns_of_is_no_second_line(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "TIFF")
    damaged = bytearray(data.getvalue())
    place = damaged.index(struct.pack("<HH", 273, 4))  # where the pixels are: one number ...
    damaged[place + 4 : place + 8] = struct.pack("<I", 2**30)  # ... of which it now has very many
    (tmp_path / "a.tif").write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.tif"):
        raw_files.read_image(tmp_path / "a.tif")


def test_a_path_with_a_zero_byte_is_one_line() -> None:
    with pytest.raises(UserError, match="expected a readable image file, got: embedded null byte"):
        raw_files.read_image("a\0b")
