"""Image files of others: looked at with care, then decoded to the pixels that prediction sees."""

from __future__ import annotations

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.image_files import decode, open_image, to_rgb

_NAME = "the file"


def decode_upload(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image file that somebody else made, to the pixels that the other commands see.

    It is not rotated by its EXIF orientation. The size is looked at before anything is decoded, so that a small file
    of very many pixels costs nothing. Of several frames the first counts.

    Args:
        data: the file, of a format that `image_files.FORMATS` lists.
        max_pixels: H * W at most; `image_files.max_pixels` holds too.

    Returns:
        uint8 [H, W, 3], RGB; as of `image_files.decode_pixels`.

    Raises:
        UserError: no such image, damaged, too large, or of a kind without a known value range.
    """
    image = open_image(data, _NAME, "image")
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{_NAME}: expected an image of at most {max_pixels / 1e6:g} megapixels, got {width} x {height}. Make it "
            "smaller, or start the page with a larger --max_megapixels."
        )
    decode(image, _NAME, "image")
    return np.asarray(to_rgb(image, _NAME))
