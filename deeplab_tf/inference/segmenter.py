"""An image in, its classes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from deeplab_tf.crf.backends import require_memory
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import ImageLike, pixels_of
from deeplab_tf.inference.labels import labels_of
from deeplab_tf.inference.prediction import Prediction

if TYPE_CHECKING:
    from deeplab_tf.networks.deeplab import DeepLab

__all__ = ["Prediction", "Segmenter"]


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained model, and what is done with its output.

    Attributes:
        network: from an image uint8 [H, W, 3] to probabilities float32 [H, W, K], K <= 256, or to labels uint8 [H, W].
        info: the classes.
        has_probabilities: which of the two it is.
        crf: refine with these constants; None for not. It needs probabilities.
        crf_backend: a backend of `dense_crf`, "auto" for the fastest here.
        takes_batches: the network takes several images of one size too, [B, H, W, 3] to [B, H, W, K] or [B, H, W].
        model: the Keras network that `network` runs; None of what export.py wrote.
    """

    network: Callable[[np.ndarray], np.ndarray]
    info: DatasetInfo
    has_probabilities: bool = True
    crf: CrfParams | None = None
    crf_backend: str = "auto"
    takes_batches: bool = True
    model: DeepLab | None = dataclasses.field(default=None, repr=False, compare=False)

    def segment(self, image: ImageLike) -> Prediction:
        """Segments one image.

        Args:
            image: see `pixels_of`: uint8 [H, W, 3], RGB, any size from 1x1; a PIL image; the path or the bytes of an
                image file.

        Returns:
            Labels and probabilities, which can be plotted and saved.

        Raises:
            ValueError: an array that is not an image.
            UserError: a file that is not a whole image, an image that does not fit into memory, or a missing backend.
        """
        pixels = pixels_of(image)
        return self.finish(pixels, self.run_network(pixels))

    def run_network(self, images: np.ndarray) -> np.ndarray:
        """Runs the network, without the CRF; for one thread at a time.

        Args:
            images: uint8 [H, W, 3]; or [B, H, W, 3] where the network takes batches.

        Returns:
            Its output, probabilities or labels, for `finish`.

        Raises:
            UserError: an image does not fit into memory, neither the network's nor that of the CRF after it.
        """
        height, width = images.shape[-3:-1]
        if self.crf is not None:
            require_memory((height, width), self.info.num_classes, self.crf_backend)
        try:
            return self.network(images)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f"an image of {width}x{height} pixels does not fit into memory. Make it smaller, or try --tile=513."
            ) from error

    def finish(self, image: np.ndarray, output: np.ndarray, crf_threads: int | None = None) -> Prediction:
        """Makes a prediction of what `run_network` returned for one image; for any thread.

        Args:
            image: uint8 [H, W, 3].
            output: probabilities or labels.
            crf_threads: see `dense_crf`: 1 where other images are refined at the same time.

        Raises:
            UserError: the CRF backend is not installed, or its constants do not suit the size of the image.
        """
        if not self.has_probabilities:
            return Prediction(image, output, None, self.info)
        if self.crf is not None:
            output = dense_crf(image, output, self.crf, self.crf_backend, threads=crf_threads)
        return Prediction(image, labels_of(output), output, self.info)

    def overlay(self, prediction: Prediction) -> np.ndarray:
        """Draws the classes over the image: uint8 [H, W, 3], RGB."""
        return visualize.draw_classes(prediction.image, prediction.labels, self.info)
