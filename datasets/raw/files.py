"""Raw images, masks and lists of ids, read with one-line complaints about what is wrong with them.

Pillow reads masks, because TensorFlow and OpenCV turn palette PNGs into colours or luminance. Images keep their
original bytes wherever TensorFlow decodes these to the same pixels as Pillow.
"""

from __future__ import annotations

import collections
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError
from deeplab_tf.images.depth import is_deep, largest_level
from deeplab_tf.images.files import (
    STORED_FORMATS,
    Say,
    decode,
    decode_opened,
    has_more,
    open_image,
    pixel_limit,
    read_bytes,
    say_of_more,
    warn,
)
from deeplab_tf.images.orientation import orientation, turned, upright_size

from ..messages import some
from ..source import Example
from . import jpeg, masks, png
from .masks import Colour


class _StoredImage(NamedTuple):
    """An image as it is to be stored.

    Attributes:
        data: what `read_image` returns.
        width: of the upright picture, in pixels.
        height: of the upright picture.
        orientation: how the file is turned, 1 (upright) to 8; `data` is upright.
    """

    data: bytes
    width: int
    height: int
    orientation: int


_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_example(
    image_id: str,
    image_path: str | os.PathLike[str],
    mask_path: str | os.PathLike[str] | None,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
    *,
    palette: Sequence[Colour] = (),
    colours: Mapping[Colour, int] | None = None,
) -> Example:
    """Reads an image and its mask, and checks that they have one size.

    Args:
        image_id: name of the example in its split.
        image_path: see `read_image`.
        mask_path: see `read_mask`; None for an image without labels.
        num_classes: K.
        ignore_label: the mask value that means 255.
        palette: see `read_mask`.
        colours: see `read_mask`.

    Returns:
        The example, with labels uint8 [H, W] or None.

    Raises:
        UserError: a file is missing, damaged or not what it should be, the two sizes differ, or no pixel is labelled.
    """
    if mask_path is None:
        return Example(image_id, read_image(image_path), None, (Path(image_path),))
    labels, labels_png = _stored_mask(mask_path, num_classes, ignore_label, palette, colours)
    example = build_example(image_id, image_path, labels, mask_path)
    return example._replace(labels_png=labels_png) if example.labels is labels else example


def build_example(
    image_id: str,
    image_path: str | os.PathLike[str],
    labels: np.ndarray,
    labels_path: str | os.PathLike[str],
    *,
    image_data: bytes = b"",
    frame: str = "auto",
    say: Say = warn,
) -> Example:
    """Reads an image and joins it with its labels.

    Args:
        image_id: name of the example in its split.
        image_path: see `read_image`.
        labels: uint8 [H, W], class indices and 255.
        labels_path: where they come from.
        image_data: the content of the image file, where it is in memory.
        frame: what the labels were drawn on: the "upright" picture, the pixels as the file has them ("stored"), or
            "auto": the upright picture, unless its size fits only the stored pixels. In the latter two cases they are
            turned with the picture.
        say: see `read_image`.

    Returns:
        The example.

    Raises:
        UserError: the image is missing or damaged, or the labels have another size than it, or ignore every pixel.
    """
    image = _stored_image(image_path, image_data, say)
    upright = (image.height, image.width)
    by_size = frame == "auto" and labels.shape != upright
    if (by_size or frame == "stored") and turned(labels, image.orientation).shape == upright:
        if image.orientation != 1:
            labels = np.ascontiguousarray(turned(labels, image.orientation))
    if labels.shape != upright:
        found = "x".join(map(str, labels.shape[::-1]))
        raise UserError(
            f"{labels_path}: expected a mask of its image's size, {image.width}x{image.height} (width x height) as in"
            f" {image_path}, got {found}. Export both at one size; resize masks by nearest neighbour."
        )
    if (labels == IGNORE_LABEL).all():
        raise UserError(
            f"{labels_path}: expected a mask with at least one labelled pixel, all of them are ignored (255)."
            " Nothing can be learned from it: leave the image out. In a mask of 0 and 255, write 1 instead of 255."
        )
    return Example(image_id, image.data, labels, (Path(image_path), Path(labels_path)))


def read_image(path: str | os.PathLike[str], data: bytes = b"", say: Say = warn) -> bytes:
    """Reads an image file for storage.

    The file is decoded completely, so that damage shows here and not in the middle of training.

    Args:
        path: any image that Pillow reads.
        data: the content of the file, where it is in memory.
        say: gets what is assumed of the image, a sentence that begins with its name.

    Returns:
        The original bytes of an 8-bit RGB or grey JPEG or PNG that is upright and without transparency. Anything else
        is stored as an 8-bit RGB PNG of the pixels that prediction sees, see `images.files.decode_pixels`. (Turned
        photographs as well, because compressing a JPEG anew would change its pixels.)

    Raises:
        UserError: the file is missing, empty, damaged, no image, or of a kind without a known value range.
    """
    return _stored_image(path, data, say).data


def read_mask(
    path: str | os.PathLike[str],
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
    *,
    palette: Sequence[Colour] = (),
    colours: Mapping[Colour, int] | None = None,
) -> np.ndarray:
    """Reads a mask.

    Args:
        path: a palette image, whose indices count and not its colours, or a grey image of 1 to 16 bits. With
            `colours`, an RGB or palette image, whose colours count; grey images stay indices.
        num_classes: K; values 0..K-1 are classes.
        ignore_label: the value that means 255, the stored ignore label. 255 itself always does.
        palette: the colour that a palette image has to have at each index that it uses, as far as this list goes: a
            program that sorts a palette anew changes the indices. A grey palette (index i has i, i, i) will do too.
        colours: the label, 0..K-1 or 255, of each colour.

    Returns:
        uint8 [H, W], values 0..K-1 and 255.

    Raises:
        UserError: the file is missing, empty or damaged, holds colours without a meaning, or has other values.
    """
    return _stored_mask(path, num_classes, ignore_label, palette, colours)[0]


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns (width, height) of an image as it stands upright; decodes nothing.

    Raises:
        UserError: the file is missing, empty or no image.
    """
    return upright_size(open_image(read_bytes(path, "image"), path, "image"))


class Head(NamedTuple):
    """What the head of an image file says.

    Attributes:
        width: of the upright picture, in pixels.
        height: of the upright picture.
        orientation: how the file is turned, 1 (upright) to 8.
        deep: whether it has 16 bits a channel, of which fewer may be used.
        has_more: whether pages or frames follow the first.
    """

    width: int
    height: int
    orientation: int
    deep: bool
    has_more: bool


def read_head(path: str | os.PathLike[str], data: bytes = b"") -> Head:
    """Reads the head of an image; decodes nothing.

    Args:
        path: of the file.
        data: its content, where it is in memory.

    Raises:
        UserError: the file is missing, empty or no image.
    """
    image = open_image(data or read_bytes(path, "image"), path, "image")
    deep, more = is_deep(image), has_more(image)  # first: to find a PNG's EXIF data decodes it
    return Head(*upright_size(image), orientation(image), deep, more)


def read_levels(path: str | os.PathLike[str]) -> int:
    """Returns the largest level of an image of 16 bits a channel.

    Raises:
        UserError: the file is missing or damaged.
    """
    data = read_bytes(path, "image")
    image = open_image(data, path, "image")
    decode(image, path, "image")
    return largest_level(image, data)


def read_mode(path: str | os.PathLike[str]) -> str:
    """Returns Pillow's name of the kind of pixels of an image, such as "RGB" or "P"; decodes nothing.

    Raises:
        UserError: the file is missing, empty or no image.
    """
    return open_image(read_bytes(path, "image"), path, "image").mode


def read_palette(path: str | os.PathLike[str]) -> tuple[Colour, ...]:
    """Returns the colours of a palette image by their indices, () for any other image; decodes nothing.

    Raises:
        UserError: the file is missing, empty or no image.
    """
    image = open_image(read_bytes(path, "mask"), path, "mask")
    return tuple(masks.palette_of(image)) if image.mode == "P" else ()


def downsample(example: Example, factor: int) -> Example:
    """Makes an example smaller.

    Args:
        example: H x W pixels.
        factor: >= 2.

    Returns:
        ceil(H / factor) x ceil(W / factor) pixels, the image as PNG. Each pixel of the image is the mean of a square
        of factor x factor; its label is that of the square's pixel (factor // 2, factor // 2), never a mixture.
    """
    with Image.open(io.BytesIO(example.image)) as image:
        smaller = encode_png(image.reduce(factor))
        height, width = image.height, image.width
    if example.labels is None:
        return example._replace(image=smaller)
    rows = np.minimum(np.arange(0, height, factor) + factor // 2, height - 1)
    columns = np.minimum(np.arange(0, width, factor) + factor // 2, width - 1)
    return example.with_labels(example.labels[np.ix_(rows, columns)])._replace(image=smaller)


def read_list(path: str | os.PathLike[str], hint: str) -> list[str]:
    """Reads a text file of one entry per line; blank lines do not count.

    Args:
        path: UTF-8 text, with or without a byte-order mark.
        hint: what to do about a missing file; ends the message.

    Returns:
        The entries in file order, without surrounding white space.

    Raises:
        UserError: the file is missing, not UTF-8 text, empty, or has an entry twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: expected this list, found no such file. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a UTF-8 text file of one entry per line: {error}") from None
    if "\0" in text:
        raise UserError(f"{path}: expected a UTF-8 text file, found zero bytes, as in UTF-16. Save it as UTF-8.")
    entries = [line.strip() for line in text.splitlines() if line.strip()]
    if not entries:
        raise UserError(f"{path}: expected one entry per line, the file is empty. {hint}")
    _check_once(path, entries)
    return entries


def read_ids(path: str | os.PathLike[str], hint: str) -> list[str]:
    """Reads a list of image ids of one of the PASCAL data sets.

    Args:
        path: see `read_list`. A line is an id, or starts with a path such as "/JPEGImages/ID.jpg".
        hint: see `read_list`.

    Returns:
        The ids in file order.

    Raises:
        UserError: see `read_list`; an id comes twice.
    """
    ids = [PurePosixPath(line.split()[0]).stem for line in read_list(path, hint)]
    _check_once(path, ids)
    return ids


def _check_once(path: str | os.PathLike[str], entries: Sequence[str]) -> None:
    twice = [entry for entry, times in collections.Counter(entries).items() if times > 1]
    if twice:
        raise UserError(f"{path}: expected every entry once, found twice: {some(twice)}. Remove the repetitions.")


def _stored_image(path: str | os.PathLike[str], data: bytes = b"", say: Say = warn) -> _StoredImage:
    """Reads an image as `read_image` does, from its file or from what it holds."""
    data = data or read_bytes(path, "image")
    markers = jpeg.without_pixels(data)
    if markers is not None and not markers.restarts:
        size = _size_by_headers(markers.data, path)
        if size is not None:
            return _StoredImage(data, *size, 1)
    image = open_image(data, path, "image")
    is_jpeg = markers is not None and image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
    if is_jpeg and orientation(image) == 1:
        size = image.size
        # At an eighth of its size every coefficient is still read, so damage shows as well, in half the time.
        image.draft("L", (1, 1))
        decode(image, path, "image")
        return _StoredImage(data, *size, 1)
    if image.format == "PNG" and image.mode in ("RGB", "L") and _png_bit_depth(data) == 8:
        decode(image, path, "image")  # first: a PNG may have its EXIF data after its pixels
        if orientation(image) == 1 and "transparency" not in image.info and png.read_chunks(data) is not None:
            say_of_more(image, path, say)
            return _StoredImage(data, *image.size, 1)
    pixels = decode_opened(image, data, path, say)
    height, width = pixels.shape[:2]
    return _StoredImage(encode_png(Image.fromarray(pixels)), width, height, orientation(image))


def _size_by_headers(headers: bytes, path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Looks at an RGB or grey JPEG without its pixels.

    Returns:
        (width, height); None if it is of another kind, turned, or may have damage that decoding would show.
    """
    try:
        image = open_image(headers, path, "image", STORED_FORMATS)
        size, mode, turn = image.size, image.mode, orientation(image)
        image.draft("L", (1, 1))
        decode(image, path, "image")
    except UserError:
        return None  # what is wrong is told of the whole file
    return size if mode in ("RGB", "L") and turn == 1 else None


def _stored_mask(
    path: str | os.PathLike[str],
    num_classes: int,
    ignore_label: int,
    palette: Sequence[Colour],
    colours: Mapping[Colour, int] | None,
) -> tuple[np.ndarray, bytes]:
    """Returns what `read_mask` does, and the labels as they are to be stored, where the file has them so, else b""."""
    data = read_bytes(path, "mask")
    plain = png.read_plain(data, pixel_limit().pixels) if colours is None else None
    if plain is not None:
        labels = masks.labels_of_indices(path, plain.pixels, plain.palette, 1, num_classes, ignore_label, palette)
        return labels, plain.grey if labels is plain.pixels else b""
    image = open_image(data, path, "mask")
    decode(image, path, "mask")
    if image.format in ("JPEG", "MPO", "WEBP") and image.mode != "P":
        raise UserError(
            f"{path}: expected a mask stored without loss (PNG), got {image.format}, which changes class indices."
            " Export the mask again as a palette or 8-bit grey PNG."
        )
    if colours is not None and image.mode in ("P", "RGB", "RGBA"):
        return masks.labels_of_colours(path, image, colours), b""
    if image.mode not in ("P", "L", "1", *_INTEGER_MODES):
        raise UserError(
            f"{path}: expected a mask of class indices (palette or grey PNG), got colours (Pillow mode {image.mode})."
            " Replace each colour by the index of its class and save the mask as an 8-bit grey PNG (folder: or give"
            " every class its colour in classes.txt)."
        )
    # Pillow stretches grey of 2 and 4 bits to 0..255: index 3 of 4 bits would arrive as 51.
    stretch = 255 // (2 ** min(_png_bit_depth(data), 8) - 1) if image.format == "PNG" and image.mode == "L" else 1
    found = masks.palette_of(image) if image.mode == "P" else None
    values = np.asarray(image)
    return masks.labels_of_indices(path, values, found, stretch, num_classes, ignore_label, palette), b""


def encode_png(image: Image.Image) -> bytes:
    """Encodes an image as a PNG."""
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()


def _png_bit_depth(data: bytes) -> int:
    """Returns the bits per channel from the file's first chunk (8 signature, 8 chunk head, 8 size, then this)."""
    return data[24]
