"""The training loss: softmax cross-entropy at the resolution of the scores (Sec. 4, multi-scale: Sec. 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def label_strides(output_stride: int, scales: Sequence[float]) -> list[int | None]:
    """Says at which resolution each scale's scores meet the labels.

    The released multi-scale network judges its scale 0.5 at its own size, against every 16th label, and its
    scale 0.75, whose cells fall between the labels, resized to scale 1. In general a scale keeps its own
    size where output_stride / scale is a whole number.

    Args:
        output_stride: input pixels per cell at scale 1.
        scales: of the input.

    Returns:
        Per scale the stride of its labels, or None for scores that are resized to scale 1 first.
    """
    strides = [output_stride / scale for scale in scales]
    return [round(stride) if abs(stride - round(stride)) < 1e-6 else None for stride in strides]


def subsample_labels(labels: tf.Tensor, stride: int) -> tf.Tensor:
    """Takes every stride-th label in both dimensions: nearest, never interpolated.

    Args:
        labels: int32 [B, H, W], H and W of the form stride*k + 1.
        stride: input pixels per score-map cell.

    Returns:
        int32 [B, (H - 1)/stride + 1, (W - 1)/stride + 1].
    """
    return labels[:, ::stride, ::stride]


def count_valid(labels: tf.Tensor, ignore_label: int, class_weights: Sequence[float] = ()) -> tf.Tensor:
    """Counts the labels that are not to be ignored; with class weights, adds their weights instead: float32 scalar."""
    return tf.reduce_sum(_label_weights(labels, ignore_label, class_weights))


def cross_entropy_sum(
    logits: tf.Tensor, labels: tf.Tensor, ignore_label: int, class_weights: Sequence[float] = ()
) -> tf.Tensor:
    """Adds the softmax cross-entropy of all valid cells.

    A sum, so that the caller can divide by the valid cells of all replicas together.

    Args:
        logits: float32 [B, h, w, K].
        labels: int32 [B, h, w], 0..K-1 or `ignore_label`.
        ignore_label: of cells that do not count.
        class_weights: K factors of the cross-entropy of cells with each label; empty for 1. A mean divides by
            `count_valid` with the same weights.

    Returns:
        float32 scalar, in nats.
    """
    valid = labels != ignore_label
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(valid, labels, 0), logits)  # [B, h, w]
    # Scores of ignored cells may be anything: 0 * inf would be NaN.
    return tf.reduce_sum(_label_weights(labels, ignore_label, class_weights) * tf.where(valid, losses, 0.0))


def _label_weights(labels: tf.Tensor, ignore_label: int, class_weights: Sequence[float]) -> tf.Tensor:
    """Returns float32, like labels: the weight of each one, 0 where it is ignored."""
    valid = tf.cast(labels != ignore_label, tf.float32)
    if not class_weights:
        return valid
    return valid * tf.gather(tf.constant(class_weights, tf.float32), tf.where(labels != ignore_label, labels, 0))
