"""Pooling with Caffe's geometry: 3x3 windows, padded by 1 on every side, output size rounded up.

TensorFlow's SAME pads 0/1 at even sizes where Caffe pads 1/1 or 1/2, which shifts the result by a pixel; its
average leaves the padding out of the divisor where Caffe counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers import portable
from deeplab_tf.layers.resize import spatial_shape

WINDOW = 3


@keras.saving.register_keras_serializable(package="deeplab_tf")
class MaxPool(keras.layers.Layer):
    """`max_pool` as a layer.

    Args:
        stride: 1 or 2.
        rate: cells from one to the next of a window; more than 1 needs stride 1.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, stride: int, rate: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.rate = rate

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """See `max_pool`."""
        return max_pool(x, self.stride, self.rate)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of `max_pool`'s result."""
        batch, *sides, channels = input_shape
        return (batch, *(side if self.stride == 1 else side and side // 2 + 1 for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"stride": self.stride, "rate": self.rate}


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AveragePool(keras.layers.Layer):
    """`average_pool` as a layer.

    Args:
        rate: cells from one to the next of a window.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, rate: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """See `average_pool`."""
        return average_pool(x, self.rate)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"rate": self.rate}


def max_pool(x: tf.Tensor, stride: int, rate: int = 1) -> tf.Tensor:
    """Takes the maximum over 3x3 windows, as Caffe does with pad 1.

    Args:
        x: float [B, H, W, C].
        stride: 1 or 2.
        rate: cells from one to the next of a window; more than 1 needs stride 1.

    Returns:
        Same dtype, [B, H, W, C] for stride 1, [B, H//2 + 1, W//2 + 1, C] for stride 2. The padding never wins.
    """
    if rate > 1:
        return _fold_windows(x, tf.maximum, x.dtype.min, rate)
    if stride == 1:
        return tf.nn.max_pool2d(x, WINDOW, stride, padding="SAME")
    height, width = spatial_shape(x)
    if portable.has_odd_sizes() or all(isinstance(side, int) and side % 2 for side in (height, width)):
        # SAME is 1/1 then. Without the large negative numbers of other padding, which would spoil a quantisation.
        return tf.nn.max_pool2d(x, WINDOW, stride, padding="SAME")
    # At even sizes the last window starts on the last cell but one and ends one past the padding.
    paddings = [[0, 0], [1, 2 - height % 2], [1, 2 - width % 2], [0, 0]]
    padded = tf.pad(x, paddings, constant_values=x.dtype.min)
    return tf.nn.max_pool2d(padded, WINDOW, stride, padding="VALID")


def average_pool(x: tf.Tensor, rate: int = 1) -> tf.Tensor:
    """Averages over 3x3 windows with stride 1; zeros past the edge count in the divisor, as in Caffe.

    Args:
        x: float [B, H, W, C].
        rate: cells from one to the next of a window.

    Returns:
        Same dtype, [B, H, W, C].
    """
    if rate > 1:
        return _fold_windows(x, tf.add, 0, rate) / WINDOW**2
    return tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), WINDOW, 1, padding="VALID")


def _fold_windows(x: tf.Tensor, fold: Callable[..., tf.Tensor], padding: float, rate: int) -> tf.Tensor:
    """Folds each 3x3 window, its cells `rate` apart, first down and then across."""
    offsets = (0, rate, 2 * rate)
    for axis in (1, 2):
        paddings = [[0, 0]] * 4
        paddings[axis] = [rate, rate]
        padded = tf.pad(x, paddings, constant_values=padding)
        cells = [tf.slice(padded, [offset if i == axis else 0 for i in range(4)], tf.shape(x)) for offset in offsets]
        x = fold(fold(cells[0], cells[1]), cells[2])
    return x
