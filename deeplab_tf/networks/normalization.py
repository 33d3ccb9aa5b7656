"""The input of the Caffe networks: BGR minus the mean of the ImageNet images, no scaling."""

from __future__ import annotations

import tensorflow as tf

from deeplab_tf.images.mean import MEAN_RGB


def bgr_minus_mean(images: tf.Tensor) -> tf.Tensor:
    """Normalises images for VGG-16 and ResNet.

    Args:
        images: float32 [B, H, W, 3], RGB in 0..255.

    Returns:
        float32 [B, H, W, 3], BGR in about -123..151.
    """
    # Twice as fast on CPUs as a slice with a negative step.
    return tf.gather(images, [2, 1, 0], axis=-1) - tf.constant(MEAN_RGB[::-1], tf.float32)
