"""What training changes in an example at random: pure functions of a seed.

The paper's recipes scale, crop and mirror (Sec. 4). A continuous range of scales, crops over objects and other colours
are off by default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.images.mean import MEAN_RGB


def augment(
    image: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    crop_size: int,
    *,
    scales: Sequence[float] = (),
    scale_range: Sequence[float] = (),
    foreground_crops: float = 0.0,
    background: int | None = 0,
    colour_jitter: Sequence[float] = (),
    mean_rgb: Sequence[float] = MEAN_RGB,
    mirror: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales, pads, crops and mirrors an example at random (Sec. 4, in this order).

    Images are scaled bilinearly and labels by their nearest pixel. What is smaller than the crop is padded at the
    bottom and right, images by the mean and labels by 255.

    Args:
        image: uint8 [H, W, 3].
        labels: int32 [H, W].
        seed: int32 [2]; the same seed gives the same result.
        crop_size: height and width of the result in pixels.
        scales: factors to choose from with equal chances; empty: no scaling. Sizes are rounded to whole pixels.
        scale_range: (smallest, largest) factor, all between them with equal chances, instead of `scales`; or empty.
        foreground_crops: probability, 0..1, that a crop is laid over an object, see `foreground_start`.
        background: the class that is not an object; None if all are.
        colour_jitter: strengths, see `jitter_colours`; empty: none.
        mean_rgb: padding of the image, levels 0..255.
        mirror: whether to mirror with probability 1/2.

    Returns:
        float32 [crop_size, crop_size, 3] in 0..255 and int32 [crop_size, crop_size].
    """
    scale_seed, crop_seed, mirror_seed = tf.unstack(tf.random.split(seed, 3))
    # Apart from those above, so that an option that is off changes nothing.
    foreground_seed, colour_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, 1), 2))
    labels = labels[:, :, tf.newaxis]  # [H, W, 1]
    if scale_range:
        smallest, largest = scale_range
        image, labels = _resize(image, labels, tf.random.stateless_uniform([], scale_seed, smallest, largest))
    elif scales:
        chosen = tf.random.stateless_uniform([], scale_seed, 0, len(scales), tf.int32)
        image, labels = _resize(image, labels, tf.gather(tf.constant(scales, tf.float32), chosen))
    image = tf.cast(image, tf.float32)
    # Cropping before padding gives what padding before cropping gives, without the larger image: along an axis that
    # needs padding the crop starts at 0, along the other nothing is padded.
    size = tf.shape(labels)[:2]
    taken = tf.minimum(size, crop_size)
    start = _uniform_place(crop_seed, size - taken + 1)
    if foreground_crops > 0:
        wanted_seed, place_seed = tf.unstack(tf.random.split(foreground_seed, 2))
        start = tf.cond(
            tf.random.stateless_uniform([], wanted_seed) < foreground_crops,
            lambda: foreground_start(labels[:, :, 0], taken, place_seed, start, background),
            lambda: start,
        )
    image = tf.slice(image, [start[0], start[1], 0], [taken[0], taken[1], 3])
    labels = tf.slice(labels, [start[0], start[1], 0], [taken[0], taken[1], 1])
    if colour_jitter:
        image = jitter_colours(image, colour_seed, colour_jitter)
    missing = [[0, crop_size - taken[0]], [0, crop_size - taken[1]], [0, 0]]
    inside = tf.pad(tf.ones_like(labels, tf.bool), missing)
    image = tf.where(inside, tf.pad(image, missing), tf.constant(mean_rgb, tf.float32))
    labels = tf.pad(labels, missing, constant_values=IGNORE_LABEL)
    if mirror:
        turn = tf.random.stateless_uniform([], mirror_seed) < 0.5
        image = tf.cond(turn, lambda: tf.reverse(image, [1]), lambda: image)
        labels = tf.cond(turn, lambda: tf.reverse(labels, [1]), lambda: labels)
    return (
        tf.ensure_shape(image, [crop_size, crop_size, 3]),
        tf.ensure_shape(labels[:, :, 0], [crop_size, crop_size]),
    )


def foreground_start(
    labels: tf.Tensor, size: tf.Tensor, seed: tf.Tensor, otherwise: tf.Tensor, background: int | None = 0
) -> tf.Tensor:
    """Says where to start a crop that shows some object.

    One of the classes in the image is chosen with equal chances, the background and 255 left out, so that rare classes
    come as often as others; then one of its pixels; then one of the crops that show this pixel.

    Args:
        labels: int32 [H, W], 0..254 and 255.
        size: int32 [2], height and width of the crop, at most H and W.
        seed: int32 [2].
        otherwise: int32 [2], the answer for an image without objects.
        background: the class that is not an object; None if all are.

    Returns:
        int32 [2], first row and column.
    """
    class_seed, pixel_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    counts = tf.math.bincount(tf.reshape(labels, [-1]), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL]
    is_object = np.ones(IGNORE_LABEL, bool)
    if background is not None:
        is_object[background] = False
    present = tf.where((counts > 0) & is_object)[:, 0]  # int64 [classes]

    def over_an_object() -> tf.Tensor:
        chosen = present[_uniform_place(class_seed, tf.size(present)[tf.newaxis])[0]]
        pixels = tf.cast(tf.where(labels == tf.cast(chosen, tf.int32)), tf.int32)  # [n, 2]
        pixel = pixels[_uniform_place(pixel_seed, tf.shape(pixels)[:1])[0]]
        first = tf.maximum(pixel - size + 1, 0)
        last = tf.minimum(pixel, tf.shape(labels) - size)
        return first + _uniform_place(place_seed, last - first + 1)

    return tf.cond(tf.size(present) > 0, over_an_object, lambda: otherwise)


def jitter_colours(image: tf.Tensor, seed: tf.Tensor, strengths: Sequence[float]) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue at random, in this order.

    Args:
        image: float32 [H, W, 3], RGB 0..255.
        seed: int32 [2].
        strengths: up to four, 0 for none. Brightness b adds up to b of the full range, up or down; contrast c and
            saturation s are multiplied by 1 - c to 1 + c and 1 - s to 1 + s, both below 1; hue h turns by up to h of
            the full circle, at most 0.5.

    Returns:
        float32 [H, W, 3], RGB 0..255.
    """
    brightness, contrast, saturation, hue = (*strengths, 0.0, 0.0, 0.0, 0.0)[:4]
    seeds = tf.unstack(tf.random.split(seed, 4))
    image = image / 255
    if brightness > 0:
        image = tf.clip_by_value(tf.image.stateless_random_brightness(image, brightness, seeds[0]), 0, 1)
    if contrast > 0:
        changed = tf.image.stateless_random_contrast(image, 1 - contrast, 1 + contrast, seeds[1])
        image = tf.clip_by_value(changed, 0, 1)
    if saturation > 0:
        changed = tf.image.stateless_random_saturation(image, 1 - saturation, 1 + saturation, seeds[2])
        image = tf.clip_by_value(changed, 0, 1)
    if hue > 0:
        image = tf.image.stateless_random_hue(image, hue, seeds[3])
    return 255 * image


def _uniform_place(seed: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Chooses one of counts[i] places with equal chances: int32 [n], 0..counts - 1."""
    random = tf.random.stateless_uniform(tf.shape(counts), seed)
    return tf.minimum(tf.cast(random * tf.cast(counts, tf.float32), tf.int32), counts - 1)


def _resize(image: tf.Tensor, labels: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales uint8 [H, W, 3] to float32 and int32 [H, W, 1] to int32, corners aligned, on one grid."""
    size = tf.cast(tf.shape(labels)[:2], tf.float32)
    new_size = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)
    # tf.image.resize has no aligned corners, and tf.compat.v1.image logs a deprecation.
    image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=new_size, align_corners=True)[0]
    labels = tf.raw_ops.ResizeNearestNeighbor(images=labels[tf.newaxis], size=new_size, align_corners=True)[0]
    return image, labels
