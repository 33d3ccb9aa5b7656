"""From class probabilities to labels: the most probable class of each pixel, the first of equal ones."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def labels_of(probabilities: np.ndarray) -> np.ndarray:
    """Returns the most probable classes: float [..., K], K <= 256, to uint8 [...]."""
    return np.argmax(probabilities, axis=-1).astype(np.uint8)


def labels_in_graph(probabilities: tf.Tensor, name: str | None = None) -> tf.Tensor:
    """Does what `labels_of` does, in a TensorFlow graph; `name` becomes the name of its result."""
    return tf.cast(tf.argmax(probabilities, axis=-1, output_type=tf.int32), tf.uint8, name=name)
