"""Image files to pixels, as 8-bit RGB, with one-line complaints about what is wrong with it.

Photographs are turned upright by their EXIF orientation, and what is transparent is laid on white. JPEGs become the
pixels that TensorFlow gives with dct_method="INTEGER_ACCURATE".
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab_tf.errors import UserError, in_short
from deeplab_tf.images.depth import Say, colours_of_8_bits, grey_of_8_bits, is_deep, is_deep_grey
from deeplab_tf.images.newer_formats import registered, require_reader
from deeplab_tf.images.not_images import recognise
from deeplab_tf.images.orientation import orientation, turned

# What Pillow's readers are known to raise on damaged files.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Pillow knows many more. Some run programs (EPS starts Ghostscript), and none of them is what people take pictures in.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Of the files that are taken for images where a folder of a data set or a job is named."""
READABLE_SUFFIXES = (
    *SUFFIXES,
    *(".jpe", ".jfif", ".gif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".avif", ".heic", ".heif"),
)
"""Of the files that are taken for images where predict.py is given a folder: all of `FORMATS`."""
STORED_FORMATS = ("JPEG", "PNG")
"""Formats of the images in records."""
MAX_PIXELS = "DEEPLAB_MAX_PIXELS"
"""Environment variable: images of more pixels are refused before they are decoded. A small file can claim any size."""
_DEFAULT_MAX_PIXELS = 100_000_000
# TensorFlow decodes no more than 2^29 bytes, three for each pixel.
_MOST_PIXELS = 2**29 // 3

StrPath = str | os.PathLike[str]
ImageLike = np.ndarray | Image.Image | bytes | StrPath
"""What `pixels_of` takes."""


class PixelLimit(NamedTuple):
    """How large an image may be.

    Attributes:
        pixels: its most pixels, H * W.
        said: how messages say that, such as "50 megapixels".
        remedy: what to do about a larger image, a sentence.
    """

    pixels: int
    said: str
    remedy: str


def warn(note: str) -> None:
    """Says something of an image as Python does: once for each image, and as the caller has set it."""
    warnings.warn(note, stacklevel=3)


def pixels_of(image: ImageLike, name: StrPath = "the image", say: Say = warn) -> np.ndarray:
    """Returns the pixels of an image, whatever it comes as: the entrance of every function that segments one.

    Args:
        image: an array uint8 [H, W, 3], RGB; a PIL image, as `decode_pixels` converts it; the bytes of an image file;
            or its path.
        name: what messages call an image that is not a path.
        say: gets what is assumed of an image; by default it becomes a Python warning.

    Returns:
        uint8 [H, W, 3], RGB. An array is returned as it is.

    Raises:
        ValueError: an array of another dtype or shape, or no image at all: what to do about it.
        UserError: a file that `read_pixels` refuses.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_pixels(bytes(image), name, say)
    if isinstance(image, str | os.PathLike):
        return read_pixels(image, say)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise UserError(f"{name}: expected an image with pixels, got {image.width}x{image.height}. Leave it out.")
        decode(image, name, "image")
        return np.asarray(to_rgb(image, name, say))
    if not hasattr(image, "__array__"):
        raise ValueError(
            f"expected an image uint8 [H, W, 3], RGB 0..255, a PIL image, a path or bytes, got {type(image).__name__}."
        )
    return check_pixels(np.asarray(image))


def check_pixels(array: np.ndarray) -> np.ndarray:
    """Returns an array if it is an image uint8 [H, W, 3] with pixels.

    Raises:
        ValueError: it is something else; the message says how to make an image of it.
    """
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3 and array.size:
        return array
    if not array.size:
        mend = "It has no pixels."
    elif array.ndim == 4 and array.shape[-1] == 3:
        mend = "Give one image at a time."
    elif array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1):
        mend = "Repeat a grey image: np.stack([grey] * 3, axis=-1), grey [H, W]."
    elif array.ndim == 3 and array.shape[-1] == 4:
        mend = "Give an RGBA image as a PIL image, or leave its alpha out: image[..., :3]."
    elif array.ndim == 3 and array.shape[0] == 3 and array.shape[-1] != 3:
        mend = "Put the channels last: image.transpose(1, 2, 0)."
    elif array.ndim != 3 or array.shape[-1] != 3:
        mend = "Put the channels last, red, green and blue."
    elif array.dtype.kind == "f":
        low, high = np.nanmin(array), np.nanmax(array)
        scaled = "255 * image" if high <= 1 else "image"
        mend = f"Its values go from {low:.4g} to {high:.4g}: np.rint({scaled}).clip(0, 255).astype(np.uint8)."
    else:
        mend = "Scale its values to 0..255, then image.astype(np.uint8)."
    raise ValueError(f"expected an image uint8 [H, W, 3], RGB 0..255, got {array.dtype} {list(array.shape)}. {mend}")


def read_pixels(path: StrPath, say: Say = warn) -> np.ndarray:
    """Reads an image file.

    Args:
        path: an image of the formats that `FORMATS` lists, its first frame.
        say: see `pixels_of`.

    Returns:
        See `decode_pixels`.

    Raises:
        UserError: the file is missing, empty, damaged, no image, or of a kind without a known value range.
    """
    return decode_pixels(read_bytes(path, "image"), path, say)


def decode_pixels(
    data: bytes, name: StrPath = "the image", say: Say = warn, limit: PixelLimit | None = None
) -> np.ndarray:
    """Decodes the bytes of an image file.

    Args:
        data: of an image of the formats that `FORMATS` lists, its first page or frame; `say` gets to know of more.
        name: what messages call it.
        say: see `pixels_of`.
        limit: how large it may be; by default `pixel_limit`.

    Returns:
        uint8 [H, W, 3], RGB, upright as the EXIF orientation says. Palettes are looked up, CMYK is converted, what is
        transparent is laid on white, 16-bit grey is divided by 257 (Pillow itself clips it) and 16-bit colour keeps
        its high byte. Where no value of 16 bits needs more than 14, 12, 10 or 8 of them, these are scaled to 0..255,
        and `say` gets to know.

    Raises:
        UserError: damaged, no image, too large, or of a kind without a known value range.
    """
    return decode_opened(open_image(data, name, "image", limit=limit), data, name, say)


def decode_opened(image: Image.Image, data: bytes, name: StrPath, say: Say = warn) -> np.ndarray:
    """Decodes an image that `open_image` has opened.

    Args:
        image: not yet decoded, or without anything that only the undecoded image tells: of 8 bits.
        data: of its file.
        name: what messages call it.
        say: see `pixels_of`.

    Returns:
        See `decode_pixels`.

    Raises:
        UserError: damaged, or of a kind without a known value range.
    """
    say_of_more(image, name, say)
    deep = is_deep(image)
    decode(image, name, "image")
    scaled = colours_of_8_bits(image, data, name, say) if deep else None
    if scaled is None:
        return np.asarray(to_rgb(image, name, say))
    return turned(on_white(scaled) if scaled.shape[-1] == 4 else scaled, orientation(image))


def read_bytes(path: StrPath, kind: str) -> bytes:
    """Reads a whole file; `kind`, such as "image", says in messages what it should be.

    Raises:
        UserError: the file is missing, cannot be read, or is empty.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
    except FileNotFoundError:
        broken = " (a symbolic link to nowhere)" if os.path.islink(path) else ""
        raise UserError(f"{path}: expected this {kind}, found no such file{broken}. Add it or leave it out.") from None
    except (OSError, ValueError) as error:  # the latter: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: expected a readable {kind} file, got: {reason}.") from None
    if not data:
        raise UserError(f"{path}: expected a readable {kind} file, got 0 bytes. Copy it again or leave it out.")
    return data


def open_image(
    data: bytes, name: StrPath, kind: str, formats: tuple[str, ...] = FORMATS, limit: PixelLimit | None = None
) -> Image.Image:
    """Opens the first frame of an image, not yet decoded.

    Args:
        data: of an image file.
        name: what messages call it.
        kind: "image" or "mask", for messages.
        formats: Pillow's names of the formats that are read.
        limit: how large it may be; by default `pixel_limit`.

    Raises:
        UserError: it is not an image, has no pixels, or too many.
    """
    limit = limit or pixel_limit()
    require_reader(data, name)
    try:
        with without_warnings():
            image = Image.open(io.BytesIO(data), formats=registered(formats))
    except Image.DecompressionBombError:
        raise _too_large(name, kind, limit, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0)}") from None
    except DECODE_ERRORS as error:
        if "cannot identify" not in str(error):
            raise _undecodable(name, kind, in_short(error)) from None
        # Pillow names our in-memory file by its address, which helps nobody.
        raise _unknown(name, kind, data, formats) from None
    if 0 in image.size:
        raise UserError(f"{name}: expected {_a(kind)} with pixels, got {image.width}x{image.height}. Leave it out.")
    if image.width * image.height > limit.pixels:
        raise _too_large(name, kind, limit, f"{image.width}x{image.height}")
    return image


def has_more(image: Image.Image) -> bool:
    """Says whether an opened image has pages or frames after the first. Of phones' pictures (MPO) that says nothing."""
    try:
        with without_warnings():
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except DECODE_ERRORS:
        return False


def say_of_more(image: Image.Image, name: StrPath, say: Say) -> None:
    """Says that the first page or frame of an opened image is taken, where it has several."""
    if has_more(image):
        say(f"{name}: it has several pages or frames; the first is taken.")


def pixel_limit() -> PixelLimit:
    """Returns how large an image may be: as many pixels as the environment variable says, or 100 million.

    Raises:
        UserError: the variable is not a number from 1 to 178,956,970, the most that TensorFlow decodes.
    """
    text = os.environ.get(MAX_PIXELS, str(_DEFAULT_MAX_PIXELS))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= _MOST_PIXELS):
        raise UserError(f"{MAX_PIXELS}: expected a number of pixels from 1 to {_MOST_PIXELS}, got {text!r:.60}.")
    return PixelLimit(
        int(text),
        f"{int(text)} pixels",
        "Cut it into smaller ones, or, if the file is not damaged, raise the limit:"
        f" {MAX_PIXELS}=N in the environment, up to {_MOST_PIXELS}.",
    )


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps to itself what Pillow warns of: sizes, which are compared here, and what is odd beside the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(image: Image.Image, name: StrPath, kind: str) -> None:
    """Decodes an opened image in place.

    Raises:
        UserError: it is damaged.
    """
    try:
        with without_warnings():
            image.load()
    except DECODE_ERRORS as error:
        raise _undecodable(name, kind, in_short(error)) from None


def to_rgb(image: Image.Image, name: StrPath, say: Say = warn) -> Image.Image:
    """Returns 8-bit RGB pixels, upright, and nothing else: no palette, transparency, colour profile or EXIF.

    Args:
        image: decoded.
        name: what messages call it.
        say: see `pixels_of`.

    Raises:
        UserError: 32 bits a channel, or no way to RGB.
    """
    turn = orientation(image)
    if is_deep_grey(image):
        image = Image.fromarray(grey_of_8_bits(image, name, say))
    elif image.mode in ("I", "F"):
        raise UserError(
            f"{name}: expected an image of 8 or 16 bits a channel, got Pillow mode {image.mode} (32 bits), whose value"
            " range is unknown. Export it as an 8-bit PNG."
        )
    try:
        if image.has_transparency_data:
            return Image.fromarray(turned(on_white(np.asarray(image.convert("RGBA"))), turn))
        return Image.fromarray(turned(np.asarray(image.convert("RGB")), turn))
    except ValueError as error:
        raise UserError(f"{name}: expected an image that converts to RGB: {error}. Export it as an RGB PNG.") from None


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Lays an image on white: what people see of it, whatever colours its transparent pixels hide.

    Args:
        rgba: uint8 [H, W, 4], alpha not multiplied into the colours.

    Returns:
        uint8 [H, W, 3], rounded to the nearest level.
    """
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _undecodable(
    name: StrPath, kind: str, reason: str, remedy: str = "Copy the file again or leave it out."
) -> UserError:
    return UserError(f"{name}: expected a whole {kind}, cannot decode it ({reason}). {remedy}")


def _unknown(name: StrPath, kind: str, data: bytes, formats: tuple[str, ...]) -> UserError:
    if set(formats) < set(FORMATS):
        with contextlib.suppress(UserError):
            known = open_image(data, name, kind).format
            return UserError(
                f"{name}: expected {_a(kind)} of the formats {', '.join(formats)}, got {known}."
                " Export it as a JPEG or PNG."
            )
    found = recognise(data)
    if found is None:
        return _undecodable(name, kind, "no known image format")
    return _undecodable(name, kind, f"no known image format: {found.what}", found.remedy)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"


def _too_large(name: StrPath, kind: str, limit: PixelLimit, size: str) -> UserError:
    return UserError(f"{name}: expected {_a(kind)} of at most {limit.said}, got {size}. {limit.remedy}")
