"""Accuracy near boundaries (Fig. 10): the mean IoU over the pixels in a narrow band around them.

A band of width w holds the pixels within w pixels of a boundary, counted like a king's moves (Chebyshev distance).
Boundaries are found in one of two ways:

    void     the pixels with the ignore label, which are a line around every object in PASCAL VOC, as in the released
             script. They are not in the band themselves.
    labels   where the label changes: pixels that touch another label, also at a corner, have distance 1, their
             neighbours 2. Pixels with the ignore label are left out, and the step to one does not count as a boundary.

The first is taken for data where labels meet the ignore label more often than they meet each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from deeplab_tf.evaluation.metrics import ConfusionMatrix

WIDTHS = tuple(range(1, 41))
"""Widths of the bands in pixels, those of Fig. 10."""

SHOWN_WIDTHS = (1, 2, 3, 5, 10, 20, 40)
"""Those of them that tables show."""

BORDERS = ("void", "labels")


class Trimap:
    """Counts labels and predictions by their distance from a boundary; memory does not grow with the images.

    Args:
        num_classes: K.
        ignore_label: of void pixels.
        names: of the predictions that are compared, such as ("network", "crf").
    """

    def __init__(self, num_classes: int, ignore_label: int, names: Sequence[str]) -> None:
        self._num_classes = num_classes
        self._ignore_label = ignore_label
        shape = (len(WIDTHS), num_classes, num_classes)
        self._counts = {border: {name: np.zeros(shape, np.int64) for name in names} for border in BORDERS}
        self._meetings = dict.fromkeys(BORDERS, 0)

    @property
    def border(self) -> str:
        """What the boundaries of the images so far are: "void" or "labels"."""
        return "void" if self._meetings["void"] >= self._meetings["labels"] else "labels"

    def update(self, labels: np.ndarray, predictions: Mapping[str, np.ndarray]) -> None:
        """Adds an image.

        Args:
            labels: int [H, W], 0..K-1 or the ignore label.
            predictions: int [H, W] each, 0..K-1, by the names given to the class.
        """
        for border, count in count_meetings(labels, self._ignore_label).items():
            self._meetings[border] += count
        for border in BORDERS:
            distance = boundary_distance(labels, self._ignore_label, border)  # [H, W]
            near = (distance <= WIDTHS[-1]) & (labels != self._ignore_label)
            # One number for (distance, label, prediction).
            place = ((distance[near] - 1) * self._num_classes + labels[near]) * self._num_classes
            for name, counts in self._counts[border].items():
                added = np.bincount(place + predictions[name][near], minlength=counts.size)
                counts += added.reshape(counts.shape)

    def summary(self, class_names: Sequence[str], **options: Any) -> dict[str, Any]:
        """Computes the metrics of every band.

        Args:
            class_names: K names.
            **options: `score_classes` and `absent_as_zero`, as for `ConfusionMatrix.summary`.

        Returns:
            {"border": "void" or "labels", "widths": [1, ..., 40], and for every prediction its "miou" and
            "pixel_accuracy", a list with one ratio in 0..1, or None, per width}, as json.dump takes it.
        """
        found: dict[str, Any] = {"border": self.border, "widths": list(WIDTHS)}
        for name, counts in self._counts[self.border].items():
            bands = [
                ConfusionMatrix.from_counts(band, self._ignore_label).summary(class_names, **options)
                for band in np.cumsum(counts, axis=0)
            ]
            found[name] = {key: [band[key] for band in bands] for key in ("miou", "pixel_accuracy")}
        return found


def boundary_distance(labels: np.ndarray, ignore_label: int, border: str) -> np.ndarray:
    """Measures how far every pixel is from the nearest boundary.

    Args:
        labels: int [H, W].
        ignore_label: of void pixels.
        border: "void" or "labels", see the module.

    Returns:
        int64 [H, W], Chebyshev distance in pixels, 1 or more, and 0 on void pixels for "void"; larger than the image
        where it has no boundary.
    """
    if border == "void":
        return _distance_to(labels == ignore_label)
    touches = np.zeros(labels.shape, bool)
    height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left = max(0, -right)
        first = (slice(0, height - down), slice(left, width - max(0, right)))
        second = (slice(down, height), slice(left + right, width - max(0, right) + right))
        differ = _differ(labels[first], labels[second], ignore_label)
        touches[first] |= differ
        touches[second] |= differ
    return _distance_to(touches) + 1


def count_meetings(labels: np.ndarray, ignore_label: int) -> dict[str, int]:
    """Counts the pairs of neighbours, across and down, of which one is void, and those of two different labels."""
    void = labels == ignore_label
    pairs = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
    return {
        "void": sum(int((void[a] != void[b]).sum()) for a, b in pairs),
        "labels": sum(int(_differ(labels[a], labels[b], ignore_label).sum()) for a, b in pairs),
    }


def format_trimap(trimap: dict[str, Any], widths: Sequence[int] = SHOWN_WIDTHS) -> str:
    """Lays the mean IoU of some bands out as a table, in percent."""
    columns = [name for name in ("network", "crf") if name in trimap]
    titles = {"network": "network", "crf": "+ CRF"}
    lines = [f"{'band, pixels':<16}" + "".join(f"{titles[name]:>12}" for name in columns)]
    for width in widths:
        ratios = [trimap[name]["miou"][trimap["widths"].index(width)] for name in columns]
        texts = ["-" if ratio is None else f"{100 * ratio:.2f}" for ratio in ratios]
        lines.append(f"{width:<16}" + "".join(f"{text:>12}" for text in texts))
    return "\n".join(lines)


def _differ(a: np.ndarray, b: np.ndarray, ignore_label: int) -> np.ndarray:
    return (a != b) & (a != ignore_label) & (b != ignore_label)


def _distance_to(marked: np.ndarray) -> np.ndarray:
    """Chebyshev distance to the nearest marked pixel, int64 [H, W]; larger than the image without any."""
    if not marked.any():
        return np.full(marked.shape, max(marked.shape) + WIDTHS[-1], np.int64)
    # Whole numbers, also as float32.
    return cv2.distanceTransform((~marked).astype(np.uint8), cv2.DIST_C, 3).astype(np.int64)
