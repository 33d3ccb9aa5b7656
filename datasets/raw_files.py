"""Raw images, masks and lists of ids, read with one-line complaints about what is wrong with them.

Pillow reads masks, because TensorFlow and OpenCV turn palette PNGs into colours or luminance. Images keep their
original bytes wherever TensorFlow decodes these to the same pixels as Pillow.
"""

from __future__ import annotations

import collections
import io
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.source import Example
from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

# What Pillow's readers are known to raise on damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_example(
    image_id: str,
    image_path: str | os.PathLike[str],
    mask_path: str | os.PathLike[str] | None,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> Example:
    """Reads an image and its mask, and checks that they have one size.

    Args:
        image_id: name of the example in its split.
        image_path: see `read_image`.
        mask_path: see `read_mask`; None for an image without labels.
        num_classes: K.
        ignore_label: the mask value that means 255.

    Returns:
        The example, with labels uint8 [H, W] or None.

    Raises:
        UserError: a file is missing, damaged or not what it should be, or the two sizes differ.
    """
    image = read_image(image_path)
    if mask_path is None:
        return Example(image_id, image, None)
    labels = read_mask(mask_path, num_classes, ignore_label)
    width, height = Image.open(io.BytesIO(image)).size  # reads the header only: nothing is decoded twice
    if labels.shape != (height, width):
        raise UserError(
            f"{mask_path}: expected a mask of its image's size, {width}x{height} (width x height) as in {image_path},"
            f" got {labels.shape[1]}x{labels.shape[0]}. Export both at one size; resize masks by nearest neighbour."
        )
    return Example(image_id, image, labels)


def read_image(path: str | os.PathLike[str]) -> bytes:
    """Reads an image file for storage.

    The file is decoded completely, so that damage shows here and not in the middle of training. It is not rotated
    by its EXIF orientation: masks are drawn on the stored grid.

    Args:
        path: any image that Pillow reads.

    Returns:
        The original bytes of an 8-bit RGB or grey JPEG or PNG without transparency. Anything else is stored as an
        8-bit RGB PNG: palettes are looked up, CMYK is converted, alpha is dropped, 16-bit grey is divided by 257
        (Pillow itself clips it) and 16-bit colour keeps its high byte.

    Raises:
        UserError: the file is missing, empty, damaged, no image, or of a kind without a known value range.
    """
    data, image = _load(path, "image")
    if image.mode in ("RGB", "L"):
        if image.format in ("JPEG", "MPO"):
            return data
        # Without its last chunk a PNG decodes in Pillow and not in TensorFlow.
        whole = image.format == "PNG" and b"IEND" in data
        if whole and _png_bit_depth(data) == 8 and "transparency" not in image.info:
            return data
    encoded = io.BytesIO()
    _to_rgb(image, path).save(encoded, format="PNG")
    return encoded.getvalue()


def read_mask(path: str | os.PathLike[str], num_classes: int, ignore_label: int = IGNORE_LABEL) -> np.ndarray:
    """Reads a mask of class indices.

    Args:
        path: a palette image, whose indices count and not its colours, or a grey image of 1 to 16 bits.
        num_classes: K; values 0..K-1 are classes.
        ignore_label: the value that means 255, the stored ignore label. 255 itself always does.

    Returns:
        uint8 [H, W], values 0..K-1 and 255.

    Raises:
        UserError: the file is missing, empty or damaged, holds colours, or has other values than these.
    """
    data, image = _load(path, "mask")
    if image.format in ("JPEG", "MPO", "WEBP") and image.mode != "P":
        raise UserError(
            f"{path}: expected a mask stored without loss (PNG), got {image.format}, which changes class indices."
            " Export the mask again as a palette or 8-bit grey PNG."
        )
    if image.mode not in ("P", "L", "1", *_INTEGER_MODES):
        raise UserError(
            f"{path}: expected a mask of class indices (palette or grey PNG), got colours (Pillow mode {image.mode})."
            " Replace each colour by the index of its class and save the mask as an 8-bit grey PNG."
        )
    values = np.asarray(image).astype(np.int64)
    if image.format == "PNG" and image.mode == "L":
        # Pillow stretches grey of 2 and 4 bits to 0..255: index 3 of 4 bits would arrive as 51.
        values //= 255 // (2 ** min(_png_bit_depth(data), 8) - 1)
    ignored = (values == ignore_label) | (values == IGNORE_LABEL)
    wrong = ~ignored & ((values < 0) | (values >= num_classes))
    if wrong.any():
        found = np.unique(values[wrong])
        others = sorted({ignore_label, IGNORE_LABEL})
        raise UserError(
            f"{path}: expected class indices 0..{num_classes - 1} or the ignore value"
            f" {' or '.join(map(str, others))}, got {_some(found.tolist())}."
            " Name every class, or say which value to leave out (folder: --classes, --ignore_label)."
        )
    return np.where(ignored, IGNORE_LABEL, values).astype(np.uint8)


def read_list(path: str | os.PathLike[str], hint: str) -> list[str]:
    """Reads a text file of one entry a line; blank lines do not count.

    Args:
        path: UTF-8 text, with or without a byte-order mark.
        hint: what to do about a missing file; ends the message.

    Returns:
        The entries in file order, without surrounding white space.

    Raises:
        UserError: the file is missing, not UTF-8 text, empty, or has an entry twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: expected this list, found no such file. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a UTF-8 text file of one entry a line: {error}") from None
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise UserError(f"{path}: expected one entry a line, the file is empty. {hint}")
    twice = [entry for entry, times in collections.Counter(entries).items() if times > 1]
    if twice:
        raise UserError(f"{path}: expected every entry once, found twice: {_some(twice)}. Remove the repetitions.")
    return entries


def _load(path: str | os.PathLike[str], kind: str) -> tuple[bytes, Image.Image]:
    """Returns the file's bytes and its decoded first frame; `kind` is "image" or "mask", for messages."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: expected this {kind}, found no such file. Add it or leave its id out.") from None
    except OSError as error:
        raise UserError(f"{path}: expected a readable {kind} file, got: {error.strerror or error}.") from None
    if not data:
        raise UserError(f"{path}: expected a readable {kind} file, got 0 bytes. Copy it again or leave its id out.")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except _DECODE_ERRORS as error:
        # Pillow names our in-memory file by its address, which helps nobody.
        reason = "no known image format" if "cannot identify" in str(error) else " ".join(str(error).split())
        raise UserError(
            f"{path}: expected a whole {kind}, cannot decode it ({reason}). Copy the file again or leave its id out."
        ) from None
    if 0 in image.size:
        raise UserError(f"{path}: expected a {kind} with pixels, got {image.width}x{image.height}. Leave its id out.")
    return data, image


def _to_rgb(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """Returns 8-bit RGB pixels and nothing else: no palette, transparency, colour profile or EXIF."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UserError(
            f"{path}: expected an image of 8 or 16 bits a channel, got Pillow mode {image.mode} (32 bits), whose value"
            " range is unknown. Export it as an 8-bit PNG."
        )
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns
    try:
        return Image.fromarray(np.asarray(image.convert("RGB")))
    except ValueError as error:
        raise UserError(f"{path}: expected an image that converts to RGB: {error}. Export it as an RGB PNG.") from None


def _png_bit_depth(data: bytes) -> int:
    """Returns the bits per channel from the file's first chunk (8 signature, 8 chunk head, 8 size, then this)."""
    return data[24]


def _some(items: Iterable[object], limit: int = 8) -> str:
    """Returns the first items for a message, and how many more there are."""
    listed = list(items)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(str(item) for item in listed[:limit]) + rest
