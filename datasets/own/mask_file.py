"""One mask file: its pixels as they are, before anything says what they mean."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.images.files import decode, open_image, pixel_limit, read_bytes

from ..raw import masks, png

Colour = tuple[int, int, int]

_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
_MOST_COLOURS = 64


class Mask(NamedTuple):
    """The pixels of a mask.

    Attributes:
        values: integers [H, W]: indices or grey levels as stored; red, green and blue packed into one number (see
            `packed`) where `coloured`.
        coloured: whether the file holds colours, and not one number a pixel.
        palette: the colours of a palette file by their indices; None for others.
        grey: the file as an 8-bit grey PNG of the same values, where it can be had without compressing anew, or b"".
    """

    values: np.ndarray
    coloured: bool
    palette: tuple[Colour, ...] | None = None
    grey: bytes = b""


class Facts(NamedTuple):
    """What is known of a mask after it was read.

    Attributes:
        width: in pixels.
        height: in pixels.
        coloured: see `Mask`.
        palette: see `Mask`; only of the indices that are used.
        pixels: how many pixels have each value; of very many colours the most frequent.
        distinct: how many different values there are.
    """

    width: int
    height: int
    coloured: bool
    palette: Mapping[int, Colour] | None
    pixels: Mapping[int, int]
    distinct: int


def read_mask(path: Path, as_levels: bool = False) -> Mask:
    """Reads a mask: a palette, grey or colour image without loss, or a .npy file of integers.

    Grey with alpha counts as grey, and so do colours whose red, green and blue are the same everywhere.

    Args:
        path: of the file.
        as_levels: its levels are compared with a threshold: a JPEG is read too, as grey.

    Raises:
        UserError: the file is missing, damaged, or of a kind that cannot hold class indices.
    """
    data = read_bytes(path, "mask")
    if path.suffix.lower() == ".npy":
        return Mask(_read_npy(path, data), False)
    plain = png.read_plain(data, pixel_limit().pixels)
    if plain is not None:
        return Mask(plain.pixels, False, None if plain.palette is None else tuple(plain.palette), plain.grey)
    image = open_image(data, path, "mask")
    decode(image, path, "mask")
    if image.format in _LOSSY and image.mode != "P":
        if as_levels:
            return Mask(np.asarray(image.convert("L")), False)
        raise UserError(
            f"{path}: expected a mask stored without loss (PNG), got {image.format}, which changes class indices."
            " Export the mask again as a palette or 8-bit grey PNG. For two classes, black and white,"
            " --threshold=128 reads it as it is."
        )
    bits = data[24] if image.format == "PNG" else 8
    if image.mode == "F":
        raise _not_integers(path, np.asarray(image))
    if image.mode in ("P", "PA"):
        pixels = np.asarray(image)
        return Mask(pixels if pixels.ndim == 2 else pixels[:, :, 0], False, tuple(masks.palette_of(image)))
    if image.mode == "1" or image.mode.startswith("I"):
        return Mask(np.asarray(image).astype(np.int64), False)
    if bits == 16:
        raise UserError(
            f"{path}: expected 8 bits a channel in a mask of colours, got 16, of which half are lost in reading. Export"
            " it with 8 bits, or as a grey PNG of class indices."
        )
    if image.mode in ("L", "LA"):
        pixels = np.asarray(image)
        if image.mode == "L" and bits < 8:
            # Pillow stretches grey of 2 and 4 bits to 0..255: index 3 of 4 bits would arrive as 51.
            pixels = pixels // (255 // (2**bits - 1))
        return Mask(pixels if pixels.ndim == 2 else pixels[:, :, 0], False)
    pixels = np.asarray(image.convert("RGB"))  # [H, W, 3]
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return Mask(np.ascontiguousarray(red), False)
    return Mask(red.astype(np.int64) << 16 | green.astype(np.int64) << 8 | blue, True)


def measure(mask: Mask) -> Facts:
    """Counts the values of a mask."""
    if mask.values.dtype == np.uint8:
        counts = np.bincount(mask.values.ravel(), minlength=256)
        used = np.flatnonzero(counts)
        counts = counts[used]
    else:
        used, counts = np.unique(mask.values, return_counts=True)
    distinct = len(used)
    if distinct > 256:
        most = np.sort(np.argsort(-counts, kind="stable")[:_MOST_COLOURS])
        used, counts = used[most], counts[most]
    palette = None
    if mask.palette is not None:
        palette = {index: mask.palette[index] for index in used.tolist() if index < len(mask.palette)}
    height, width = mask.values.shape
    return Facts(
        width, height, mask.coloured, palette, dict(zip(used.tolist(), counts.tolist(), strict=True)), distinct
    )


def packed(colour: Colour) -> int:
    """Returns a colour as one number."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpacked(number: int) -> Colour:
    """Returns the colour of such a number."""
    return (number >> 16, number >> 8 & 255, number & 255)


def _read_npy(path: Path, data: bytes) -> np.ndarray:
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        plain = tuple(side for side in shape if side != 1) if len(shape) == 3 else shape
        sound = not dtype.hasobject and len(shape) in (2, 3) and 0 not in shape
        if sound and int(np.prod(shape, dtype=object)) > pixel_limit().pixels:
            raise UserError(f"{path}: expected a mask of at most {pixel_limit().said}, got {shape}.")
        array = np.load(io.BytesIO(data), allow_pickle=False) if sound else None
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError, tokenize.TokenError) as error:
        raise UserError(f"{path}: expected a whole .npy file of class indices, cannot read it ({error}).") from None
    if array is None:
        raise UserError(
            f"{path}: expected an array of integers [height, width], got {dtype} {list(shape)}. Save the class index of"
            " each pixel."
        )
    if array.ndim == 3:
        if len(plain) != 2:
            raise UserError(
                f"{path}: expected one number a pixel, [height, width], got {list(shape)}. Scores of each class: save"
                " their argmax."
            )
        array = array.reshape(plain)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise _not_integers(path, array)
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() > 2**62:
        raise UserError(f"{path}: expected class indices, got {array.max()}.")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    array = array.astype(np.int64)
    # labelme writes -1 for pixels that do not count.
    return np.where(array == -1, 255, array)


def _not_integers(path: Path, values: np.ndarray) -> UserError:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    span = f" from {finite.min():g} to {finite.max():g}" if values.dtype.kind == "f" and finite.size else ""
    return UserError(
        f"{path}: expected class indices, which are whole numbers, got {values.dtype} values{span}. If they are"
        " probabilities of one class, save (value > 0.5) as an 8-bit grey PNG; if they are indices, save them as whole"
        " numbers."
    )
