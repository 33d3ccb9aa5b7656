"""A file for another program is compared with the network before it has its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.inference.labels import labels_of

Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""From uint8 [H, W, 3] to labels uint8 [H, W] and their probabilities float32 [H, W], or None for these."""

# Enough to show what is wrong, in a second or two for a large network.
_LONGEST_SIDE = 481


class Format(NamedTuple):
    """A way to store the network, and how far it may be from it.

    Attributes:
        suffix: of the file's name, its ending included.
        gap: two classes whose probabilities differ by less than this may change places ...
        share: ... and others in this share of the pixels, before the file counts as wrong.
    """

    suffix: str
    gap: float
    share: float


class Written(NamedTuple):
    """A file that was written, and how it compares with the network in float32.

    Attributes:
        path: of the file.
        num_bytes: its size.
        agreement: share of the pixels with the same label in the pictures that it was tried with, 0..1.
    """

    path: str
    num_bytes: int
    agreement: float


def compare(
    predict: Predict,
    probabilities_of: Callable[[np.ndarray], np.ndarray],
    pictures: Iterable[np.ndarray],
    name: str,
    allowed: Format,
) -> float:
    """Compares a file with the network.

    Args:
        predict: runs the file.
        probabilities_of: runs the network, uint8 [H, W, 3] to float32 [H, W, K].
        pictures: what to compare on, uint8 [H, W, 3].
        name: of the format, for the message.
        allowed: how far the two may differ.

    Returns:
        The share of equal labels, 0..1.

    Raises:
        UserError: the two do not compute the same.
    """
    pixels = differing = wrong = 0
    for picture in pictures:
        (labels, confidence), probabilities = predict(picture), probabilities_of(picture)
        differs = labels != labels_of(probabilities)
        chosen = np.take_along_axis(probabilities, labels[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
        off = differs & (probabilities.max(axis=-1) - chosen > allowed.gap)
        if confidence is not None:
            off |= ~(np.abs(confidence - chosen) <= allowed.gap)  # NaN is off too
        pixels += labels.size
        differing += int(differs.sum())
        wrong += int(off.sum())
    if wrong > allowed.share * pixels:
        raise UserError(
            f"{name} was not written: {100 * wrong / pixels:.2g} % of the pixels get a class that the network "
            f"finds less likely than another by more than {allowed.gap}, or its probability is off by as much. Use "
            "another format, or calibrate with images that are more like those that the network will see."
        )
    return 1 - differing / pixels


def made_up_picture(size: tuple[int, int]) -> np.ndarray:
    """Returns soft patches of colour, uint8 [H, W, 3]: something to compare on where there are no pictures."""
    patches = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.float32)
    return cv2.resize(patches, size[::-1], interpolation=cv2.INTER_LINEAR).round().astype(np.uint8)


def pictures_of_two_sizes(pictures: Sequence[np.ndarray], multiple: int) -> list[np.ndarray]:
    """Returns two pictures of different sizes that the network has to pad, for files that take any size.

    Args:
        pictures: uint8 [H, W, 3]; those from the third on are not needed, and missing ones are made up.
        multiple: of the network, see `DeepLab.size_multiple`.
    """
    first, second = [*pictures[:2], *[made_up_picture((333, 250))] * 2][:2]
    size = [min(side, _LONGEST_SIDE) for side in first.shape[:2]]
    return [_middle(first, size, multiple), _middle(second, [max(3 * side // 4, 1) for side in size], multiple)]


def _middle(picture: np.ndarray, size: Sequence[int], multiple: int) -> np.ndarray:
    """Cuts the middle out, where photographs show most, at most of that size and no clean one."""
    sides = [min(side, has) for side, has in zip(size, picture.shape[:2], strict=True)]
    height, width = (side - 1 if side % multiple == 1 and side > 1 else side for side in sides)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
