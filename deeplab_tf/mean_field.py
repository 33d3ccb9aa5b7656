"""The former place of `deeplab_tf.crf.mean_field`, kept for code that imports it from here."""

from deeplab_tf.crf.mean_field import refine, update

__all__ = ["refine", "update"]
