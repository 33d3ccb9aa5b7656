"""The former place of `deeplab_tf.inference.segmenter`, kept for code that imports it from here."""

from deeplab_tf.inference.pipeline import segment_all
from deeplab_tf.inference.segmenter import Prediction, Segmenter

__all__ = ["Prediction", "Segmenter", "segment_all"]
