"""Graphs for other programs: one operation for each convolution, its padding in numbers before it.

TensorFlow's SAME is a rule about sizes. ONNX and OpenVINO have the rule too, but not together with dilations, and not
every program applies it at sizes that it learns at run time; a dilated depthwise convolution becomes three operations.
Zeros around the map and a convolution without padding are the same sums, and converters make one operation of them.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import tensorflow as tf

from deeplab_tf.layers.resize import spatial_shape

_wanted = contextvars.ContextVar("_wanted", default=False)
_odd_sizes = contextvars.ContextVar("_odd_sizes", default=False)


@contextlib.contextmanager
def wanted(odd_sizes: bool) -> Iterator[None]:
    """Makes convolutions that are traced in here portable: the same numbers up to rounding.

    Args:
        odd_sizes: all maps that stride have odd heights and widths, as those of images of clean sizes have: the padding
            is then known where the size is not.
    """
    tokens = _wanted.set(True), _odd_sizes.set(odd_sizes)
    try:
        yield
    finally:
        _wanted.reset(tokens[0])
        _odd_sizes.reset(tokens[1])


def is_wanted() -> bool:
    """Says whether what is traced now is to be portable."""
    return _wanted.get()


def has_odd_sizes() -> bool:
    """Says whether a portable graph may take it that maps which stride have odd sides."""
    return _wanted.get() and _odd_sizes.get()


def conv2d(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1, rate: int = 1) -> tf.Tensor:
    """Convolves with the padding that TensorFlow calls SAME.

    Args:
        x: float [B, H, W, C]; H and W may be unknown at graph time.
        kernel: [kh, kw, C, F], dtype of x.
        stride: 1 or 2.
        rate: in cells; more than 1 needs stride 1.

    Returns:
        Same dtype, [B, ceil(H/stride), ceil(W/stride), F].
    """
    return tf.nn.conv2d(_padded(x, kernel.shape[:2], stride, rate), kernel, stride, "VALID", dilations=rate)


def depthwise_conv2d(x: tf.Tensor, kernel: tf.Tensor, stride: int = 1, rate: int = 1) -> tf.Tensor:
    """Does with each channel what `conv2d` does; the kernel is [kh, kw, C, m].

    Returns:
        Same dtype, [B, ceil(H/stride), ceil(W/stride), C*m].
    """
    # By the operation itself: tf.nn.depthwise_conv2d makes three of a dilated convolution.
    return tf.raw_ops.DepthwiseConv2dNative(
        input=_padded(x, kernel.shape[:2], stride, rate),
        filter=kernel,
        strides=[1, stride, stride, 1],
        padding="VALID",
        dilations=[1, rate, rate, 1],
    )


def _padded(x: tf.Tensor, kernel_size: Sequence[int], stride: int, rate: int) -> tf.Tensor:
    if all(taps == 1 for taps in kernel_size):
        return x
    sides = zip(spatial_shape(x), kernel_size, strict=True)
    paddings = [_paddings(side, (taps - 1) * rate + 1, stride) for side, taps in sides]
    return tf.pad(x, [[0, 0], *paddings, [0, 0]])


def _paddings(side: int | tf.Tensor, span: int, stride: int) -> list[int | tf.Tensor]:
    """How many zeros come before and after a side, for windows of `span` cells; the smaller half comes first."""
    total: int | tf.Tensor
    if stride == 1 or (stride == 2 and _odd_sizes.get()):
        total = span - 1
    else:
        covered = ((side - 1) // stride) * stride + span
        total = tf.maximum(covered - side, 0) if tf.is_tensor(side) else max(covered - side, 0)
    return [total // 2, total - total // 2]
