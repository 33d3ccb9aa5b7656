"""Image in, class probabilities out: the only path, shared by evaluation, prediction and export.

`scores.py` has the padding and the tiles; here come the softmax, the mirrored image and the memory that this takes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.images.files import ImageLike, pixels_of
from deeplab_tf.inference.fold import FoldedFunction, fold_weights
from deeplab_tf.inference.scores import PLAIN, build_scores, count_classes, score_at_once
from deeplab_tf.layers import forward_only, winograd
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import memory

# Measured peaks are up to this much above what the greediest operation holds.
_BESIDE_THE_GREEDIEST = 1.25
# Arrays [H, W, K] of the whole image that are there at once: scores, probabilities, and what becomes of them.
_ANSWERS = 3


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
    with forward_only.wanted(), winograd.allowed(options.winograd):
        return fold_weights(build_inference(model, options, size))


def predict_probabilities(model: DeepLab, image: ImageLike, options: InferenceConfig = PLAIN) -> np.ndarray:
    """Segments one image.

    Args:
        model: from `build_model` or `load`.
        image: uint8 [H, W, 3], RGB, any size from 1x1; a PIL image; the path or the bytes of an image file.
        options: mirrored images, tiles, padding, and how to resize; `config.inference` of a loaded workdir.

    Returns:
        float32 [H, W, K], class probabilities, summing to 1 over the last axis.

    Raises:
        ValueError: an array that is not uint8 [H, W, 3], or has no pixels.
        UserError: a file that is not a whole image, tiles that overlap too much to be moved, or an image that
            the memory cannot hold.
    """
    image = pixels_of(image)
    # Kept with the model, so that they go when it goes; past Keras, which would track and save them.
    functions = model.__dict__.setdefault("_inference_functions", {})
    _require_memory(model, options, image)
    if options not in functions:
        functions[options] = build_inference(model, options)
    return functions[options](image[np.newaxis])[0].numpy()


def build_predictor(model: DeepLab, options: InferenceConfig = PLAIN) -> Callable[[np.ndarray], np.ndarray]:
    """Builds the network of a `Segmenter`: the graph that is exported.

    Args:
        model: the network, trained: later changes of its weights are not seen.
        options: as for `predict_probabilities`.

    Returns:
        A function from uint8 [H, W, 3] to float32 [H, W, K], like `predict_probabilities`, or from several images of
        one size, [B, H, W, 3], to [B, H, W, K]. It raises UserError for those that the memory cannot hold.

    Raises:
        UserError: tiles that overlap so much that they cannot be moved.
    """
    folded = fold_inference(model, options)

    def predict(image: np.ndarray) -> np.ndarray:
        _require_memory(model, options, image)
        if image.ndim == 4:
            return folded.answer(image).numpy()
        return folded.answer(image[np.newaxis])[0].numpy()

    return predict


def require_memory(
    image: np.ndarray, options: InferenceConfig, num_classes: int, bytes_per_pixel: Callable[[], float], remedy: str
) -> None:
    """Refuses a large image that the memory cannot hold; what a GPU holds is left to TensorFlow.

    Args:
        image: uint8 [H, W, 3], or several of one size, [B, H, W, 3].
        options: how the network is run on it.
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
        scores_of = score_at_once(model, options.align_corners)
        known[options.align_corners] = memory.bytes_per_pixel(scores_of, 64 * model.size_multiple + 1)
    return known[options.align_corners]


def _require_memory(model: DeepLab, options: InferenceConfig, image: np.ndarray) -> None:
    if image.size <= 3 * memory.SMALL_PIXELS:
        return  # before the classes are counted, which takes a moment too
    remedy = "Cut it into tiles with --tile=1025 (InferenceConfig(tile=1025)), or make it smaller."
    require_memory(image, options, count_classes(model), lambda: bytes_per_pixel(model, options), remedy)
