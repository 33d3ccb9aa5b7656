"""The training loss: softmax cross-entropy at the resolution of the scores (Sec. 4, multi-scale: Sec. 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers.resize import label_map, spatial_shape


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


@keras.saving.register_keras_serializable(package="deeplab_tf")
class SegmentationLoss(keras.losses.Loss):
    """The training loss for `DeepLab.compile`: the mean cross-entropy over the labels that are not ignored.

    `DeepLab.fit` adds it up over the scales and the fused scores, as train.py does. Used by itself it judges one score
    map against the labels at its resolution.

    Args:
        ignore_label: of pixels that do not count.
        class_weights: K factors of the loss of cells with each label, the mean being a weighted one; empty for 1.
        name: as for `keras.losses.Loss`.
        **kwargs: as for `keras.losses.Loss`; the reduction is fixed.
    """

    def __init__(
        self,
        ignore_label: int = 255,
        class_weights: Sequence[float] = (),
        name: str = "segmentation_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **{**kwargs, "reduction": None})
        self.ignore_label = ignore_label
        self.class_weights = tuple(class_weights)

    def strides(self, output_stride: int, scales: Sequence[float]) -> list[int | None]:
        """Returns per scale the stride of its labels, or None for scores that are resized to scale 1 first.

        Args:
            output_stride: input pixels per cell at scale 1.
            scales: of the input.
        """
        return label_strides(output_stride, scales)

    def total(self, scores: tf.Tensor, labels: tf.Tensor, stride: int) -> tf.Tensor:
        """Adds the cross-entropy of all valid cells of a score map.

        Args:
            scores: float32 [B, h, w, K], logits.
            labels: int32 [B, H, W].
            stride: input pixels per cell.

        Returns:
            float32 [].
        """
        return cross_entropy_sum(scores, subsample_labels(labels, stride), self.ignore_label, self.class_weights)

    def count(self, labels: tf.Tensor, stride: int) -> tf.Tensor:
        """Counts the valid cells, or adds their class weights: float32 []; labels int32 [B, H, W]."""
        return count_valid(subsample_labels(labels, stride), self.ignore_label, self.class_weights)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the mean over the valid cells, float32 [].

        Args:
            y_true: integers [B, H, W] or [B, H, W, 1], class indices or the ignore label.
            y_pred: logits [B, h, w, K]. Cell (i, j) meets label (i*(H - 1)/(h - 1), j*(W - 1)/(w - 1)), rounded down.
        """
        labels = label_map(y_true)
        sides, cells = spatial_shape(labels[..., tf.newaxis]), spatial_shape(y_pred)
        for axis, (side, count) in enumerate(zip(sides, cells, strict=True), start=1):
            labels = tf.gather(labels, tf.range(count) * (side - 1) // tf.maximum(count - 1, 1), axis=axis)
        return tf.math.divide_no_nan(self.total(tf.cast(y_pred, tf.float32), labels, 1), self.count(labels, 1))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        del config["reduction"]
        return config | {"ignore_label": self.ignore_label, "class_weights": list(self.class_weights)}
