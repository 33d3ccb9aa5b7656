"""VGG-16 re-purposed for dense prediction (Sec. 3.1, 4.1), with the geometry of the released Caffe networks."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from deeplab_tf.images.mean import MEAN_RGB
from deeplab_tf.layers.atrous import AtrousConv2D
from deeplab_tf.layers.pooling import AveragePool, MaxPool
from deeplab_tf.networks.backbone import Backbone
from deeplab_tf.networks.normalization import bgr_minus_mean
from deeplab_tf.networks.pretrained import KerasApplication, published_by_keras


@keras.saving.register_keras_serializable(package="deeplab_tf")
class VGG16(Backbone):
    """The convolutions of VGG-16: conv1_1 to conv5_3 and the five pools.

    Input [B, H, W, 3], from `normalize`; output [B, h, w, 512] at `output_stride`, with
    h = (H - 1)/output_stride + 1 for H of the form 32k + 1 (8k + 1 at output stride 8). The layers are named
    as in the released networks. pool4 and pool5 lose their stride at output stride 8, as in the paper, and
    conv5 then has rate 2; the undilated pool5 is the released networks' own.

    Args:
        output_stride: 8 (the paper's), 16 or 32 (the ordinary classifier's).
        pool5a: adds the 3x3 average pool of the released LargeFOV network after pool5.
        implementation: of the atrous convolutions, see `AtrousConv2D`.
        trained_stride: the output stride of the network whose weights this one runs, if that is larger (see
            `restride`). The strides taken out since then dilate all that follows, pools included; the output stride
            may then be 4 or 2 too.
        **kwargs: as for `keras.layers.Layer`.

    Raises:
        ValueError: another output stride.
    """

    normalize = staticmethod(bgr_minus_mean)
    mean_rgb = MEAN_RGB
    channels = 512
    output_strides = (4, 8, 16, 32)
    layer_by_layer = True
    options = ("pool5a",)
    BLOCKS: ClassVar[dict[int, tuple[int, int]]] = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}
    imagenet = KerasApplication(
        "vgg16",
        with_top=published_by_keras("vgg16", "vgg16", "64373286793e3c8b2b4e3219cbf3544b", top=True),
        without_top=published_by_keras("vgg16", "vgg16", "6d6bbae143d832006294945121d1f1fc", top=False),
        layers={
            f"block{block}_conv{index}": f"conv{block}_{index}"
            for block, (depth, _) in BLOCKS.items()
            for index in range(1, depth + 1)
        },
        fully_connected=("fc1", "fc2"),
        otherwise="start from --init=hed, which is installed (with the solver for fresh heads, see the README)",
    )

    def __init__(
        self,
        output_stride: int = 8,
        pool5a: bool = False,
        implementation: str = "deinterlace",
        trained_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_stride, implementation, **kwargs)
        trained_stride = trained_stride or output_stride
        if trained_stride not in (8, 16, 32):
            raise ValueError(f"VGG-16 has output stride 8, 16 or 32, got {trained_stride}.")
        if output_stride not in (2, 4, 8, 16, 32) or output_stride > trained_stride:
            raise ValueError(f"VGG-16 trained at stride {trained_stride} cannot be run at stride {output_stride}.")
        self.trained_stride = trained_stride
        pools = []  # rate and stride of each
        stride_so_far, rate = 1, 1
        for block in self.BLOCKS:
            stride = 1 if (block == 4 and trained_stride == 8) or (block == 5 and trained_stride < 32) else 2
            pools.append((rate, stride if stride_so_far < output_stride else 1))
            if stride_so_far < output_stride:
                stride_so_far *= stride
            else:
                rate *= stride
        for block, (depth, channels) in self.BLOCKS.items():
            pool_rate, stride = pools[block - 1]
            for index in range(1, depth + 1):
                convolution = AtrousConv2D(
                    channels,
                    3,
                    # The paper's network takes pool4's stride out and dilates conv5, but not pool5.
                    rate=pool_rate * (2 if block == 5 and trained_stride == 8 else 1),
                    implementation=implementation,
                    activation="relu",
                    kernel_initializer="he_normal",
                    dtype=self.dtype_policy,
                    name=f"conv{block}_{index}",
                )
                self._add(convolution)
            self._add(MaxPool(stride, pool_rate, dtype=self.dtype_policy, name=f"pool{block}"))
        self.pool5a: AveragePool | None = None
        if pool5a:
            self._add(AveragePool(rate, dtype=self.dtype_policy, name="pool5a"))

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
            if block == 5 and before_pool5:
                return x
            x = getattr(self, f"pool{block}")(x)
        return self.pool5a(x) if self.pool5a else x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"pool5a": bool(self.pool5a), "trained_stride": self.trained_stride}
