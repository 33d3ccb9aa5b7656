"""ResNet-101 and ResNet-50 in their Caffe form, re-purposed for dense prediction (Sec. 3.1, 4.1.1).

The stride of a stage is on its first 1x1 convolution and its shortcut, batch normalisation is frozen
(statistics, gamma and beta), and the stages that lose their stride convolve at rate 2 and 4.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from deeplab_tf import pooling
from deeplab_tf.atrous import atrous_conv2d
from deeplab_tf.normalization import bgr_minus_mean

BATCH_NORM_EPSILON = 1e-5
STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGE_CHANNELS = (64, 128, 256, 512)


def block_names(depth: int) -> list[list[str]]:
    """Returns the Caffe names of the residual blocks of each stage: 2a 2b 2c, ..., 4a 4b1 ... 4b22, 5a 5b 5c.

    Args:
        depth: 50 or 101. The 101-layer network numbers the blocks of its stages 3 and 4, the 50-layer one
            letters them.
    """
    names = []
    for stage, count in enumerate(STAGE_BLOCKS[depth], start=2):
        numbered = depth == 101 and stage in (3, 4)
        tail = [f"b{i}" for i in range(1, count)] if numbered else [chr(ord("a") + i) for i in range(1, count)]
        names.append([f"{stage}{suffix}" for suffix in ["a", *tail]])
    return names


class ConvBatchNorm(keras.layers.Layer):
    """A convolution without bias and its frozen batch normalisation, computed as one convolution.

    gamma / sqrt(variance + eps) scales the kernel and the rest is a bias: the same function as convolving and
    normalising, one pass over the feature map less. Only the kernel is trainable. Padding is k//2 on each
    side, as in Caffe (TensorFlow's SAME shifts a strided convolution at even sizes).

    Args:
        filters: output channels.
        kernel_size: k, odd.
        stride: 1 or 2; rate > 1 needs stride 1.
        rate: of the atrous convolution.
        implementation: see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        rate: int = 1,
        implementation: str = "deinterlace",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.rate = rate
        self.implementation = implementation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates kernel, gamma, beta, moving_mean and moving_variance, all float32."""
        kernel_shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        # autocast=False: the product with gamma is taken in float32, whatever the compute dtype.
        self.kernel = self.add_weight(
            name="kernel", shape=kernel_shape, initializer="he_normal", trainable=True, autocast=False
        )
        for name, initial in (
            ("gamma", "ones"),
            ("beta", "zeros"),
            ("moving_mean", "zeros"),
            ("moving_variance", "ones"),
        ):
            variable = self.add_weight(
                name=name, shape=(self.filters,), initializer=initial, trainable=False, autocast=False
            )
            setattr(self, name, variable)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the normalised convolution, before any activation: [B, H/stride, W/stride, filters]."""
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(self.moving_variance + BATCH_NORM_EPSILON)
        kernel = tf.cast(tf.convert_to_tensor(self.kernel) * scale, x.dtype)
        bias = tf.cast(self.beta - self.moving_mean * scale, x.dtype)
        if self.rate > 1:
            y = atrous_conv2d(x, kernel, self.rate, self.implementation)
        else:
            pad = self.kernel_size // 2
            y = tf.nn.conv2d(x, kernel, self.stride, padding=[[0, 0], [pad, pad], [pad, pad], [0, 0]])
        return tf.nn.bias_add(y, bias)


class ResNet(keras.layers.Layer):
    """The residual network up to res5, without its classifier.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 2048] at `output_stride`, with
    h = (H - 1)/output_stride + 1 for H of the form output_stride*k + 1. The convolutions are named as in the
    Caffe model (res4b7_branch2b, ...); each holds the numbers of its batch normalisation too.

    Args:
        depth: 101 or 50.
        output_stride: 8 (the paper's: res4 at rate 2, res5 at rate 4), 4, 16 or 32.
        implementation: of the atrous convolutions, see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.

    Raises:
        ValueError: another depth or output stride.
    """

    normalize = staticmethod(bgr_minus_mean)

    def __init__(
        self, depth: int = 101, output_stride: int = 8, implementation: str = "deinterlace", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if depth not in STAGE_BLOCKS:
            raise ValueError(f"ResNet has depth 50 or 101, got {depth}.")
        if output_stride not in (4, 8, 16, 32):
            raise ValueError(f"ResNet has output stride 4, 8, 16 or 32, got {output_stride}.")
        self.depth = depth
        self.output_stride = output_stride
        self.implementation = implementation
        self.stages = block_names(depth)

        def add(name: str, filters: int, kernel_size: int, stride: int = 1, rate: int = 1) -> None:
            layer = ConvBatchNorm(
                filters, kernel_size, stride, rate, implementation, dtype=self.dtype_policy, name=name
            )
            setattr(self, name, layer)

        add("conv1", 64, 7, stride=2)
        stride_so_far, rate = 4, 1
        for stage, (blocks, channels) in enumerate(zip(self.stages, STAGE_CHANNELS, strict=True)):
            stride = 1
            if stage > 0:
                # A stage that may not stride any more multiplies the rate of all that follows instead.
                if stride_so_far < output_stride:
                    stride, stride_so_far = 2, stride_so_far * 2
                else:
                    rate *= 2
            for position, block in enumerate(blocks):
                first = position == 0
                if first:
                    add(f"res{block}_branch1", 4 * channels, 1, stride=stride)
                add(f"res{block}_branch2a", channels, 1, stride=stride if first else 1)
                add(f"res{block}_branch2b", channels, 3, rate=rate)
                add(f"res{block}_branch2c", 4 * channels, 1)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the network: [B, H, W, 3] in the compute dtype -> [B, h, w, 2048]."""
        x = tf.nn.relu(self.conv1(x))  # [B, H/2, W/2, 64]
        x = pooling.max_pool(x, stride=2)  # [B, H/4, W/4, 64]
        for blocks in self.stages:
            for position, block in enumerate(blocks):
                branch = {name: getattr(self, f"res{block}_branch{name}") for name in ("2a", "2b", "2c")}
                shortcut = getattr(self, f"res{block}_branch1")(x) if position == 0 else x
                x = tf.nn.relu(branch["2a"](x))
                x = tf.nn.relu(branch["2b"](x))
                x = tf.nn.relu(branch["2c"](x) + shortcut)
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("depth", "output_stride", "implementation")
        return super().get_config() | {name: getattr(self, name) for name in names}
