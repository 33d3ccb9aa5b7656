"""How much of an object is found, by its size: what the mean IoU over all pixels does not show."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

BOUNDS = (("small", 0), ("medium", 32**2), ("large", 96**2))
"""Names of the sizes and the least pixels of each, those of MS-COCO."""
MIN_PIXELS = 16
"""Less than this is a scrap of an object behind another."""


class ObjectSizes:
    """Averages, over the objects of each size, the share of their pixels that was labelled right.

    An object is a connected part of the truth that has one class other than the background; neighbours at corners
    count as connected. Two sheep that touch are one, and a dog behind a post is two: there are no instances in the
    labels. Pixels outside objects do not count here, so a network that finds too much loses nothing.

    Args:
        num_classes: K.
        background: the class without objects; None where there is none.
    """

    def __init__(self, num_classes: int, background: int | None = 0) -> None:
        self._classes = [label for label in range(num_classes) if label != background]
        self._objects = np.zeros(len(BOUNDS), np.int64)
        self._shares = np.zeros(len(BOUNDS), np.float64)

    def update(self, labels: np.ndarray, predicted: np.ndarray) -> None:
        """Adds an image.

        Args:
            labels: integers [H, W], the truth; pixels of other values belong to no object.
            predicted: integers [H, W].
        """
        limits = [least for _, least in BOUNDS[1:]]
        for label in np.intersect1d(labels, self._classes):
            parts, count = ndimage.label(labels == label, structure=np.ones((3, 3)))
            areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            right = np.bincount(parts[(parts > 0) & (predicted == label)], minlength=count + 1)[1:]
            for area, hit in zip(areas, right, strict=True):
                if area >= MIN_PIXELS:
                    size = int(np.searchsorted(limits, area, side="right"))
                    self._objects[size] += 1
                    self._shares[size] += hit / area

    def summary(self) -> dict[str, dict[str, Any]]:
        """Returns for each size: objects, found, the mean over objects of the share of their pixels, or None."""
        return {
            name: {"objects": int(objects), "found": float(share / objects) if objects else None}
            for (name, _), objects, share in zip(BOUNDS, self._objects, self._shares, strict=True)
        }
