"""Image in, scores out: padding to a size that the network takes without rounding, and tiles of large images.

An image is padded at the bottom and right with the mean, the scores are upsampled to the padded size with the corners
aligned, and the result is cropped back.

A large image is cut into overlapping tiles whose score cells lie where those of the whole image would. Each pixel is
answered by the tile in whose middle it lies: two tiles meet halfway through their overlap. A tile shows the network
zeros where the whole image goes on, so the answer is that of the whole image, up to rounding, for every pixel that is
farther from such an edge of its tile than the network looks: half of its receptive field plus one score cell. With an
overlap of twice that, it is so for every pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.layers.resize import (
    next_clean_size,
    pad_images,
    resize_bilinear,
    resize_half_pixel,
    spatial_shape,
)
from deeplab_tf.networks.deeplab import DeepLab

PLAIN = InferenceConfig()
"""The image as it is: no mirrored image, no tiles, no more padding than the network needs."""


def build_scores(model: DeepLab, options: InferenceConfig = PLAIN) -> Callable[[tf.Tensor], tf.Tensor]:
    """Builds what `build_inference` is made of: the function to scores before the softmax, of one look at the image.

    Args:
        model: the network.
        options: tiles, padding, and how to resize; `flip` is left to the caller.

    Returns:
        A function for use in graphs, from [B, H, W, 3], RGB 0..255, any dtype, to float32 [B, H, W, K].

    Raises:
        UserError: tiles that overlap so much that they cannot be moved.
    """
    scores_of = _by_tiles(model, options) if options.tile else score_at_once(model, options.align_corners)

    def scores(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        height, width = spatial_shape(images)
        padded_height, padded_width = (_padded_side(side, model.size_multiple, options) for side in (height, width))
        if isinstance(height, int) and isinstance(width, int) and (padded_height, padded_width) == (height, width):
            return scores_of(images)
        padded = scores_of(pad_images(images, padded_height, padded_width, model.mean_rgb))
        # By sizes in full: of a slice with open ends ONNX's converter computes the ends in floating point.
        num_classes = padded.shape[-1] or tf.shape(padded)[-1]
        return tf.slice(padded, [0, 0, 0, 0], [tf.shape(images)[0], height, width, num_classes])

    return scores


def tile_cuts(side: tf.Tensor, tile: int, step: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Lays tiles along one side of a padded image.

    Args:
        side: int32 [], its length in pixels.
        tile: length of a tile.
        step: from one tile to the next; the last one ends at the end, and so may be nearer to the one before.

    Returns:
        int32 [n], where the n tiles begin, and int32 [n + 1]: tile i answers the pixels from cuts[i] to
        cuts[i + 1] - 1. Neighbours meet halfway through what they share.
    """
    last = tf.maximum(side - tile, 0)
    starts = tf.minimum(tf.range(last + step, delta=step), last)  # [n]
    meets = (starts[1:] + starts[:-1] + tile) // 2
    return starts, tf.concat([[0], meets, [side]], axis=0)


def count_classes(model: DeepLab) -> int:
    """Returns K, the channels of the network's scores."""
    side = model.size_multiple + 1
    return model.compute_output_spec(keras.KerasTensor((1, side, side, 3))).shape[-1]


def score_at_once(model: DeepLab, align_corners: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function from padded images to scores of their size, float32 [B, H, W, 3] -> [B, H, W, K]."""

    def scores(images: tf.Tensor) -> tf.Tensor:
        resize = resize_bilinear if align_corners else resize_half_pixel
        return resize(model(images, align_corners=align_corners), spatial_shape(images))

    return scores


def _by_tiles(model: DeepLab, options: InferenceConfig) -> Callable[[tf.Tensor], tf.Tensor]:
    """The same as `_at_once`, one tile after the other."""
    multiple = model.size_multiple
    tile = int(next_clean_size(options.tile, multiple))
    # A multiple of this keeps the cells of all scales where those of the whole image are.
    step = (tile - options.tile_overlap) // multiple * multiple
    if not step:
        raise UserError(
            f"tiles of {tile} pixels that share {options.tile_overlap} leave no room for steps of {multiple}, which "
            "the network needs; raise --tile or lower --tile_overlap."
        )
    num_classes = count_classes(model)
    scores_of = score_at_once(model, align_corners=True)

    def scores(images: tf.Tensor) -> tf.Tensor:
        batch, height, width, _ = tf.unstack(tf.shape(images))
        tops, row_cuts = tile_cuts(height, tile, step)
        lefts, column_cuts = tile_cuts(width, tile, step)

        def row_of_tiles(row: tf.Tensor) -> tf.Tensor:
            def one_tile(column: tf.Tensor) -> tf.Tensor:
                top, left = tops[row], lefts[column]
                tile_scores = scores_of(images[:, top : top + tile, left : left + tile])
                return tile_scores[
                    :,
                    row_cuts[row] - top : row_cuts[row + 1] - top,
                    column_cuts[column] - left : column_cuts[column + 1] - left,
                ]

            rows = row_cuts[row + 1] - row_cuts[row]
            start = tf.zeros([batch, rows, 0, num_classes])
            return _joined(start, one_tile, tf.size(lefts), axis=2)

        return _joined(tf.zeros([batch, 0, width, num_classes]), row_of_tiles, tf.size(tops), axis=1)

    return scores


def _joined(start: tf.Tensor, piece: Callable[[tf.Tensor], tf.Tensor], count: tf.Tensor, axis: int) -> tf.Tensor:
    """Joins piece(0) to piece(count - 1) to `start` along an axis, in a loop of the graph that makes one at a time."""
    any_size = tf.TensorShape([None, None, None, start.shape[-1]])
    return tf.while_loop(
        lambda i, _: i < count,
        lambda i, joined: (i + 1, tf.ensure_shape(tf.concat([joined, piece(i)], axis), any_size)),
        (tf.constant(0), start),
        shape_invariants=(tf.TensorShape([]), any_size),
        parallel_iterations=1,
    )[1]


def _padded_side(side: int | tf.Tensor, multiple: int, options: InferenceConfig) -> int | tf.Tensor:
    least = side
    if options.pad_to:
        least = tf.maximum(side, options.pad_to) if tf.is_tensor(side) else max(side, options.pad_to)
    return next_clean_size(least, multiple) if options.align_corners else least
