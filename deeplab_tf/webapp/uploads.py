"""Image files of others: looked at with care, then decoded to the pixels that prediction sees."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from deeplab_tf.errors import UserError
from deeplab_tf.image_files import DECODE_ERRORS, to_rgb

# No reader that starts another program (EPS), or of formats that nobody has photographs in: each one is a way in. JPEG
# reads MPO too, the format of some cameras.
_UPLOAD_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")


def decode_upload(data: bytes, max_pixels: int) -> np.ndarray:
    """Decodes an image file that somebody else made, to the pixels that the other commands see.

    It is not rotated by its EXIF orientation. The size is looked at before anything is decoded, so that a small file
    of very many pixels costs nothing. Of several frames the first counts.

    Args:
        data: the file: JPEG, PNG, BMP, TIFF or WebP.
        max_pixels: H * W at most.

    Returns:
        uint8 [H, W, 3], RGB; as of `image_files.decode_pixels`.

    Raises:
        UserError: no such image, damaged, too large, or of a kind without a known value range.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_UPLOAD_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("too many pixels", max_pixels) from None
    except DECODE_ERRORS:
        raise UserError(
            "expected an image (JPEG, PNG, BMP, TIFF or WebP), got something else, or a damaged one."
        ) from None
    if image.width * image.height > max_pixels:
        raise _too_large(f"{image.width} x {image.height}", max_pixels)
    if 0 in image.size:
        raise UserError(f"expected an image with pixels, got {image.width} x {image.height}.")
    try:
        image.load()
    except DECODE_ERRORS as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"expected a whole image, cannot decode it ({reason}). Copy it again, or save it anew."
        ) from None
    return np.asarray(to_rgb(image, "the image"))


def _too_large(found: str, max_pixels: int) -> UserError:
    return UserError(
        f"expected an image of at most {max_pixels / 1e6:g} megapixels, got {found}. Make it smaller, or start the "
        "page with a larger --max_megapixels."
    )
