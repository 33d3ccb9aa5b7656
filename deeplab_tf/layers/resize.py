"""Bilinear resizing, and the sizes that it keeps exact.

The paper's networks know one kind, with the corners aligned. The other kind, pixels as squares and not as points, is
for networks that others trained so.
"""

from __future__ import annotations

import fractions
import math
from collections.abc import Sequence

import tensorflow as tf


def resize_bilinear(x: tf.Tensor, size: tuple[int | tf.Tensor, int | tf.Tensor]) -> tf.Tensor:
    """Resizes so that the first and last cells of both grids coincide.

    Args:
        x: float [B, h, w, C].
        size: (H, W) of the result.

    Returns:
        float32 [B, H, W, C]. From n cells to s*(n - 1) + 1, every s-th cell of the result is a cell of x.
    """
    # The op of tf.compat.v1.image.resize_bilinear, which warns that it is deprecated; tf.image.resize cannot align
    # corners.
    return tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), align_corners=True, half_pixel_centers=False)


def resize_half_pixel(x: tf.Tensor, size: tuple[int | tf.Tensor, int | tf.Tensor]) -> tf.Tensor:
    """Resizes so that the outer edges of both grids coincide, as PyTorch does with align_corners=False.

    Args:
        x: float [B, h, w, C].
        size: (H, W) of the result.

    Returns:
        float32 [B, H, W, C]. Pixel i of the result lies at (i + 1/2) * h/H - 1/2 in x, or on its first or last.
    """
    return tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), align_corners=False, half_pixel_centers=True)


def spatial_shape(x: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Returns H and W of [B, H, W, C]: numbers where they are known at graph time, int32 scalars where not."""
    dynamic = tf.shape(x)
    height, width = (dynamic[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2))
    return height, width


def label_map(labels: tf.Tensor) -> tf.Tensor:
    """Returns labels [B, H, W] or [B, H, W, 1] as int32 [B, H, W]."""
    labels = tf.cast(labels, tf.int32)
    return labels[..., 0] if labels.shape.rank == 4 else labels


def scaled_size(size: int | tf.Tensor, scale: float) -> int | tf.Tensor:
    """Returns (size - 1) * scale + 1, the side that keeps the corners and the spacing (321 -> 241 at 0.75)."""
    ratio = as_fraction(scale)
    return (size - 1) * ratio.numerator // ratio.denominator + 1


def size_multiple(output_stride: int, scales: Sequence[float]) -> int:
    """Returns m such that inputs of m*k + 1 pixels meet no rounding at any scale, in input or score map.

    Args:
        output_stride: input pixels per score-map cell.
        scales: scales of the multi-scale inputs (Sec. 3.2).

    Returns:
        8 for a single scale at output stride 8, 32 for scales 1, 0.75 and 0.5.
    """
    return output_stride * math.lcm(*(as_fraction(scale).denominator for scale in scales))


def next_clean_size(size: int | tf.Tensor, multiple: int) -> int | tf.Tensor:
    """Returns the smallest multiple*k + 1 >= size, k >= 1."""
    cells = (size - 2) // multiple + 1
    return tf.maximum(cells, 1) * multiple + 1 if tf.is_tensor(cells) else max(cells, 1) * multiple + 1


def pad_images(
    images: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor, mean_rgb: Sequence[float]
) -> tf.Tensor:
    """Extends float32 [B, H, W, 3] at the bottom and right with what the network's normalisation makes zeros."""
    old_height, old_width = spatial_shape(images)
    batch = tf.shape(images)[0]
    mean = tf.constant(mean_rgb, tf.float32)
    right = tf.broadcast_to(mean, [batch, old_height, width - old_width, 3])
    bottom = tf.broadcast_to(mean, [batch, height - old_height, width, 3])
    return tf.concat([tf.concat([images, right], axis=2), bottom], axis=1)


def as_fraction(scale: float) -> fractions.Fraction:
    """Returns a scale as an exact ratio of small numbers: 0.75 as 3/4."""
    return fractions.Fraction(scale).limit_denominator(64)
