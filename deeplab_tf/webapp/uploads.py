"""Image files of others: looked at with care, then decoded to the pixels that prediction sees."""

from __future__ import annotations

import numpy as np

from deeplab_tf.images.files import PixelLimit, Say, decode_opened, open_image

# What people have photographs in, and nothing else: each format is a way in. JPEG reads MPO too, of some cameras.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "HEIF")
ACCEPTED = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif")
"""The endings of such files."""


def decode_upload(data: bytes, max_pixels: int, name: str, say: Say) -> np.ndarray:
    """Decodes an image file that somebody else made, to the pixels that the other commands see.

    The size is looked at before anything is decoded, so that a small file of very many pixels costs nothing.

    Args:
        data: the file: JPEG, PNG, BMP, TIFF, WebP, GIF; AVIF and HEIC where Pillow's plug-ins are installed.
        max_pixels: H * W at most.
        name: what messages call it.
        say: gets what is assumed of the image, such as that the first of several frames is taken.

    Returns:
        uint8 [H, W, 3], RGB; as of `images.files.decode_pixels`.

    Raises:
        UserError: no such image, damaged, too large, or of a kind without a known value range.
    """
    limit = PixelLimit(
        max_pixels,
        f"{max_pixels / 1e6:g} megapixels",
        "Make it smaller, or start the page with a larger --max_megapixels.",
    )
    return decode_opened(open_image(data, name, "image", _FORMATS, limit), data, name, say)
