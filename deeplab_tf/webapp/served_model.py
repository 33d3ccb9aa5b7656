"""A model behind a page: one image at a time, network and CRF timed by themselves."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from deeplab_tf.inference.labels import labels_of
from deeplab_tf.inference.segmenter import Segmenter


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
    """A model for threads: a request that comes while it is busy waits, because two at once would share the same cores.

    Attributes:
        title: what it is, in a few words.
        info: its classes.
        crf: its constants of the CRF.
        without_crf: why the CRF is not available; "" where it is.
    """

    def __init__(self, title: str, segmenter: Segmenter, crf: CrfParams, without_crf: str = "") -> None:
        """Takes a model.

        Args:
            title: what it is, in a few words.
            segmenter: of the network alone, without the CRF.
            crf: its constants of the CRF.
            without_crf: why the CRF is not available; needed where the segmenter has no probabilities.
        """
        self.title, self.info, self.crf, self.without_crf = title, segmenter.info, crf, without_crf
        self._segmenter = segmenter
        self._lock = threading.Lock()

    def segment(self, image: np.ndarray) -> Segmented:
        """Asks the network about an image uint8 [H, W, 3].

        Raises:
            UserError: the image does not fit into memory.
        """
        with self._lock:
            begin = time.monotonic()
            answer = self._segmenter.segment(image)
            return Segmented(image, answer.labels, answer.probabilities, time.monotonic() - begin)

    def refine(self, segmented: Segmented, params: CrfParams) -> Refined:
        """Refines an answer with the dense CRF; the network does not run again.

        Raises:
            UserError: this model has no CRF, or the sigmas are too small for the size of the image.
        """
        if self.without_crf or segmented.probabilities is None:
            raise UserError(f"no CRF here: {self.without_crf}")
        with self._lock:
            begin = time.monotonic()
            refined = dense_crf(segmented.image, segmented.probabilities, params)
            return Refined(params, labels_of(refined), time.monotonic() - begin)

    def warm_up(self) -> None:
        """Builds the graphs, so that the first image is not the slowest."""
        segmented = self.segment(np.full((65, 65, 3), 128, np.uint8))
        if not self.without_crf:
            self.refine(segmented, self.crf)
