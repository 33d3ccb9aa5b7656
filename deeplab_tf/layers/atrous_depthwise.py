"""Atrous depthwise convolution: Sec. 3.1 for the convolutions of small networks.

Deinterlacing serves any convolution: the phases of a feature map are ordinary feature maps, and each channel of them
is convolved by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers import portable
from deeplab_tf.layers.atrous import (
    FixedGeometry,
    check_implementation,
    check_layer,
    deinterlace,
    feature_map,
    interlace,
)
from deeplab_tf.layers.depthwise_gradient import depthwise_conv2d_same
from deeplab_tf.layers.resize import spatial_shape


def atrous_depthwise_conv2d(
    x: tf.Tensor,
    kernel: tf.Tensor,
    rate: int,
    implementation: str = "deinterlace",
    finish: Callable[[tf.Tensor], tf.Tensor] = lambda y: y,
) -> tf.Tensor:
    """Convolves each channel with its own kernels, whose taps are `rate` cells apart; stride 1.

    The map is padded with (k - 1) * rate / 2 zeros on each side, so that the result has its size.

    Args:
        x: float [B, H, W, C]; H and W may be unknown at graph time.
        kernel: [k, k, C, m], dtype of x, k odd; m outputs per channel.
        rate: r >= 1, in feature-map cells.
        implementation: "deinterlace" (Sec. 3.1), or "dilated", TensorFlow's own dilated convolution; "auto" is the
            first. Where `portable.wanted`, all of them are computed by `portable.depthwise_conv2d`.
        finish: what is done to each cell of the result by itself, such as adding a bias. Phases are finished before
            they are interlaced: TensorFlow then computes it within the convolution.

    Returns:
        Same dtype as x, [B, H, W, C*m].

    Raises:
        ValueError: rate < 1, x is not of rank 4, an even kernel at rate > 1, or an unknown implementation.
    """
    x = feature_map(x, rate)
    check_implementation(implementation)
    if rate == 1 and not portable.is_wanted():
        return finish(depthwise_conv2d_same(x, kernel))
    if rate > 1 and not all(size % 2 for size in kernel.shape[:2]):
        raise ValueError(f"an atrous depthwise kernel has odd sides, got {kernel.shape[0]}x{kernel.shape[1]}.")
    if portable.is_wanted():
        return finish(portable.depthwise_conv2d(x, kernel, rate=rate))
    if implementation == "dilated":
        return finish(tf.nn.depthwise_conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME", dilations=[rate, rate]))
    phases = finish(depthwise_conv2d_same(deinterlace(x, rate), kernel))
    return interlace(phases, rate, *spatial_shape(x))


@keras.saving.register_keras_serializable(package="deeplab_tf")
class AtrousDepthwiseConv2D(FixedGeometry, keras.layers.DepthwiseConv2D):
    """Atrous depthwise convolution, stride 1, output of the input's size (Sec. 3.1).

    Input float [B, H, W, C], output [B, H, W, C*depth_multiplier], any H and W. Everything that
    `keras.layers.DepthwiseConv2D` takes (use_bias, activation, initializers, dtype, ...) is taken here; padding
    and strides are fixed.

    Args:
        kernel_size: k, or (kh, kw); odd.
        rate: r >= 1, in feature-map cells.
        implementation: "deinterlace", "dilated" or "auto", see `atrous_depthwise_conv2d`; the same numbers up to
            rounding.
        **kwargs: as for `keras.layers.DepthwiseConv2D`.

    Raises:
        ValueError: rate < 1, an unknown implementation, or an argument that this layer fixes.
    """

    def __init__(
        self, kernel_size: int | tuple[int, int], rate: int = 1, implementation: str = "deinterlace", **kwargs: Any
    ) -> None:
        check_layer(self, self._FIXED, kwargs, rate, implementation)
        super().__init__(kernel_size, padding="same", data_format="channels_last", dilation_rate=rate, **kwargs)
        self.rate = rate
        self.implementation = implementation

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the convolution; see the class."""
        inputs = tf.convert_to_tensor(inputs)
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), inputs.dtype)
        y = atrous_depthwise_conv2d(inputs, kernel, self.rate, self.implementation)
        if self.use_bias:
            y = tf.nn.bias_add(y, tf.cast(tf.convert_to_tensor(self.bias), inputs.dtype))
        return y if self.activation is None else self.activation(y)
