"""ResNet-101 and ResNet-50 in their Caffe form, re-purposed for dense prediction (Sec. 3.1, 4.1.1).

The stride of a stage is on its first 1x1 convolution and its shortcut, batch normalisation is frozen
(statistics, gamma and beta), and the stages that lose their stride convolve at rate 2 and 4.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers import pooling
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm
from deeplab_tf.networks.normalization import MEAN_RGB, bgr_minus_mean

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
    mean_rgb = MEAN_RGB

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
                filters,
                kernel_size,
                stride,
                rate,
                epsilon=BATCH_NORM_EPSILON,
                implementation=implementation,
                dtype=self.dtype_policy,
                name=name,
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
