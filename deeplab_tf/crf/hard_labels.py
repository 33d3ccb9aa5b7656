"""Labels as the probabilities that the dense CRF needs."""

from __future__ import annotations

import numpy as np

from deeplab_tf.dataset_info import IGNORE_LABEL


def probabilities_of_labels(
    labels: np.ndarray, num_classes: int, gt_prob: float = 0.7, ignore_label: int = IGNORE_LABEL
) -> np.ndarray:
    """Returns how sure the dense CRF is to be of labels, as pydensecrf's `unary_from_labels` does.

    A one-hot array says that every label is certain, and then no pairwise term can change one.

    Args:
        labels: integers [H, W], 0..K-1 or the ignore label.
        num_classes: K.
        gt_prob: the probability of each label, above 1/K and below 1; the other classes share the rest.
        ignore_label: of pixels of which nothing is known: each class gets 1/K.

    Returns:
        float32 [H, W, K].

    Raises:
        ValueError: labels, or a gt_prob, out of range.
    """
    labels = np.asarray(labels)
    known = labels != ignore_label
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers [H, W], got {labels.dtype} {list(labels.shape)}.")
    if num_classes < 2 or not 1 / num_classes < gt_prob < 1:
        raise ValueError(f"gt_prob must be between 1/{num_classes} and 1, for 2 classes or more, got {gt_prob}.")
    if known.any() and not 0 <= labels[known].min() <= labels[known].max() < num_classes:
        low, high = labels[known].min(), labels[known].max()
        raise ValueError(f"labels must be 0..{num_classes - 1} or {ignore_label}, got {low}..{high}.")
    probabilities = np.full((*labels.shape, num_classes), (1 - gt_prob) / (num_classes - 1), np.float32)
    probabilities[known, labels[known]] = gt_prob
    probabilities[~known] = 1 / num_classes
    return probabilities
