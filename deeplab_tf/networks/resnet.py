"""ResNet-101 and ResNet-50 in their Caffe form, re-purposed for dense prediction (Sec. 3.1, 4.1.1).

The stride of a stage is on its first 1x1 convolution and its shortcut, batch normalisation is frozen
(statistics, gamma and beta), and the stages that lose their stride convolve at rate 2 and 4.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from deeplab_tf.images.mean import MEAN_RGB
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm
from deeplab_tf.layers.pooling import MaxPool
from deeplab_tf.layers.sum import Sum
from deeplab_tf.networks.backbone import Backbone
from deeplab_tf.networks.normalization import bgr_minus_mean
from deeplab_tf.networks.pretrained import KerasApplication, published_by_keras

BATCH_NORM_EPSILON = 1e-5
KERAS_BATCH_NORM_EPSILON = 1.001e-5
"""Of the ResNets in keras.applications."""
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


def keras_layers(depth: int) -> dict[str, str]:
    """Returns the names of keras.applications, without _conv and _bn, and for each this project's.

    Args:
        depth: 50 or 101.
    """
    layers = {"conv1": "conv1"}
    for stage, blocks in enumerate(block_names(depth), start=2):
        for number, block in enumerate(blocks, start=1):
            for index, branch in enumerate(("branch1", "branch2a", "branch2b", "branch2c")):
                if index > 0 or number == 1:
                    layers[f"conv{stage}_block{number}_{index}"] = f"res{block}_{branch}"
    return layers


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResNet(Backbone):
    """The residual network up to res5, without its classifier. `ResNet50` and `ResNet101` have a depth.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 2048] at `output_stride`, with
    h = (H - 1)/output_stride + 1 for H of the form output_stride*k + 1. The layers are named as in the Caffe model
    (res4b7_branch2b, ...); each convolution holds the numbers of its batch normalisation and its ReLU too, and res4b7
    is the sum of its branches with the ReLU after it.

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
    channels = 2048
    output_strides = (4, 8, 16, 32)
    layer_by_layer = True

    def __init__(
        self, depth: int = 101, output_stride: int = 8, implementation: str = "deinterlace", **kwargs: Any
    ) -> None:
        super().__init__(output_stride, implementation, **kwargs)
        if depth not in STAGE_BLOCKS:
            raise ValueError(f"ResNet has depth 50 or 101, got {depth}.")
        if output_stride not in (4, 8, 16, 32):
            raise ValueError(f"ResNet has output stride 4, 8, 16 or 32, got {output_stride}.")
        self.depth = depth
        self.stages = block_names(depth)

        def add(
            name: str, filters: int, kernel_size: int, stride: int = 1, rate: int = 1, activation: str | None = "relu"
        ) -> None:
            layer = ConvBatchNorm(
                filters,
                kernel_size,
                stride,
                rate,
                epsilon=BATCH_NORM_EPSILON,
                activation=activation,
                implementation=implementation,
                dtype=self.dtype_policy,
                name=name,
            )
            self._add(layer)

        add("conv1", 64, 7, stride=2)
        self._add(MaxPool(2, dtype=self.dtype_policy, name="pool1"))
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
                    add(f"res{block}_branch1", 4 * channels, 1, stride=stride, activation=None)
                add(f"res{block}_branch2a", channels, 1, stride=stride if first else 1)
                add(f"res{block}_branch2b", channels, 3, rate=rate)
                add(f"res{block}_branch2c", 4 * channels, 1, activation=None)
                self._add(Sum("relu", dtype=self.dtype_policy, name=f"res{block}"))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Runs the network: [B, H, W, 3] in the compute dtype -> [B, h, w, 2048]."""
        x = self.conv1(x)  # [B, H/2, W/2, 64]
        x = self.pool1(x)  # [B, H/4, W/4, 64]
        for blocks in self.stages:
            for position, block in enumerate(blocks):
                shortcut = getattr(self, f"res{block}_branch1")(x) if position == 0 else x
                for branch in ("2a", "2b", "2c"):
                    x = getattr(self, f"res{block}_branch{branch}")(x)
                x = getattr(self, f"res{block}")([x, shortcut])
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"depth": self.depth}


class _OfOneDepth(ResNet):
    """A ResNet whose class says its depth; other arguments and errors are those of `ResNet`."""

    DEPTH: ClassVar[int]

    def __init__(self, output_stride: int = 8, implementation: str = "deinterlace", **kwargs: Any) -> None:
        super().__init__(self.DEPTH, output_stride, implementation, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        del config["depth"]
        return config


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResNet50(_OfOneDepth):
    """The residual network of 50 layers."""

    DEPTH = 50
    imagenet = KerasApplication(
        "resnet50",
        with_top=published_by_keras("resnet", "resnet50", "2cb95161c43110f7111970584f804107", top=True),
        without_top=published_by_keras("resnet", "resnet50", "4d473c1dd8becc155b73f8504c6f6626", top=False),
        layers=keras_layers(50),
        extra_variance=KERAS_BATCH_NORM_EPSILON - BATCH_NORM_EPSILON,
    )


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResNet101(_OfOneDepth):
    """The residual network of 101 layers."""

    DEPTH = 101
    imagenet = KerasApplication(
        "resnet101",
        with_top=published_by_keras("resnet", "resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", top=True),
        without_top=published_by_keras("resnet", "resnet101", "88cf7a10940856eca736dc7b7e228a21", top=False),
        layers=keras_layers(101),
        extra_variance=KERAS_BATCH_NORM_EPSILON - BATCH_NORM_EPSILON,
    )
