"""The EXIF orientation of a photograph: how the camera was held, and the turn that sets the picture upright."""

from __future__ import annotations

import struct
import warnings

import numpy as np
from PIL import ExifTags, Image

# What Pillow is known to raise on damaged EXIF data. Such data turns nothing; viewers do the same.
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error)


def orientation(image: Image.Image) -> int:
    """Returns the orientation that an opened image's EXIF data gives, 1 to 8.

    Args:
        image: opened, not necessarily decoded.

    Returns:
        The number of EXIF's tag 274. 1, which is upright, where there is none, where it is damaged or out of range,
        and for TIFF: Pillow turns TIFF files itself.
    """
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _EXIF_ERRORS:
        return 1
    return int(found) if found in range(1, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright.

    Args:
        pixels: [H, W, ...], as stored.
        orientation: 1 to 8. 5 to 8 exchange height and width.

    Returns:
        A view of the pixels, [H, W, ...] or [W, H, ...].
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns (width, height) of an opened image as it stands upright."""
    return (image.height, image.width) if orientation(image) >= 5 else image.size
