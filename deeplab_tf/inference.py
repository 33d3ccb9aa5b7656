"""Image in, class probabilities out: the only path, shared by evaluation, prediction and export.

An image is padded at the bottom and right with the mean to a size that the network takes without rounding,
the scores are upsampled to that size with the corners aligned, and the result is cropped back.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from deeplab_tf.model import DeepLab
from deeplab_tf.normalization import MEAN_RGB
from deeplab_tf.resize import next_clean_size, resize_bilinear


def build_inference(model: DeepLab, flip: bool = False) -> tf.types.experimental.PolymorphicFunction:
    """Builds the graph from images to probabilities.

    Args:
        model: the network.
        flip: also look at the mirrored images, and average the two probabilities.

    Returns:
        A tf.function from uint8 [B, H, W, 3], RGB 0..255, any H and W, to float32 [B, H, W, K].
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")], autograph=False)
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        straight = _probabilities(model, images)
        if not flip:
            return straight
        mirrored = tf.reverse(_probabilities(model, tf.reverse(images, [2])), [2])
        return (straight + mirrored) / 2

    return probabilities


def predict_probabilities(model: DeepLab, image: np.ndarray, flip: bool = False) -> np.ndarray:
    """Segments one image.

    Args:
        model: from `build_model` or `load`.
        image: uint8 [H, W, 3], RGB, any size from 1x1.
        flip: average with the answer for the mirrored image.

    Returns:
        float32 [H, W, K], class probabilities, summing to 1 over the last axis.

    Raises:
        ValueError: not a uint8 [H, W, 3] image, or no pixels.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"expected an image uint8 [H, W, 3], RGB 0..255, got {image.dtype} {list(image.shape)}.")
    # Kept with the model, so that they go when it goes; past Keras, which would track and save them.
    functions = model.__dict__.setdefault("_inference_functions", {})
    if flip not in functions:
        functions[flip] = build_inference(model, flip)
    return functions[flip](image[np.newaxis])[0].numpy()


def _probabilities(model: DeepLab, images: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(images)
    height, width = shape[1], shape[2]
    padded_size = (next_clean_size(height, model.size_multiple), next_clean_size(width, model.size_multiple))
    logits = model(_pad_with_mean(images, *padded_size))  # [B, h, w, K]
    scores = resize_bilinear(logits, padded_size)[:, :height, :width]  # [B, H, W, K]
    return tf.nn.softmax(scores)


def _pad_with_mean(images: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Extends float32 [B, H, W, 3] at the bottom and right; the network's normalisation makes it zeros."""
    shape = tf.shape(images)
    mean = tf.constant(MEAN_RGB, tf.float32)
    right = tf.broadcast_to(mean, [shape[0], shape[1], width - shape[2], 3])
    bottom = tf.broadcast_to(mean, [shape[0], height - shape[1], width, 3])
    return tf.concat([tf.concat([images, right], axis=2), bottom], axis=1)
