"""Convolutions with their frozen batch normalisation, each computed as one convolution.

gamma / sqrt(variance + eps) scales the kernel and the rest is a bias: the same function as convolving and
normalising, one pass over the feature map less. Only the kernels are trainable.

The statistics come with the weights of a trained network. Where there are none, `measuring_statistics` takes them from
images.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers import portable
from deeplab_tf.layers.atrous import atrous_conv2d
from deeplab_tf.layers.atrous_depthwise import atrous_depthwise_conv2d

PADDINGS = ("caffe", "same")
_measuring = contextvars.ContextVar("_measuring", default=False)


@contextlib.contextmanager
def measuring_statistics() -> Iterator[None]:
    """Makes layers that are called in here, eagerly, take their statistics from what they are given.

    Each is left with the mean and the variance of its convolution over that batch. A network whose kernels are random
    then gives numbers of one size at every depth, as it would if it normalised by the batch. With means 0 and variances
    1 instead, ResNet-50's first loss is some 190,000. (Kraehenbuehl et al., "Data-dependent Initializations of
    Convolutional Neural Networks", 2016, scale the weights so.)
    """
    token = _measuring.set(True)
    try:
        yield
    finally:
        _measuring.reset(token)


class _FrozenBatchNorm(keras.layers.Layer):
    """A convolution without bias and the numbers of its batch normalisation.

    Args:
        kernel_size: k, odd.
        stride: 1 or 2; rate > 1 needs stride 1.
        rate: of the atrous convolution.
        epsilon: added to the variance.
        activation: of each cell of the result by itself, as for `keras.layers.Conv2D`; None for none.
        implementation: see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int = 1,
        rate: int = 1,
        *,
        epsilon: float,
        activation: Any = None,
        implementation: str = "deinterlace",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.stride = stride
        self.rate = rate
        self.epsilon = epsilon
        self.activation = keras.activations.get(activation) if activation else None
        self.implementation = implementation

    def _add_weights(self, kernel_shape: tuple[int | None, ...], channels: int | None, initializer: Any) -> None:
        """Creates kernel, gamma, beta, moving_mean and moving_variance, all float32."""
        # autocast=False: the product with gamma is taken in float32, whatever the compute dtype.
        self.kernel = self.add_weight(
            name="kernel", shape=kernel_shape, initializer=initializer, trainable=True, autocast=False
        )
        for name, initial in (
            ("gamma", "ones"),
            ("beta", "zeros"),
            ("moving_mean", "zeros"),
            ("moving_variance", "ones"),
        ):
            variable = self.add_weight(
                name=name, shape=(channels,), initializer=initial, trainable=False, autocast=False
            )
            setattr(self, name, variable)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the normalised convolution; see the class."""
        if _measuring.get():
            self._measure(x)
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(self.moving_variance + self.epsilon)
        bias = tf.cast(self.beta - self.moving_mean * scale, x.dtype)
        kernel = self._scaled(tf.convert_to_tensor(self.kernel), scale)

        def finish(y: tf.Tensor) -> tf.Tensor:
            y = tf.nn.bias_add(y, bias)
            return y if self.activation is None else self.activation(y)

        return self._convolve(x, tf.cast(kernel, x.dtype), finish)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns [B, ceil(H/stride), ceil(W/stride), C']; a side that is not known stays so."""
        batch, *sides, channels = input_shape
        return (batch, *(side and -(-side // self.stride) for side in sides), self._channels(channels))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("kernel_size", "stride", "rate", "epsilon", "implementation")
        activation = self.activation and keras.activations.serialize(self.activation)
        return super().get_config() | {name: getattr(self, name) for name in names} | {"activation": activation}

    def _channels(self, channels: int | None) -> int | None:
        """Of the result, of those of the input."""
        return channels

    def _measure(self, x: tf.Tensor) -> None:
        y = self._convolve(x, tf.cast(tf.convert_to_tensor(self.kernel), x.dtype), lambda y: y)
        mean, variance = tf.nn.moments(tf.cast(y, tf.float32), [0, 1, 2])
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance)

    def _scaled(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """Multiplies each output channel of the kernel."""
        raise NotImplementedError

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor, finish: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Convolves, and finishes each cell of the result."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ConvBatchNorm(_FrozenBatchNorm):
    """A convolution and its frozen batch normalisation, then an activation if there is one.

    Input [B, H, W, C], output [B, ceil(H/stride), ceil(W/stride), filters] (H odd, or stride 1).

    Args:
        filters: output channels.
        kernel_size: k, odd.
        stride: 1 or 2; rate > 1 needs stride 1.
        rate: of the atrous convolution.
        epsilon: of the batch normalisation.
        padding: "caffe", k//2 on each side, or "same", TensorFlow's, which shifts a strided convolution at even
            sizes. At odd sizes the two are one.
        activation: such as "relu", as for `keras.layers.Conv2D`; None for none.
        implementation: see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        rate: int = 1,
        *,
        epsilon: float,
        padding: str = "caffe",
        activation: Any = None,
        implementation: str = "deinterlace",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            stride,
            rate,
            epsilon=epsilon,
            activation=activation,
            implementation=implementation,
            **kwargs,
        )
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {PADDINGS}, got {padding!r}.")
        self.filters = filters
        self.padding = padding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights; the kernel is [k, k, C, filters]."""
        kernel_shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self._add_weights(kernel_shape, self.filters, "he_normal")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "padding": self.padding}

    def _channels(self, channels: int | None) -> int | None:
        return self.filters

    def _scaled(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return kernel * scale

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor, finish: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        if self.stride == 1:
            return finish(atrous_conv2d(x, kernel, self.rate, self.implementation))
        if self.padding == "same" or self.kernel_size == 1:
            if portable.is_wanted():
                return finish(portable.conv2d(x, kernel, self.stride))
            return finish(tf.nn.conv2d(x, kernel, self.stride, padding="SAME"))
        # An operation of its own: with a padding in numbers the gradients of a convolution in bfloat16 take a
        # hundred times as long on CPUs.
        pad = [self.kernel_size // 2] * 2
        return finish(tf.nn.conv2d(tf.pad(x, [[0, 0], pad, pad, [0, 0]]), kernel, self.stride, padding="VALID"))


@keras.saving.register_keras_serializable(package="deeplab_tf")
class DepthwiseConvBatchNorm(_FrozenBatchNorm):
    """A depthwise convolution and its frozen batch normalisation; padding as TensorFlow's SAME.

    Input [B, H, W, C], output [B, ceil(H/stride), ceil(W/stride), C].

    Args:
        kernel_size: k, odd.
        stride: 1 or 2; rate > 1 needs stride 1.
        rate: of the atrous convolution.
        epsilon: of the batch normalisation.
        activation: such as "relu6", as for `keras.layers.Conv2D`; None for none.
        implementation: see `AtrousDepthwiseConv2D`.
        **kwargs: as for `keras.layers.Layer`.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights; the kernel is [k, k, C, 1]."""
        channels = input_shape[-1]
        # An output sees k*k inputs, which is the fan out of such a kernel.
        initializer = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
        self._add_weights((self.kernel_size, self.kernel_size, channels, 1), channels, initializer)

    def _scaled(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return kernel * scale[:, tf.newaxis]

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor, finish: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        if self.stride == 1:
            return atrous_depthwise_conv2d(x, kernel, self.rate, self.implementation, finish)
        if portable.is_wanted():
            return finish(portable.depthwise_conv2d(x, kernel, self.stride))
        return finish(tf.nn.depthwise_conv2d(x, kernel, [1, self.stride, self.stride, 1], padding="SAME"))
