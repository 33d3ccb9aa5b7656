"""Encoded images to pixels as a TensorFlow graph: for the input pipeline and for exported models."""

from __future__ import annotations

import tensorflow as tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG to the same pixels as Pillow.

    Args:
        encoded: string [].

    Returns:
        uint8 [H, W, 3], RGB.
    """

    def jpeg() -> tf.Tensor:
        # The default method differs from Pillow's by up to 17 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, lambda: tf.io.decode_png(encoded, channels=3))
    return tf.ensure_shape(image, [None, None, 3])
