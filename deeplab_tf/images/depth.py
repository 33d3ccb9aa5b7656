"""Images of 16 bits a channel to 8, as bright as they were meant.

Cameras, microscopes and satellites write 10, 12 or 14 bits into files of 16. Read as 16 they are nearly black.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Say = Callable[[str], None]
"""Takes what was assumed of an image, a sentence that begins with the image's name."""


def is_deep(image: Image.Image) -> bool:
    """Says whether an image has 16 bits a channel. Pillow knows this of colour images only until they are decoded."""
    return is_deep_grey(image) or any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def is_deep_grey(image: Image.Image) -> bool:
    """Says whether an image is grey, of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def largest_level(image: Image.Image, data: bytes) -> int:
    """Returns the largest level of a decoded image of 16 bits a channel, alpha left out.

    Args:
        image: grey or colour, see `is_deep`.
        data: of its file.
    """
    if is_deep_grey(image):
        return int(np.asarray(image).max())
    values = _colours_of_16_bits(image, data)
    return 257 * int(np.asarray(image.convert("RGB")).max()) if values is None else int(values[..., :3].max())


def grey_of_8_bits(image: Image.Image, name: object, say: Say) -> np.ndarray:
    """Scales grey of 16 bits to 8.

    Args:
        image: decoded, see `is_deep_grey`.
        name: what `say` calls it.
        say: gets to know where the values need fewer than 16 bits.

    Returns:
        uint8 [H, W], rounded to the nearest level.
    """
    values = np.asarray(image).astype(np.int64)
    return _scaled_to_8_bits(values, _bits_of(values, name, say))


def colours_of_8_bits(image: Image.Image, data: bytes, name: object, say: Say) -> np.ndarray | None:
    """Scales colours of 16 bits that need fewer to 8: Pillow keeps their high bytes, which are dark.

    Args:
        image: decoded, of 16 bits a channel.
        data: of its file.
        name: what `say` calls it.
        say: gets to know how many bits the values need.

    Returns:
        uint8 [H, W, 3] or, with alpha, [H, W, 4]; None where Pillow's pixels are right.
    """
    if image.mode not in ("RGB", "RGBA") or np.asarray(image)[..., :3].max() >= 64:
        return None
    values = _colours_of_16_bits(image, data)
    if values is None or not values[..., :3].any():
        return None
    colours = _scaled_to_8_bits(values[..., :3], _bits_of(values[..., :3], name, say))
    return colours if values.shape[-1] == 3 else np.dstack([colours, _scaled_to_8_bits(values[..., 3], 16)])


def _colours_of_16_bits(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Returns int64 [H, W, 3 or 4], RGB or RGBA; None where OpenCV does not read the file as such."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width):
        return None
    if values.ndim != 3 or values.shape[-1] not in (3, 4):
        return None
    order = [2, 1, 0, 3][: values.shape[-1]]
    return values[..., order].astype(np.int64)


def _bits_of(values: np.ndarray, name: object, say: Say) -> int:
    """Returns how many bits values of 16 bits have: 8, 10, 12 or 14 where none is larger, and says so; else 16."""
    most = int(values.max())
    bits = next((bits for bits in (8, 10, 12, 14) if 0 < most < 2**bits), 16)
    if bits < 16:
        scaled = "these are taken as 8 bits" if bits == 8 else "these are scaled to the range of 8 bits"
        say(f"{name}: of its 16 bits the values need {bits} (up to {most}); {scaled}.")
    return bits


def _scaled_to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Scales 0..2**bits - 1 to 0..255, uint8, rounded to the nearest."""
    highest = 2**bits - 1
    return ((values * 510 + highest) // (2 * highest)).astype(np.uint8)
