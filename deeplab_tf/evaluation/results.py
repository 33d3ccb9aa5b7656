"""What evaluation compares: the truth of each image, and what was predicted before and after the CRF."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.inference.pipeline import Failure, Segmented, segment_items
from deeplab_tf.inference.segmenter import Segmenter

Example = tuple[str, np.ndarray, np.ndarray]
"""Image id, image uint8 [H, W, 3], truth int [H, W], or [0, 0] where there is none."""


class Result(NamedTuple):
    """The labels of an image: the truth and what is predicted.

    Attributes:
        image_id: of the example.
        image: uint8 [H, W, 3].
        truth: int [H, W], or [0, 0].
        network: uint8 [H, W], the network's labels.
        refined: uint8 [H, W], those after the CRF, or None without.
        network_seconds: from image to probabilities; None where the labels were stored.
        crf_seconds: from these to refined ones, or None.
    """

    image_id: str
    image: np.ndarray
    truth: np.ndarray
    network: np.ndarray
    refined: np.ndarray | None
    network_seconds: float | None
    crf_seconds: float | None

    @property
    def predicted(self) -> list[np.ndarray]:
        """The network's labels, and those after the CRF where there are some."""
        return [self.network] if self.refined is None else [self.network, self.refined]


def segment_examples(
    segmenter: Segmenter,
    examples: Iterable[Example],
    workers: int | None = None,
    leave_out: Callable[[UserError], None] | None = None,
) -> Generator[Result, None, None]:
    """Segments examples, as `segment_items` does.

    Args:
        segmenter: the model.
        examples: a source that reads ahead by itself, such as a tf.data pipeline.
        workers: threads for the CRF; one for each core by default. So many images and four more are in memory.
        leave_out: gets to know why an image has no result, such as that it does not fit into memory; the others go on.
            None for an end at the first.

    Yields:
        A result per example that can be segmented, in their order.

    Raises:
        UserError: the CRF backend is missing; or an image cannot be segmented, without `leave_out`.
    """

    def keep(example: Example, segmented: Segmented) -> Result:
        refined = segmented.prediction.labels if segmenter.crf is not None else None
        seconds = segmented.network_seconds, segmented.crf_seconds
        return Result(*example, segmented.network_labels, refined, *seconds)

    results = segment_items(segmenter, examples, lambda example: example[1], keep, reads_ahead=False, workers=workers)
    with contextlib.closing(results):
        for result in results:
            if not isinstance(result, Failure):
                yield result
                continue
            error = UserError(f"{result.item[0]}: {result.error}")
            if leave_out is None:
                raise error from result.error
            leave_out(error)
