"""Pictures for people: coloured labels, overlays, legends and panels; and palette PNGs for people and programs."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.runtime import files

Palette = Sequence[tuple[int, int, int]]

# Labels outside the palette, the ignore label 255 above all: the cream of the VOC development kit's pictures.
BORDER_COLOUR = (224, 224, 192)

_MARGIN = 12
_GAP = 8
_FONT_SIZE = 15
_INK = (30, 30, 30)
_JPEG_QUALITY = 92
_PAGE_JPEG_QUALITY = 85


def colourize(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """Paints each label in its colour.

    Args:
        labels: integers [H, W], 0..255.
        palette: (red, green, blue) in 0..255 per class; labels without a colour become `BORDER_COLOUR`.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: not [H, W] of integers in 0..255.
    """
    return _full_palette(palette)[_as_bytes(labels)]


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: Palette, alpha: float = 0.55, background: int | None = 0
) -> np.ndarray:
    """Lays the colours of all classes but the background over an image, with a thin line around each region.

    Args:
        image: uint8 [H, W, 3], RGB.
        labels: integers [H, W], 0..255. Pixels without a colour in the palette (255) are left as they are.
        palette: (red, green, blue) in 0..255 per class.
        alpha: opacity of the colours, 0..1.
        background: the label that is left as it is; None paints all classes.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: the sizes differ, a wrong type, or alpha outside 0..1.
    """
    _check_image(image)
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must be as large as the image {image.shape[:2]}, got {labels.shape}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be 0..1, got {alpha}.")
    colours, painted, contour = _regions(labels, palette, background)
    mixed = np.where(painted, (1 - alpha) * image + alpha * colours, image)
    mixed = np.where(contour, colours, mixed)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def draw_classes(image: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Lays the classes of a data set over an image in their colours; see `overlay`."""
    return overlay(image, labels, info.palette, background=info.background_label)


def encode_layer_png(labels: np.ndarray, palette: Palette, background: int | None = 0) -> bytes:
    """Draws what `overlay` lays over an image as a separate picture, for viewers that mix the two themselves.

    Args:
        labels: integers [H, W], 0..255.
        palette: (red, green, blue) in 0..255 per class.
        background: the label that is transparent; None for none.

    Returns:
        An RGBA PNG: the colours of all classes but the background with their lines, opaque; the rest is transparent.

    Raises:
        ValueError: not [H, W] of integers in 0..255.
    """
    colours, painted, _ = _regions(labels, palette, background)
    opacity = np.where(painted, 255, 0)
    return _encode(Image.fromarray(np.concatenate([np.rint(colours), opacity], axis=-1).astype(np.uint8)), "PNG")


def save_palette_png(path: str | os.PathLike[str], labels: np.ndarray, palette: Palette) -> None:
    """Writes labels as a PNG whose pixels are the indices and whose palette makes viewers show colours.

    Args:
        path: file to write; a file of that name is replaced in one step.
        labels: integers [H, W], 0..255.
        palette: (red, green, blue) in 0..255 per class; the other indices get `BORDER_COLOUR`.

    Raises:
        ValueError: not [H, W] of integers in 0..255.
        UserError: the folder cannot be written.
    """
    _write(path, encode_palette_png(labels, palette))


def encode_palette_png(labels: np.ndarray, palette: Palette) -> bytes:
    """Returns the file that `save_palette_png` writes."""
    picture = Image.fromarray(_as_bytes(labels))
    picture.putpalette(_full_palette(palette).tobytes())
    return _encode(picture, "PNG")


def encode_grey_png(labels: np.ndarray) -> bytes:
    """Returns a grey PNG whose pixels are the labels, integers [H, W] in 0..255."""
    return _encode(Image.fromarray(_as_bytes(labels)), "PNG")


def encode_jpeg(image: np.ndarray, largest_side: int) -> bytes:
    """Returns a picture as a JPEG for a page, made smaller where a side is longer than `largest_side` pixels.

    Args:
        image: uint8 [H, W, 3], RGB.
        largest_side: >= 1.
    """
    _check_image(image)
    height, width = image.shape[:2]
    scale = largest_side / max(height, width)
    if scale < 1:
        image = _at_height(image, max(1, round(scale * height)))
    return _encode(Image.fromarray(image), "JPEG", quality=_PAGE_JPEG_QUALITY, optimize=True)


def save_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes an RGB image as PNG or JPEG, as the file name says; a file of that name is replaced in one step.

    Args:
        path: ends in .png, .jpg or .jpeg.
        image: uint8 [H, W, 3], RGB.

    Raises:
        ValueError: another suffix or another kind of image.
        UserError: the folder cannot be written.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise ValueError(f"an image's name must end in one of {sorted(formats)}, got {os.fspath(path)!r}.")
    _check_image(image)
    options = {"quality": _JPEG_QUALITY, "subsampling": 0} if formats[suffix] == "JPEG" else {}
    _write(path, _encode(Image.fromarray(image), formats[suffix], **options))


def legend(class_names: Sequence[str], palette: Palette, width: int) -> np.ndarray:
    """Draws a swatch and a name per class, in as many lines as the width requires.

    Args:
        class_names: K names.
        palette: K colours (or more), (red, green, blue) in 0..255.
        width: of the picture, in pixels. A name that is longer than this is cut off.

    Returns:
        uint8 [height, width, 3], RGB on white; height 0 without names.

    Raises:
        ValueError: fewer colours than names, or width < 1.
    """
    if len(palette) < len(class_names) or width < 1:
        raise ValueError(
            f"a legend needs a colour per name and a width: got {len(palette)} colours for {len(class_names)} names, "
            f"width {width}."
        )
    font = ImageFont.load_default(size=_FONT_SIZE)
    swatch, line = _FONT_SIZE, _FONT_SIZE + 9
    places, x, y = [], 0, 0
    for name in class_names:
        advance = swatch + 6 + int(font.getlength(name)) + 18
        if x > 0 and x + advance > width:
            x, y = 0, y + line
        places.append((x, y))
        x += advance
    picture = Image.new("RGB", (width, y + line if places else 0), "white")
    draw = ImageDraw.Draw(picture)
    for name, colour, (x, y) in zip(class_names, palette, places, strict=False):
        top = y + (line - swatch) // 2
        draw.rectangle((x, top, x + swatch - 1, top + swatch - 1), fill=tuple(colour), outline=_INK)
        draw.text((x + swatch + 6, y + line / 2), name, _INK, font, anchor="lm")
    return np.asarray(picture, np.uint8).reshape(-1, width, 3)


def panel(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    captions: Sequence[str] = (),
    class_names: Sequence[str] = (),
    palette: Palette = (),
    height: int = 200,
) -> np.ndarray:
    """Sets pictures side by side: a title over each column, a caption under each row, a legend below.

    Args:
        rows: uint8 [H, W, 3] RGB pictures, one per title; sizes may differ from row to row and inside a row.
        titles: of the columns, such as image, truth, network, network + CRF.
        captions: one text per row, such as its mIoU; none by default. Lines may be separated by newlines.
        class_names: names for the legend; pass only those of classes that occur. No legend by default.
        palette: their colours, in the same order.
        height: of each picture, in pixels; widths follow.

    Returns:
        uint8 [H, W, 3], RGB on white.

    Raises:
        ValueError: no rows, a row without a picture per title, or captions that are not one per row.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"a panel needs rows of {len(titles)} pictures, got rows of {[len(row) for row in rows]}.")
    if captions and len(captions) != len(rows):
        raise ValueError(f"one caption per row: got {len(captions)} for {len(rows)} rows.")
    font = ImageFont.load_default(size=_FONT_SIZE)
    scaled = [[_at_height(picture, height) for picture in row] for row in rows]
    # A column is as wide as its widest picture or its title.
    widths = [
        max(int(font.getlength(title)) + 1, *(row[column].shape[1] for row in scaled))
        for column, title in enumerate(titles)
    ]
    caption_heights = [_text_height(caption) if caption else 0 for caption in captions] or [0] * len(rows)
    inner_width = sum(widths) + _GAP * (len(widths) - 1)
    key = legend(class_names, palette, inner_width)
    title_height = _text_height("title")
    total = title_height + sum(caption_heights) + len(rows) * (height + _GAP) + key.shape[0]
    picture = Image.new("RGB", (inner_width + 2 * _MARGIN, total + 2 * _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    lefts = [_MARGIN + sum(widths[:column]) + _GAP * column for column in range(len(widths))]
    for title, left, width in zip(titles, lefts, widths, strict=True):
        draw.text((left + width / 2, _MARGIN + title_height / 2), title, _INK, font, anchor="mm")
    y = _MARGIN + title_height
    for number, row in enumerate(scaled):
        for image, left, width in zip(row, lefts, widths, strict=True):
            picture.paste(Image.fromarray(image), (left + (width - image.shape[1]) // 2, y))
        y += height
        if caption_heights[number]:
            draw.multiline_text((_MARGIN, y + 4), captions[number], _INK, font)
        y += caption_heights[number] + _GAP
    if key.size:
        picture.paste(Image.fromarray(key), (_MARGIN, y))
    return np.asarray(picture, np.uint8)


def _text_height(text: str) -> int:
    return 8 + round(1.3 * _FONT_SIZE) * (text.count("\n") + 1)


def _at_height(picture: np.ndarray, height: int) -> np.ndarray:
    _check_image(picture)
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    interpolation = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(picture, (width, height), interpolation=interpolation)


def _full_palette(palette: Palette) -> np.ndarray:
    """256 colours, uint8 [256, 3]: the palette's, then `BORDER_COLOUR`."""
    colours = np.full((256, 3), BORDER_COLOUR, np.uint8)
    colours[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    return colours


def _regions(labels: np.ndarray, palette: Palette, background: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns colours float32 [H, W, 3], and bool [H, W, 1]: where they are laid over an image, and their lines."""
    indices = _as_bytes(labels)
    painted = (indices < len(palette))[..., None]
    if background is not None:
        painted &= (indices != background)[..., None]
    colours = colourize(labels, palette).astype(np.float32)
    # A region's outermost pixels get its own colour, lightened: visible on dark and bright images alike.
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    contour = (cv2.dilate(indices, cross) != cv2.erode(indices, cross))[..., None] & painted
    return np.where(contour, 0.5 * colours + 0.5 * 255, colours), painted, contour


def _as_bytes(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers [H, W], got {labels.dtype} {list(labels.shape)}.")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"labels must be 0..255, got {labels.min()}..{labels.max()}.")
    return labels.astype(np.uint8)


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}.")


def _encode(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, file_format, **options)
    return encoded.getvalue()


def _write(path: str | os.PathLike[str], encoded: bytes) -> None:
    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            file.write(encoded)

    files.write_atomically(os.fspath(path), write)
