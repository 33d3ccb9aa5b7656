"""EfficientNet-Lite0, re-purposed for dense prediction as Sec. 3.1 does it with VGG-16 and ResNet.

A network made for phones: inverted bottlenecks of a 1x1, a depthwise and a 1x1 convolution, ReLU6, no squeeze and
excitation. Padding is TensorFlow's SAME.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm, DepthwiseConvBatchNorm

BATCH_NORM_EPSILON = 1e-3
MEAN, SCALE = 127.0, 128.0
STEM_CHANNELS = 32
TOP_CHANNELS = 1280


class Stage(NamedTuple):
    """Blocks of one width; the first has the stride."""

    blocks: int
    kernel_size: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def rgb_around_zero(images: tf.Tensor) -> tf.Tensor:
    """Normalises images for EfficientNet-Lite.

    Args:
        images: float32 [B, H, W, 3], RGB in 0..255.

    Returns:
        float32 [B, H, W, 3], RGB in -0.99..1.
    """
    return (images - MEAN) / SCALE


class EfficientNetLite0(keras.layers.Layer):
    """EfficientNet-Lite0 up to the 1280 channels that its classifier averages.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 1280] at `output_stride`, h = (H - 1)/output_stride + 1
    for H of the form output_stride*k + 1. For H and W of the form 32k + 1 every 2nd (4th) cell of the result at output
    stride 16 (8) is a cell of the ordinary network's, at 32: padding is then symmetric, and all strides start
    at the corner. The layers are stem, block0_depthwise, block0_project, block1_expand, ..., block15_project, top.

    A stage's stride is on the depthwise convolution of its first block. Where it is removed, this convolution keeps
    its rate, and all after it get twice the rate.

    Args:
        output_stride: 8, 16 or 32 (the ordinary classifier's).
        implementation: of the atrous convolutions, see `AtrousDepthwiseConv2D`.
        **kwargs: as for `keras.layers.Layer`.

    Raises:
        ValueError: another output stride.
    """

    normalize = staticmethod(rgb_around_zero)
    mean_rgb = (MEAN, MEAN, MEAN)

    def __init__(self, output_stride: int = 16, implementation: str = "deinterlace", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if output_stride not in (8, 16, 32):
            raise ValueError(f"EfficientNet-Lite0 has output stride 8, 16 or 32, got {output_stride}.")
        self.output_stride = output_stride
        # Of each block: its names, and whether its input is added to its output.
        self.blocks: list[tuple[list[str], bool]] = []
        common = {"epsilon": BATCH_NORM_EPSILON, "dtype": self.dtype_policy}

        def add(layer: keras.layers.Layer) -> str:
            setattr(self, layer.name, layer)
            return layer.name

        add(ConvBatchNorm(STEM_CHANNELS, 3, stride=2, padding="same", name="stem", **common))
        stride_so_far, rate, channels = 2, 1, STEM_CHANNELS
        for stage in STAGES:
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                removed = stride > 1 and stride_so_far >= output_stride
                kept = 1 if removed else stride
                prefix = f"block{len(self.blocks)}"
                names = []
                if stage.expansion > 1:
                    names.append(add(ConvBatchNorm(channels * stage.expansion, 1, name=f"{prefix}_expand", **common)))
                depthwise = DepthwiseConvBatchNorm(
                    stage.kernel_size, kept, rate, implementation=implementation, name=f"{prefix}_depthwise", **common
                )
                names.append(add(depthwise))
                names.append(add(ConvBatchNorm(stage.channels, 1, name=f"{prefix}_project", **common)))
                self.blocks.append((names, stride == 1 and channels == stage.channels))
                stride_so_far *= kept
                rate *= stride if removed else 1
                channels = stage.channels
        add(ConvBatchNorm(TOP_CHANNELS, 1, name="top", **common))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the network: [B, H, W, 3] in the compute dtype -> [B, h, w, 1280]."""
        x = tf.nn.relu6(self.stem(x))  # [B, H/2, W/2, 32]
        for (*inner, project), has_shortcut in self.blocks:
            y = x
            for name in inner:
                y = tf.nn.relu6(getattr(self, name)(y))
            y = getattr(self, project)(y)
            x = x + y if has_shortcut else y
        return tf.nn.relu6(self.top(x))
