"""The former place of `deeplab_tf.inference.segmenter`, kept for code that imports it from here."""

from deeplab_tf.inference.segmenter import Prediction, Segmenter, segment_all

__all__ = ["Prediction", "Segmenter", "segment_all"]
