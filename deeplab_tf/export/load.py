"""What export.py wrote, loaded again: a SavedModel or a TensorFlow Lite file, asked in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf import dense_crf as crf
from deeplab_tf.export.description import Description
from deeplab_tf.export.saved_model import is_saved_model, load_saved_model
from deeplab_tf.export.tflite import is_tflite, load_tflite
from deeplab_tf.images.fit import fit_image, unfit_answer
from deeplab_tf.inference.probabilities import require_memory


class Exported(NamedTuple):
    """A model that can be asked about images of any size.

    Attributes:
        description: what it says of itself.
        labels: from an image uint8 [H, W, 3] to labels uint8 [H, W].
        probabilities: from the same to float32 [H, W, K]; None where the model has labels only.
    """

    description: Description
    labels: Callable[[np.ndarray], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray] | None


def is_exported(path: str) -> bool:
    """Says whether a path is what export.py writes, and not a workdir."""
    return is_saved_model(path) or is_tflite(path)


def load_exported(path: str) -> Exported:
    """Loads a SavedModel or a TensorFlow Lite file.

    A model of one size gets larger images scaled down and smaller ones padded, see `fit_image`.

    Raises:
        UserError: neither of the two, or damaged.
    """
    if is_tflite(path):
        predict, description = load_tflite(path)
        return Exported(description, _of_any_size(predict, description), None)
    predict, description = load_saved_model(path)
    probabilities = _of_any_size(_within_memory(predict, description), description)
    return Exported(description, likeliest(probabilities), probabilities)


def likeliest(probabilities: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function to labels, uint8 [H, W], of one to probabilities, float [H, W, K]."""
    return lambda image: np.argmax(probabilities(image), axis=-1).astype(np.uint8)


def _within_memory(
    predict: Callable[[np.ndarray], np.ndarray], description: Description
) -> Callable[[np.ndarray], np.ndarray]:
    if not description.bytes_per_pixel:
        return predict
    config = description.config

    def checked(image: np.ndarray) -> np.ndarray:  # or several, [B, H, W, 3]
        remedy = "Export the network with --tile=1025, or make the image smaller."
        num_classes = config.info.num_classes
        require_memory(image, config.inference, num_classes, lambda: description.bytes_per_pixel, remedy)
        if description.crf:
            crf.require_memory(image.shape[-3:-1], num_classes, "tf")
        return predict(image)

    return checked


def _of_any_size(
    predict: Callable[[np.ndarray], np.ndarray], description: Description
) -> Callable[[np.ndarray], np.ndarray]:
    height, width = description.size
    if height is None or width is None:
        return predict
    size = (height, width)

    def fitted(image: np.ndarray) -> np.ndarray:
        picture, inside = fit_image(image, size, description.mean_rgb)
        return unfit_answer(predict(picture), inside, image.shape[:2])

    return fitted
