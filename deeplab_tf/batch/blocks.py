"""One block of encoded images to encoded labels, by the functions of predict.py: the same answers."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab_tf.batch.manifest import Entry
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import DECODE_ERRORS, FORMATS, decode_pixels
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.runtime.threads import map_in_order, read_ahead

_AHEAD = 2
_WORKERS = 2


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


class Answers(NamedTuple):
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


class _Answer(NamedTuple):
    """What became of one image, by its place in the block."""

    place: int
    entry: Entry
    labels: bytes = b""
    crf_seconds: float = 0.0


class _Batch(NamedTuple):
    """Images of one size, by their places in the block; `refused` are those that cannot be decoded."""

    places: list[int]
    images: list[np.ndarray]
    refused: list[_Answer]


class _Asked(NamedTuple):
    """An image, and what the network says of it: probabilities or labels."""

    place: int
    image: np.ndarray
    answer: np.ndarray


def segment_block(segmenter: Segmenter, pictures: Sequence[Picture], batch_size: int = 1) -> Answers:
    """Segments a block of images: while the network sees some, others are decoded, refined and encoded.

    Args:
        segmenter: the model; with a batch size above 1 its `ask` takes uint8 [B, H, W, 3] too.
        pictures: any number, of any sizes.
        batch_size: how many images of one size the network sees at once, at most.

    Raises:
        UserError: the CRF backend is not installed.
    """
    network_seconds = 0.0

    def ask(batch: _Batch) -> list[_Asked | _Answer]:
        nonlocal network_seconds
        begin = time.perf_counter()
        answered = _ask(segmenter, pictures, batch)
        network_seconds += time.perf_counter() - begin
        return [*batch.refused, *answered]

    def finish(asked: _Asked | _Answer) -> _Answer:
        if isinstance(asked, _Answer):
            return asked
        begin = time.perf_counter()
        labels = segmenter.finish(asked.image, asked.answer).labels
        seconds = time.perf_counter() - begin if segmenter.crf is not None else 0.0
        picture = pictures[asked.place]
        entry = Entry(picture.input, picture.record, size=labels.shape)
        return _Answer(asked.place, entry, visualize.encode_palette_png(labels, segmenter.info.palette), seconds)

    batches = read_ahead((_decode(pictures, places) for places in _places(pictures, batch_size)), _AHEAD)
    asked = itertools.chain.from_iterable(map(ask, batches))
    answers = sorted(map_in_order(finish, asked, workers=_WORKERS, ahead=_AHEAD + _WORKERS))
    return Answers(
        [answer.entry for answer in answers],
        [answer.labels for answer in answers],
        network_seconds,
        sum(answer.crf_seconds for answer in answers),
    )


def _places(pictures: Sequence[Picture], batch_size: int) -> Iterator[list[int]]:
    """Groups the places of pictures into batches of one size, as they come where a batch is one picture."""
    places = list(range(len(pictures)))
    if batch_size == 1:
        yield from ([place] for place in places)
        return
    sizes = [_stored_size(picture) for picture in pictures]
    for _, of_size in itertools.groupby(sorted(places, key=sizes.__getitem__), sizes.__getitem__):
        members = list(of_size)
        yield from (members[start : start + batch_size] for start in range(0, len(members), batch_size))


def _stored_size(picture: Picture) -> tuple[int, int]:
    """Returns (width, height), or (0, 0) where that cannot be read; decodes nothing."""
    try:
        with Image.open(io.BytesIO(picture.data), formats=FORMATS) as image:
            return image.size
    except DECODE_ERRORS:
        return 0, 0


def _decode(pictures: Sequence[Picture], places: Sequence[int]) -> _Batch:
    batch = _Batch([], [], [])
    for place in places:
        picture = pictures[place]
        try:
            if picture.reason:
                raise UserError(picture.reason)
            batch.images.append(decode_pixels(picture.data))
            batch.places.append(place)
        except UserError as error:
            batch.refused.append(_refused(picture, place, error))
    return batch


def _ask(segmenter: Segmenter, pictures: Sequence[Picture], batch: _Batch) -> list[_Asked | _Answer]:
    if len(batch.images) > 1:
        try:
            answers = segmenter.answer(np.stack(batch.images))
            return list(map(_Asked, batch.places, batch.images, answers))
        except UserError:
            pass  # together they do not fit into memory
    answered: list[_Asked | _Answer] = []
    for place, image in zip(batch.places, batch.images, strict=True):
        try:
            answered.append(_Asked(place, image, segmenter.answer(image)))
        except UserError as error:
            answered.append(_refused(pictures[place], place, error))
    return answered


def _refused(picture: Picture, place: int, error: UserError) -> _Answer:
    return _Answer(place, Entry(picture.input, picture.record, reason=str(error)))
