"""One block of encoded images to encoded labels, as predict.py does it: the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deeplab_tf.batch.manifest import Entry
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import decode_pixels, open_image
from deeplab_tf.images.orientation import upright_size
from deeplab_tf.inference.pipeline import Failure, Segmented, segment_items
from deeplab_tf.inference.segmenter import Segmenter


class Picture(NamedTuple):
    """An image that is to be segmented.

    Attributes:
        input: the path of its file, or of the TFRecord file that holds it.
        record: its image_id there, or "".
        data: the bytes of an image file.
        reason: why there are no bytes, or "".
    """

    input: str
    record: str = ""
    data: bytes = b""
    reason: str = ""


class SegmentedBlock(NamedTuple):
    """What became of a block of images.

    Attributes:
        entries: one an image, in order; without `output`.
        labels: one an image: a palette PNG, or b"" where the entry has a reason.
        network_seconds: how long the network took; with the CRF, where the exported model has it inside.
        crf_seconds: how long the CRF took, in all threads together.
    """

    entries: list[Entry]
    labels: list[bytes]
    network_seconds: float
    crf_seconds: float


class _Labelled(NamedTuple):
    """One image with its labels, a palette PNG."""

    entry: Entry
    labels: bytes
    network_seconds: float = 0.0
    crf_seconds: float = 0.0


def segment_block(
    segmenter: Segmenter, pictures: Sequence[Picture], batch_size: int = 1, workers: int | None = None
) -> SegmentedBlock:
    """Segments a block of images, as `segment_items` does.

    Args:
        segmenter: the model.
        pictures: any number, of any sizes.
        batch_size: how many images of one size the network sees at once, at most; more than 1 if it takes batches.
        workers: threads for the CRF and for encoding; one for each core by default.

    Raises:
        UserError: the CRF backend is not installed.
    """

    def read(place: int) -> np.ndarray:
        picture = pictures[place]
        if picture.reason:
            raise UserError(picture.reason)
        return decode_pixels(picture.data)

    def encode(place: int, segmented: Segmented) -> _Labelled:
        picture, labels = pictures[place], segmented.prediction.labels
        entry = Entry(picture.input, picture.record, size=labels.shape)
        encoded = visualize.encode_palette_png(labels, segmenter.info.palette)
        return _Labelled(entry, encoded, segmented.network_seconds, segmented.crf_seconds or 0.0)

    places = _by_size(pictures) if batch_size > 1 else list(range(len(pictures)))
    results = segment_items(segmenter, places, read, encode, batch_size=batch_size, workers=workers)
    labelled = [_refused(pictures, result) if isinstance(result, Failure) else result for result in results]
    ordered = [one for _, one in sorted(zip(places, labelled, strict=True))]
    return SegmentedBlock(
        [one.entry for one in ordered],
        [one.labels for one in ordered],
        sum(one.network_seconds for one in ordered),
        sum(one.crf_seconds for one in ordered),
    )


def _by_size(pictures: Sequence[Picture]) -> list[int]:
    """Returns the places of the pictures, those of one size together."""
    sizes = [_upright_size(picture) for picture in pictures]
    return sorted(range(len(pictures)), key=sizes.__getitem__)


def _upright_size(picture: Picture) -> tuple[int, int]:
    """Returns (width, height) upright, or (0, 0) where that cannot be read; decodes nothing."""
    try:
        return upright_size(open_image(picture.data, picture.input, "image"))
    except UserError:
        return 0, 0


def _refused(pictures: Sequence[Picture], failure: Failure[int]) -> _Labelled:
    picture = pictures[failure.item]
    return _Labelled(Entry(picture.input, picture.record, reason=str(failure.error)), b"")
