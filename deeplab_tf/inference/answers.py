"""Segmenting many images, in order: while the network sees one, the CRF refines those before and more are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.runtime.threads import map_in_order

# Images that wait for the CRF, each with its probabilities: 160 MB for one of Cityscapes.
_WAITING = 2

Example = tuple[str, np.ndarray, np.ndarray]
"""Image id, image uint8 [H, W, 3], labels int [H, W], or [0, 0] where there are none."""


class Answer(NamedTuple):
    """What the network, and the CRF after it, say of an image.

    Attributes:
        image_id: of the example.
        image: uint8 [H, W, 3].
        labels: int [H, W], the truth, or [0, 0].
        network: uint8 [H, W], the network's labels.
        refined: uint8 [H, W], those after the CRF, or None without.
        network_seconds: from image to probabilities.
        crf_seconds: from these to refined ones, or None.
    """

    image_id: str
    image: np.ndarray
    labels: np.ndarray
    network: np.ndarray
    refined: np.ndarray | None
    network_seconds: float
    crf_seconds: float | None

    @property
    def predictions(self) -> list[np.ndarray]:
        """The network's labels, and those after the CRF where there are some."""
        return [self.network] if self.refined is None else [self.network, self.refined]


def answer_all(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Example],
    crf: CrfParams | None = None,
    crf_backend: str = "tf",
) -> Iterator[Answer]:
    """Answers examples one by one, in their order.

    The network runs in the calling thread and the CRF in another, both on their own images; TensorFlow does not hold
    Python's lock meanwhile. At most four images and their probabilities are in memory.

    Args:
        predict: from an image uint8 [H, W, 3] to probabilities float32 [H, W, K], K <= 256.
        examples: what to segment; a tf.data pipeline reads ahead by itself.
        crf: refine with these constants; None for not.
        crf_backend: "tf" or "pydensecrf".

    Returns:
        An answer per example.

    Raises:
        UserError: pydensecrf is asked for and not installed.
    """

    def ask(example: Example) -> tuple[Example, np.ndarray, float]:
        begin = time.monotonic()
        return example, predict(example[1]), time.monotonic() - begin

    def finish(asked: tuple[Example, np.ndarray, float]) -> Answer:
        example, probabilities, seconds = asked
        network, refined, crf_seconds = _most_probable(probabilities), None, None
        if crf is not None:
            begin = time.monotonic()
            refined = _most_probable(dense_crf(example[1], probabilities, crf, crf_backend))
            crf_seconds = time.monotonic() - begin
        return Answer(*example, network, refined, seconds, crf_seconds)

    return map_in_order(finish, map(ask, examples), ahead=_WAITING)


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    return np.argmax(probabilities, axis=-1).astype(np.uint8)
