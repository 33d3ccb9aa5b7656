"""Image files of others: looked at with care, then decoded to the pixels that prediction sees."""

from __future__ import annotations

import numpy as np

from deeplab_tf.images.files import PixelLimit, decode, open_image, to_rgb

# No formats that nobody has photographs in: each one is a way in. JPEG reads MPO too, the format of some cameras.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


def decode_upload(data: bytes, max_pixels: int, name: str = "the file") -> np.ndarray:
    """Decodes an image file that somebody else made, to the pixels that the other commands see.

    It is turned upright by its EXIF orientation. The size is looked at before anything is decoded, so that a small file
    of very many pixels costs nothing. Of several frames the first counts.

    Args:
        data: the file: JPEG, PNG, BMP, TIFF or WebP.
        max_pixels: H * W at most.
        name: what messages call it.

    Returns:
        uint8 [H, W, 3], RGB; as of `image_files.decode_pixels`.

    Raises:
        UserError: no such image, damaged, too large, or of a kind without a known value range.
    """
    limit = PixelLimit(
        max_pixels,
        f"{max_pixels / 1e6:g} megapixels",
        "Make it smaller, or start the page with a larger --max_megapixels.",
    )
    image = open_image(data, name, "image", _FORMATS, limit)
    decode(image, name, "image")
    return np.asarray(to_rgb(image, name))
