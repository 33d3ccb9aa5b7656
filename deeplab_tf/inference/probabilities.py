"""Image in, class probabilities out: the only path, shared by evaluation, prediction and export.

An image is padded at the bottom and right with the mean to a size that the network takes without rounding,
the scores are upsampled to that size with the corners aligned, and the result is cropped back.

A large image is cut into overlapping tiles whose score cells lie where those of the whole image would. Each pixel is
answered by the tile in whose middle it lies: two tiles meet halfway through their overlap. A tile shows the network
zeros where the whole image goes on, so the answer is that of the whole image, up to rounding, for every pixel that is
farther from such an edge of its tile than the network looks: half of its receptive field plus one score cell. With an
overlap of twice that, it is so for every pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.inference.fold import FoldedFunction, fold_weights
from deeplab_tf.layers import winograd
from deeplab_tf.layers.resize import next_clean_size, resize_bilinear, resize_half_pixel, spatial_shape
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import memory

# Measured peaks are up to this much above what the greediest operation holds.
_BESIDE_THE_GREEDIEST = 1.25
# Arrays [H, W, K] of the whole image that are there at once: scores, probabilities, and what becomes of them.
_ANSWERS = 3

PLAIN = InferenceConfig()
"""The image as it is: no mirrored image, no tiles, no more padding than the network needs."""


def build_inference(
    model: DeepLab, options: InferenceConfig = PLAIN, size: tuple[int | None, int | None] = (None, None)
) -> tf.types.experimental.PolymorphicFunction:
    """Builds the graph from images to probabilities.

    Args:
        model: the network.
        options: mirrored images, tiles, padding, and how to resize.
        size: height and width of the images where they are always the same; None for any.

    Returns:
        A tf.function from uint8 [B, H, W, 3], RGB 0..255, to float32 [B, H, W, K].

    Raises:
        UserError: tiles that overlap so much that they cannot be moved.
    """
    scores_of = build_scores(model, options)

    @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.uint8, name="images")], autograph=False)
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        straight = tf.nn.softmax(scores_of(images))
        if not options.flip:
            return straight
        mirrored = tf.reverse(tf.nn.softmax(scores_of(tf.reverse(images, [2]))), [2])
        return (straight + mirrored) / 2

    return probabilities


def fold_inference(
    model: DeepLab, options: InferenceConfig = PLAIN, size: tuple[int | None, int | None] = (None, None)
) -> FoldedFunction:
    """Builds the graph of `build_inference` for a network that does not change any more: what answers in the end.

    What depends on the weights alone is computed once, and so float32 convolutions may be computed by `winograd.py`.

    Args:
        model: the network, trained: later changes of its weights are not seen.
        options: as for `build_inference`.
        size: as for `build_inference`.

    Returns:
        The graph, and its weights.

    Raises:
        UserError: tiles that overlap so much that they cannot be moved.
    """
    with winograd.allowed(options.winograd):
        return fold_weights(build_inference(model, options, size))


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
    scores_of = _by_tiles(model, options) if options.tile else _at_once(model, options.align_corners)

    def scores(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        height, width = spatial_shape(images)
        padded_height, padded_width = (_padded_side(side, model.size_multiple, options) for side in (height, width))
        if isinstance(height, int) and isinstance(width, int) and (padded_height, padded_width) == (height, width):
            return scores_of(images)
        return scores_of(_pad(images, padded_height, padded_width, model.mean_rgb))[:, :height, :width]

    return scores


def predict_probabilities(model: DeepLab, image: np.ndarray, options: InferenceConfig = PLAIN) -> np.ndarray:
    """Segments one image.

    Args:
        model: from `build_model` or `load`.
        image: uint8 [H, W, 3], RGB, any size from 1x1.
        options: mirrored images, tiles, padding, and how to resize; `config.inference` of a loaded workdir.

    Returns:
        float32 [H, W, K], class probabilities, summing to 1 over the last axis.

    Raises:
        ValueError: not a uint8 [H, W, 3] image, or no pixels.
        UserError: tiles that overlap so much that they cannot be moved, or an image that the memory cannot hold.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"expected an image uint8 [H, W, 3], RGB 0..255, got {image.dtype} {list(image.shape)}.")
    # Kept with the model, so that they go when it goes; past Keras, which would track and save them.
    functions = model.__dict__.setdefault("_inference_functions", {})
    _require_memory(model, options, image)
    if options not in functions:
        functions[options] = build_inference(model, options)
    return functions[options](image[np.newaxis])[0].numpy()


def build_predictor(model: DeepLab, options: InferenceConfig = PLAIN) -> Callable[[np.ndarray], np.ndarray]:
    """Builds the function that evaluation and prediction ask for every image: the graph that is exported.

    Args:
        model: the network, trained: later changes of its weights are not seen.
        options: as for `predict_probabilities`.

    Returns:
        A function from uint8 [H, W, 3] to float32 [H, W, K], like `predict_probabilities`. It raises UserError for an
        image that the memory cannot hold.

    Raises:
        UserError: tiles that overlap so much that they cannot be moved.
    """
    folded = fold_inference(model, options)

    def predict(image: np.ndarray) -> np.ndarray:
        _require_memory(model, options, image)
        return folded.answer(image[np.newaxis])[0].numpy()

    return predict


def require_memory(
    image: np.ndarray, options: InferenceConfig, num_classes: int, bytes_per_pixel: Callable[[], float], remedy: str
) -> None:
    """Refuses a large image that the memory cannot hold; what a GPU holds is left to TensorFlow.

    Args:
        image: uint8 [H, W, 3], or several of one size, [B, H, W, 3].
        options: how it is asked about.
        num_classes: K.
        bytes_per_pixel: returns what `bytes_per_pixel` of this module does.
        remedy: how to get tiles, a sentence.

    Raises:
        UserError: it takes more than there is.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    height, width = image.shape[-3:-1]
    images = image.shape[0] if image.ndim == 4 else 1
    pixels = images * height * width
    at_once = min(pixels, images * options.tile**2) if options.tile else pixels
    answers = _ANSWERS + options.flip + (options.tile > 0)  # tiles are joined to a copy of those before

    def needed() -> float:
        return _BESIDE_THE_GREEDIEST * bytes_per_pixel() * at_once + 4 * num_classes * pixels * answers

    way = f" even in tiles, with {num_classes} classes" if options.tile else " in one piece"
    remedy = "Make it smaller, or cut it into several images." if options.tile else remedy
    memory.require((height, width), needed, images=images, way=way, remedy=remedy)


def bytes_per_pixel(model: DeepLab, options: InferenceConfig) -> float:
    """Returns what the network holds at once, see `memory.bytes_per_pixel`; it takes a moment the first time."""
    known = model.__dict__.setdefault("_bytes_per_pixel", {})
    if options.align_corners not in known:
        scores_of = _at_once(model, options.align_corners)
        known[options.align_corners] = memory.bytes_per_pixel(scores_of, 64 * model.size_multiple + 1)
    return known[options.align_corners]


def _require_memory(model: DeepLab, options: InferenceConfig, image: np.ndarray) -> None:
    if image.size <= 3 * memory.SMALL_PIXELS:
        return  # before the classes are counted, which takes a moment too
    remedy = "Cut it into tiles with --tile=1025 (InferenceConfig(tile=1025)), or make it smaller."
    require_memory(image, options, _num_classes(model), lambda: bytes_per_pixel(model, options), remedy)


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


def _num_classes(model: DeepLab) -> int:
    side = model.size_multiple + 1
    return model.compute_output_spec(keras.KerasTensor((1, side, side, 3))).shape[-1]


def _at_once(model: DeepLab, align_corners: bool) -> Callable[[tf.Tensor], tf.Tensor]:
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
            f"tiles of {tile} pixels that share {options.tile_overlap} cannot be moved on by {multiple}, which this "
            "network needs; raise --tile or lower --tile_overlap."
        )
    num_classes = _num_classes(model)
    scores_of = _at_once(model, align_corners=True)

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


def _pad(images: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor, mean_rgb: tuple[float, ...]) -> tf.Tensor:
    """Extends float32 [B, H, W, 3] at the bottom and right with what the network's normalisation makes zeros."""
    old_height, old_width = spatial_shape(images)
    batch = tf.shape(images)[0]
    mean = tf.constant(mean_rgb, tf.float32)
    right = tf.broadcast_to(mean, [batch, old_height, width - old_width, 3])
    bottom = tf.broadcast_to(mean, [batch, height - old_height, width, 3])
    return tf.concat([tf.concat([images, right], axis=2), bottom], axis=1)
