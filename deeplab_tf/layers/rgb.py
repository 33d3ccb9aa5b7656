"""The images that a network takes, checked once: RGB, channels last, levels 0 to 255."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

# Sharp edges overshoot where an image is resized by cubic filters; a subtracted mean leaves less than -32 somewhere.
_LOWEST, _HIGHEST = -32.0, 512.0
SUBTRACTED = (
    "images hold levels down to {lo:.0f}, as after a mean was subtracted: give RGB levels from 0 to 255 as they are, "
    "the network normalises them itself."
)
NORMALISED = (
    "images hold values from {lo:.2f} to {hi:.2f}, as after a normalisation: give RGB levels from 0 to 255 as they "
    "are, the network normalises them itself."
)
FRACTIONS = (
    "images hold values from {lo:.2f} to {hi:.2f}, fractions of 1: multiply them by 255, levels go from 0 to 255."
)
TOO_HIGH = "images hold levels up to {hi:.0f}: scale them to 0..255 (16-bit images by 255 / 65535)."


@keras.saving.register_keras_serializable(package="deeplab_tf")
class RGBImages(keras.layers.Layer):
    """Where images enter a network: [B, H, W, 3] of any type becomes float32, other shapes are refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images as float32; see the class."""
        return as_images(images)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the input.

        Raises:
            ValueError: it is not [B, H, W, 3].
        """
        check_shape(input_shape)
        return input_shape


def as_images(images: tf.Tensor) -> tf.Tensor:
    """Casts images to float32.

    Args:
        images: [B, H, W, 3], any type.

    Raises:
        ValueError: another shape.
    """
    check_shape(images.shape)
    return tf.cast(images, tf.float32)


def check_shape(shape: Sequence[int | None]) -> None:
    """Refuses what is not [B, H, W, 3]; a size that is not known may be anything.

    Raises:
        ValueError: another shape, with the mend.
    """
    shape = tuple(shape)
    if len(shape) == 4 and shape[-1] in (3, None):
        return
    if len(shape) == 3 and shape[-1] == 3:
        mend = "one image is a batch of one: images[None]."
    elif len(shape) == 4 and shape[1] == 3:
        mend = "channels come last: images.transpose(0, 2, 3, 1)."
    elif shape and shape[-1] == 4:
        mend = "without the fourth channel (alpha): images[..., :3]."
    elif shape and shape[-1] == 1:
        mend = "grey images repeat their channel: np.repeat(images, 3, axis=-1)."
    else:
        mend = "give a batch of RGB images, channels last."
    raise ValueError(f"expected images [B, H, W, 3], got {list(shape)}; {mend}")


def check_levels(images: tf.Tensor) -> None:
    """Refuses floats that are not levels from 0 to 255. In a graph it adds operations that do so at run time.

    Images of whole numbers pass, however dark.

    Args:
        images: [B, H, W, 3]; integers always pass.

    Raises:
        ValueError: a mean was subtracted, or they were scaled. In a graph it is `tf.errors.InvalidArgumentError`, see
            `reason`.
    """
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating or 0 in images.shape:
        return
    images = tf.cast(images, tf.float32)
    lowest, highest = tf.reduce_min(images), tf.reduce_max(images)
    small = tf.logical_and(lowest >= 0, highest <= 1)
    fractional = tf.cond(small, lambda: tf.reduce_any(images != tf.floor(images)), lambda: tf.constant(False))
    for message, wrong in (
        (SUBTRACTED, lowest < _LOWEST),
        (NORMALISED, tf.logical_and(tf.logical_and(lowest < 0, lowest >= _LOWEST), highest <= 4)),
        (FRACTIONS, fractional),
        (TOO_HIGH, highest > _HIGHEST),
    ):
        if not tf.executing_eagerly():
            tf.debugging.Assert(tf.logical_not(wrong), [message, lowest, highest])
        elif wrong:
            raise ValueError(message.format(lo=float(lowest), hi=float(highest)))


def reason(error: tf.errors.InvalidArgumentError) -> str:
    """Returns what `check_levels` has to say, of an error that its operations raised; "" of another error."""
    text = str(error)
    for message in (SUBTRACTED, NORMALISED, FRACTIONS, TOO_HIGH):
        _, found, rest = text.partition(message)
        if found:
            lowest, highest = (float(word) for word in rest.replace("]", "").replace("[", "").split()[:2])
            return message.format(lo=lowest, hi=highest)
    return ""
