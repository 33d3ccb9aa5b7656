"""Images for models that take one size only: smaller ones are padded with the mean, larger ones are scaled down."""

from __future__ import annotations

import cv2
import numpy as np


def fit_image(
    image: np.ndarray, size: tuple[int, int], mean_rgb: tuple[float, float, float]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Makes an image fit.

    Args:
        image: uint8 [H, W, 3], RGB.
        size: height and width of the model's images.
        mean_rgb: what to pad with, levels 0..255.

    Returns:
        uint8 [*size, 3], with the image at the top left, scaled down only where it is larger than that, its sides in
        proportion; and the height and width that it has there.
    """
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (min(max(round(side * scale), 1), most) for side, most in zip(image.shape[:2], size, strict=True))
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = np.round(mean_rgb).astype(np.uint8)
    fitted[:height, :width] = image
    return fitted, (height, width)


def unfit_output(output: np.ndarray, inside: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Takes what a model gave for `fit_image` back to the size of the image.

    Args:
        output: labels uint8 [h, w] or probabilities float32 [h, w, K].
        inside: what `fit_image` gave with the image.
        size: height and width of the image.

    Returns:
        The same dtype, [H, W] or [H, W, K]: labels by nearest neighbour, probabilities bilinear.
    """
    output = output[: inside[0], : inside[1]]
    if inside == size:
        return output
    if output.ndim == 2:
        return cv2.resize(output, size[::-1], interpolation=cv2.INTER_NEAREST)
    # OpenCV takes up to four channels at a time.
    planes = [cv2.resize(plane, size[::-1]) for plane in np.moveaxis(output, -1, 0)]
    return np.stack(planes, axis=-1)
