"""Encoded images to pixels as a TensorFlow graph: for the input pipeline and for exported models."""

from __future__ import annotations

import tensorflow as tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG to the same pixels as Pillow.

    Args:
        encoded: string [].

    Returns:
        uint8 [H, W, 3], RGB. What is transparent is laid on white. The EXIF orientation is not looked at.
    """

    def jpeg() -> tf.Tensor:
        # The default method differs from Pillow's by up to 17 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> tf.Tensor:
        rgba = tf.cast(tf.io.decode_png(encoded, channels=4), tf.int32)
        alpha = rgba[..., 3:]
        return tf.cast((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)  # as `files.on_white`

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, png)
    return tf.ensure_shape(image, [None, None, 3])
