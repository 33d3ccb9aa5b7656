"""Several scales of the input, and the maximum over their scores (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers.resize import as_fraction, resize_bilinear, resize_half_pixel, scaled_size, spatial_shape


def scale_images(images: tf.Tensor, scale: float, align_corners: bool = True) -> tf.Tensor:
    """Resizes images to a scale of their size.

    Args:
        images: float32 [B, H, W, C].
        scale: such as 0.75.
        align_corners: the first and last pixels coincide; False for networks that others trained so.

    Returns:
        float32 [B, H_s, W_s, C], H_s = (H - 1)*scale + 1; without aligned corners floor(H * scale), at least 1.
    """
    height, width = spatial_shape(images)
    if scale == 1:
        return images
    if align_corners:
        return resize_bilinear(images, (scaled_size(height, scale), scaled_size(width, scale)))
    ratio = as_fraction(scale)
    size = [tf.maximum(side * ratio.numerator // ratio.denominator, 1) for side in (height, width)]
    return resize_half_pixel(images, (size[0], size[1]))


def resize_to_scale_1(
    score_maps: Sequence[tf.Tensor],
    images: tf.Tensor,
    scales: Sequence[float],
    output_stride: int,
    align_corners: bool = True,
) -> list[tf.Tensor]:
    """Resizes the scales' scores to the size of those at scale 1.

    Args:
        score_maps: float32 [B, h_s, w_s, K], one per scale.
        images: [B, H, W, 3], whose scores they are.
        scales: of the input.
        output_stride: input pixels per score-map cell at scale 1.
        align_corners: as for `scale_images`.

    Returns:
        One float32 [B, h, w, K] per scale.
    """
    if 1.0 in scales:
        # At sizes that are not clean Caffe's rounding decides: 127 pixels give a ResNet 17 cells, not 16.
        size = spatial_shape(score_maps[list(scales).index(1.0)])
    else:
        height, width = spatial_shape(images)
        size = ((height - 1) // output_stride + 1, (width - 1) // output_stride + 1)
    resize = resize_bilinear if align_corners else resize_half_pixel
    return [scores if scale == 1 else resize(scores, size) for scale, scores in zip(scales, score_maps, strict=True)]


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ScaleImages(keras.layers.Layer):
    """`scale_images` as a layer.

    Args:
        scale: such as 0.75.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """See `scale_images`."""
        return scale_images(images, self.scale)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable(package="deeplab_tf")
class MaximumOverScales(keras.layers.Layer):
    """Resizes the scales' scores to scale 1 and takes their maximum.

    Args:
        scales: of the input.
        output_stride: input pixels per score-map cell at scale 1.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, scales: Sequence[float], output_stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scales = tuple(scales)
        self.output_stride = output_stride

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Fuses the scores.

        Args:
            inputs: the images [B, H, W, 3], then the scores of each scale.

        Returns:
            float32 [B, h, w, K].
        """
        images, *score_maps = inputs
        return tf.reduce_max(tf.stack(resize_to_scale_1(score_maps, images, self.scales, self.output_stride)), axis=0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scales": self.scales, "output_stride": self.output_stride}
