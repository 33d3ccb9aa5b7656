"""Segmentation metrics from one confusion matrix over a whole data set (Sec. 4).

The paper's mIoU is the mean over classes of intersection over union, each counted over all pixels of all images;
it is not a mean over images. Numbers are added image by image, so memory does not grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class ConfusionMatrix:
    """Counts how often each label met each prediction.

    Args:
        num_classes: K >= 1.
        ignore_label: pixels with this label are left out.

    Raises:
        ValueError: num_classes < 1.
    """

    def __init__(self, num_classes: int, ignore_label: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self._counts = np.zeros((num_classes, num_classes), np.int64)

    @classmethod
    def from_counts(cls, counts: np.ndarray, ignore_label: int = 255) -> ConfusionMatrix:
        """Starts from what was counted elsewhere.

        Args:
            counts: integers [K, K], as `matrix` gives them.
            ignore_label: as for the class.
        """
        matrix = cls(len(counts), ignore_label)
        matrix._counts += counts
        return matrix

    @property
    def matrix(self) -> np.ndarray:
        """int64 [K, K], a copy: rows are labels, columns are predictions, entries are pixels."""
        return self._counts.copy()

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Adds the pixels of an image, or of several.

        Args:
            labels: integers of any shape, 0..K-1 or the ignore label.
            predictions: integers of the same shape, 0..K-1 wherever the label is not the ignore label.

        Raises:
            ValueError: the shapes differ, a value is not an integer, or one is out of range.
        """
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                f"labels and predictions must have one shape, got {labels.shape} and {predictions.shape}. "
                "Predictions are compared at the labels' full resolution."
            )
        counted = labels != self.ignore_label
        rows = self._checked("labels", labels[counted])
        columns = self._checked("predictions", predictions[counted])
        pairs = np.bincount(rows * self.num_classes + columns, minlength=self.num_classes**2)
        self._counts += pairs.reshape(self.num_classes, self.num_classes)

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds the pixels that another matrix counted, such as one of another process.

        Raises:
            ValueError: the class counts or the ignore labels differ.
        """
        if (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label):
            raise ValueError(
                f"can only merge matrices of one kind, got {self.num_classes} classes (ignore {self.ignore_label}) "
                f"and {other.num_classes} (ignore {other.ignore_label})."
            )
        self._counts += other._counts

    def summary(
        self, class_names: Sequence[str], score_classes: Sequence[str] | None = None, absent_as_zero: bool = False
    ) -> dict[str, Any]:
        """Computes the metrics, in a form that json.dump takes: no NaN, None where nothing is defined.

        A class in neither labels nor predictions has IoU None and is left out of the mean; a class that was
        predicted but is absent from the labels has IoU 0.

        `score_classes` restricts what is averaged, not what is counted. Pixels labelled with an unscored class stay
        in the matrix: a scored class predicted there is a false positive of that class, exactly as with all classes
        scored. An unscored class predicted on a pixel of a scored class is a miss of the scored class. A scored
        class therefore has the same IoU whatever else is scored. The ratios over pixels (pixel accuracy,
        frequency weights) are taken over the pixels labelled with a scored class.

        Args:
            class_names: one name per class, in label order.
            score_classes: names of the classes to average over; None for all.
            absent_as_zero: count a scored class in neither labels nor predictions as IoU 0, as the released VOC
                script does, instead of leaving it out.

        Returns:
            miou: mean IoU over the scored classes, or None.
            pixel_accuracy: share of the pixels labelled with a scored class that are right, or None.
            mean_accuracy: mean over scored classes that occur in the labels of their share of right pixels, or None.
            frequency_weighted_iou: IoU of the scored classes, weighted by their pixels in the labels, or None.
            per_class_iou: {name: IoU or None}, the scored classes only. All ratios are in 0..1.
            num_pixels: how many pixels were counted, of every class; ignored ones are not.

        Raises:
            ValueError: not K names, or a scored class that is not among them, or none scored.
        """
        scored = self._scored_indices(class_names, score_classes)
        right = np.diagonal(self._counts)[scored].astype(np.float64)
        labelled = self._counts.sum(axis=1)[scored].astype(np.float64)
        predicted = self._counts.sum(axis=0)[scored].astype(np.float64)
        union = labelled + predicted - right
        iou = [_ratio(r, u) if u or not absent_as_zero else 0.0 for r, u in zip(right, union, strict=True)]
        accuracies = [_ratio(r, n) for r, n in zip(right, labelled, strict=True)]
        weighted = sum(n * value for n, value in zip(labelled, iou, strict=True) if value is not None)
        return {
            "miou": _mean(iou),
            "pixel_accuracy": _ratio(right.sum(), labelled.sum()),
            "mean_accuracy": _mean(accuracies),
            "frequency_weighted_iou": _ratio(weighted, labelled.sum()),
            "per_class_iou": {class_names[i]: value for i, value in zip(scored, iou, strict=True)},
            "num_pixels": int(self._counts.sum()),
        }

    def _scored_indices(self, class_names: Sequence[str], score_classes: Sequence[str] | None) -> list[int]:
        names = list(class_names)
        if len(names) != self.num_classes:
            raise ValueError(f"one name per class: expected {self.num_classes}, got {len(names)}.")
        if score_classes is None:
            return list(range(self.num_classes))
        unknown = [name for name in score_classes if name not in names]
        if unknown or not score_classes:
            raise ValueError(f"score_classes must be some of {names}, got {list(score_classes)}.")
        return sorted({names.index(name) for name in score_classes})

    def _checked(self, what: str, values: np.ndarray) -> np.ndarray:
        """The values as int64, all of them 0..K-1."""
        if values.size == 0:
            return np.zeros(0, np.int64)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{what} must be integers, got {values.dtype}.")
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest >= self.num_classes:
            raise ValueError(
                f"{what} must be 0..{self.num_classes - 1}, or the ignore label {self.ignore_label} in labels; "
                f"found values from {lowest} to {highest}."
            )
        return values.astype(np.int64)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
