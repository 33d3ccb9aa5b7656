"""A model behind a page: one image at a time, network and CRF timed by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf import CrfParams, dense_crf
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError


class Segmented(NamedTuple):
    """What the network says of an image.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], the most probable classes.
        probabilities: float32 [H, W, K], or None from a model that answers labels.
        seconds: that this took.
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    seconds: float


class Refined(NamedTuple):
    """What the CRF makes of it.

    Attributes:
        params: its constants.
        labels: uint8 [H, W].
        seconds: that this took.
    """

    params: CrfParams
    labels: np.ndarray
    seconds: float


class ServedModel:
    """A model for threads: whoever comes while it is busy waits, because two at once would share the same cores.

    Attributes:
        title: what it is, in a few words.
        info: its classes.
        crf: its constants of the CRF.
        without_crf: why the CRF cannot be asked for; "" where it can.
    """

    def __init__(
        self,
        title: str,
        info: DatasetInfo,
        crf: CrfParams,
        labels_of: Callable[[np.ndarray], np.ndarray],
        probabilities_of: Callable[[np.ndarray], np.ndarray] | None = None,
        without_crf: str = "",
    ) -> None:
        """Takes what `exported.load_exported` or `inference.build_predictor` gave.

        Args:
            title: what it is, in a few words.
            info: its classes.
            crf: its constants of the CRF.
            labels_of: from an image uint8 [H, W, 3] to labels uint8 [H, W]; not asked where there are probabilities.
            probabilities_of: from the same to float32 [H, W, K]; None for a model that answers labels.
            without_crf: why the CRF cannot be asked for; needed without probabilities.
        """
        self.title, self.info, self.crf, self.without_crf = title, info, crf, without_crf
        self._labels_of, self._probabilities_of = labels_of, probabilities_of
        self._lock = threading.Lock()

    def segment(self, image: np.ndarray) -> Segmented:
        """Asks the network about an image uint8 [H, W, 3]."""
        with self._lock:
            begin = time.monotonic()
            if self._probabilities_of is None:
                labels, probabilities = self._labels_of(image), None
            else:
                probabilities = self._probabilities_of(image)  # [H, W, K]
                labels = np.argmax(probabilities, axis=-1).astype(np.uint8)
            return Segmented(image, labels, probabilities, time.monotonic() - begin)

    def refine(self, segmented: Segmented, params: CrfParams) -> Refined:
        """Refines an answer with the dense CRF; the network is not asked again.

        Raises:
            UserError: this model has no CRF, or the sigmas are too small for the size of the image.
        """
        if self.without_crf or segmented.probabilities is None:
            raise UserError(f"no CRF here: {self.without_crf}")
        with self._lock:
            begin = time.monotonic()
            refined = dense_crf(segmented.image, segmented.probabilities, params)
            labels = np.argmax(refined, axis=-1).astype(np.uint8)
            return Refined(params, labels, time.monotonic() - begin)

    def warm_up(self) -> None:
        """Builds the graphs, so that the first image is not the slowest."""
        segmented = self.segment(np.full((65, 65, 3), 128, np.uint8))
        if not self.without_crf:
            self.refine(segmented, self.crf)
