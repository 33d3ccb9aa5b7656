"""Segmenting many images, in order: while the network sees one, the CRF refines those before and more are read."""

from __future__ import annotations

import collections
import concurrent.futures
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from deeplab_tf.crf import CrfParams, dense_crf

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

    Yields:
        An answer per example.

    Raises:
        UserError: pydensecrf is asked for and not installed.
    """

    def finish(example: Example, probabilities: np.ndarray, seconds: float) -> Answer:
        network, refined, crf_seconds = _most_probable(probabilities), None, None
        if crf is not None:
            begin = time.monotonic()
            refined = _most_probable(dense_crf(example[1], probabilities, crf, crf_backend))
            crf_seconds = time.monotonic() - begin
        return Answer(*example, network, refined, seconds, crf_seconds)

    waiting: collections.deque[concurrent.futures.Future[Answer]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as worker:
        try:
            for example in examples:
                begin = time.monotonic()
                probabilities = predict(example[1])  # [H, W, K]
                waiting.append(worker.submit(finish, example, probabilities, time.monotonic() - begin))
                if len(waiting) > _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _most_probable(probabilities: np.ndarray) -> np.ndarray:
    return np.argmax(probabilities, axis=-1).astype(np.uint8)
