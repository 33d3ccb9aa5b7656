"""VGG-16 re-purposed for dense prediction (Sec. 3.1, 4.1), with the geometry of the released Caffe networks."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from deeplab_tf import pooling
from deeplab_tf.atrous import AtrousConv2D
from deeplab_tf.normalization import MEAN_RGB, bgr_minus_mean


class VGG16(keras.layers.Layer):
    """The convolutions of VGG-16: conv1_1 to conv5_3 and the five pools.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 512] at `output_stride`, with
    h = (H - 1)/output_stride + 1 for H of the form 32k + 1 (8k + 1 at output stride 8). The layers are named
    as in the released networks. pool4 and pool5 lose their stride at output stride 8, as in the paper, and
    conv5 then has rate 2; the undilated pool5 is the released networks' own.

    Args:
        output_stride: 8 (the paper's), 16 or 32 (the ordinary classifier's).
        pool5a: adds the 3x3 average pool of the released LargeFOV network after pool5.
        implementation: of the atrous convolutions, see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.

    Raises:
        ValueError: another output stride.
    """

    normalize = staticmethod(bgr_minus_mean)
    mean_rgb = MEAN_RGB
    BLOCKS: ClassVar[dict[int, tuple[int, int]]] = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}

    def __init__(
        self, output_stride: int = 8, pool5a: bool = False, implementation: str = "deinterlace", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if output_stride not in (8, 16, 32):
            raise ValueError(f"VGG-16 has output stride 8, 16 or 32, got {output_stride}.")
        self.output_stride = output_stride
        self.pool5a = pool5a
        for block, (depth, channels) in self.BLOCKS.items():
            for index in range(1, depth + 1):
                name = f"conv{block}_{index}"
                convolution = AtrousConv2D(
                    channels,
                    3,
                    rate=2 if block == 5 and output_stride == 8 else 1,
                    implementation=implementation,
                    activation="relu",
                    kernel_initializer="he_normal",
                    dtype=self.dtype_policy,
                    name=name,
                )
                setattr(self, name, convolution)

    def call(self, x: tf.Tensor, before_pool5: bool = False) -> tf.Tensor:
        """Runs the trunk.

        Args:
            x: [B, H, W, 3] from `normalize`, in the layer's compute dtype.
            before_pool5: stop at conv5_3.

        Returns:
            [B, h, w, 512].
        """
        for block, (depth, _) in self.BLOCKS.items():
            for index in range(1, depth + 1):
                x = getattr(self, f"conv{block}_{index}")(x)
            if block == 5:
                break
            # [B, H/2, W/2, C], but for pool4 at output stride 8
            x = pooling.max_pool(x, stride=1 if block == 4 and self.output_stride == 8 else 2)
        if before_pool5:
            return x
        x = pooling.max_pool(x, stride=2 if self.output_stride == 32 else 1)
        return pooling.average_pool(x) if self.pool5a else x
