"""The mean IoU as a metric of Keras, for `DeepLab.compile`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers.resize import label_map, resize_bilinear, spatial_shape


@keras.saving.register_keras_serializable(package="deeplab_tf")
class MeanIoU(keras.metrics.Metric):
    """The mean over classes of intersection over union, from one confusion matrix over all images.

    As `ConfusionMatrix.summary` has it: scores are compared at the resolution of the labels, and a class in neither
    labels nor predictions is left out of the mean. Counts are whole numbers.

    Args:
        num_classes: K.
        ignore_label: pixels with this label are left out.
        name: as for `keras.metrics.Metric`.
        **kwargs: as for `keras.metrics.Metric`.
    """

    def __init__(self, num_classes: int, ignore_label: int = 255, name: str = "mean_iou", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.matrix = self.add_variable((num_classes, num_classes), "zeros", dtype="int64", name="matrix")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: None = None) -> None:
        """Counts the pixels of a batch.

        Args:
            y_true: integers [B, H, W] or [B, H, W, 1], class indices or the ignore label.
            y_pred: scores or probabilities, float [B, h, w, K] of any size, or class indices [B, H, W].
            sample_weight: not used.
        """
        labels = label_map(y_true)
        predicted = tf.convert_to_tensor(y_pred)
        if predicted.shape.rank == 4:
            size = spatial_shape(labels[..., tf.newaxis])
            predicted = tf.argmax(resize_bilinear(predicted, size), axis=-1, output_type=tf.int32)
        counted = tf.where(labels != self.ignore_label)
        pairs = (tf.gather_nd(labels, counted), tf.gather_nd(tf.cast(predicted, tf.int32), counted))
        self.matrix.assign_add(tf.math.confusion_matrix(*pairs, self.num_classes, dtype=tf.int64))

    def result(self) -> tf.Tensor:
        """Returns the mean IoU of what was counted, float32 [] in 0..1; 0 where nothing was."""
        matrix = tf.cast(tf.convert_to_tensor(self.matrix), tf.float64)
        right = tf.linalg.diag_part(matrix)
        union = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - right
        present = tf.reduce_sum(tf.cast(union > 0, tf.float64))
        total = tf.reduce_sum(tf.math.divide_no_nan(right, union))
        return tf.cast(tf.math.divide_no_nan(total, present), tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"num_classes": self.num_classes, "ignore_label": self.ignore_label}
