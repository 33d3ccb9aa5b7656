"""From an image to its labels: the only path, for every command and for export."""

from deeplab_tf.inference.probabilities import build_predictor, predict_probabilities

__all__ = ["build_predictor", "predict_probabilities"]
