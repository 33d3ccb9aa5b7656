"""Many images: while the network runs on one, others are read, refined by the CRF, and written.

    items --read--> pixels --network--> output --CRF, labels--> Segmented --use--> results, in the order of the items
          threads           the calling thread          threads

This is how evaluation, predict.py and the Beam job segment. Reading, the CRF and `use` take as many threads as there
are cores, and the number of images in memory is bounded. What is wrong with one image is a value in its place, a
`Failure`; the other images go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from deeplab_tf.crf.backends import check_backend, needed_bytes
from deeplab_tf.errors import ItemError, UserError
from deeplab_tf.images.files import ImageLike, pixels_of
from deeplab_tf.inference.labels import labels_of
from deeplab_tf.inference.segmenter import Prediction, Segmenter
from deeplab_tf.runtime import memory
from deeplab_tf.runtime.threads import map_in_order, read_ahead, usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

# Of the memory that is free, what all images may take together that wait for the CRF, are in it, or are being written.
_SHARE_OF_MEMORY = 0.5


class Segmented(NamedTuple):
    """What the network and the CRF made of an image.

    Attributes:
        prediction: the final one.
        network_labels: uint8 [H, W], before the CRF; those of the prediction where there is none.
        network_seconds: from pixels to the network's output, its share where it ran on several images.
        crf_seconds: from that to the prediction; None without a CRF.
    """

    prediction: Prediction
    network_labels: np.ndarray
    network_seconds: float
    crf_seconds: float | None


@dataclasses.dataclass(frozen=True)
class Failure(Generic[Item]):
    """An image without a result.

    Attributes:
        item: which one.
        error: why. It says what is wrong, and not always with which image.
        is_read: its pixels were read; what failed came later.
    """

    item: Item
    error: UserError
    is_read: bool


class _Read(NamedTuple):
    """An item and its pixels, uint8 [H, W, 3]."""

    item: object
    pixels: np.ndarray


class _Run(NamedTuple):
    """An item after the network: its pixels, the network's output, and its seconds."""

    item: object
    pixels: np.ndarray
    output: np.ndarray
    seconds: float


def segment_items(
    segmenter: Segmenter,
    items: Iterable[Item],
    read: Callable[[Item], np.ndarray],
    use: Callable[[Item, Segmented], Result],
    *,
    reads_ahead: bool = True,
    batch_size: int = 1,
    workers: int | None = None,
) -> Generator[Result | Failure[Item], None, None]:
    """Segments many images; the module says what happens at the same time.

    Args:
        segmenter: the model.
        items: whatever `read` makes pixels of. One thread takes them.
        read: from an item to uint8 [H, W, 3]; in several threads. A UserError that it raises is that item's failure.
        use: what to do with an item that is segmented, such as to write its labels. It gets several at a time, and not
            always in order. An ItemError that it raises is that item's failure; anything else ends the run.
        reads_ahead: take and read items ahead in threads. False where the source does so itself, such as tf.data.
        batch_size: how many images of one size that follow each other the network sees at once, at most; more than 1
            if it takes batches.
        workers: threads for the CRF and `use`; one for each core, and two at least, by default.

    Returns:
        For each item, in order, what `use` returned, or its failure.

    Raises:
        UserError: the CRF backend is not installed.
    """
    if segmenter.crf is not None:
        check_backend(segmenter.crf_backend)
    return _segment_items(
        segmenter,
        items,
        read,
        use,
        readers=max(1, (workers or usable_cores()) // 2) if reads_ahead else 0,
        batch_size=batch_size if segmenter.takes_batches else 1,
        workers=workers or max(2, usable_cores()),
    )


def _segment_items(
    segmenter: Segmenter,
    items: Iterable[Item],
    read: Callable[[Item], np.ndarray],
    use: Callable[[Item, Segmented], Result],
    readers: int,
    batch_size: int,
    workers: int,
) -> Generator[Result | Failure[Item], None, None]:
    def attempt(item: Item) -> _Read | Failure[Item]:
        try:
            return _Read(item, read(item))
        except UserError as error:
            return Failure(item, error, is_read=False)

    def finish(run: _Run | Failure[Item]) -> Result | Failure[Item]:
        if isinstance(run, Failure):
            return run
        item: Item = run.item  # type: ignore[assignment]
        try:
            segmented = _finish(segmenter, run)
        except UserError as error:
            return Failure(item, error, is_read=True)
        try:
            return use(item, segmented)
        except ItemError as error:
            return Failure(item, error, is_read=True)

    def bytes_of(run: _Run | Failure[Item]) -> float:
        return 0.0 if isinstance(run, Failure) else _bytes_of(segmenter, run)

    free = memory.available_bytes()
    budget = math.inf if free is None else _SHARE_OF_MEMORY * free
    with contextlib.ExitStack() as stack:
        reading: Iterator[_Read | Failure[Item]] = map(attempt, items)
        if readers:
            # To take an item needs time itself where it is a frame of a video.
            taken = stack.enter_context(contextlib.closing(read_ahead(items, 1)))
            ahead = max(readers, batch_size)
            reading = stack.enter_context(
                contextlib.closing(map_in_order(attempt, taken, workers=readers, ahead=ahead))
            )
        runs = itertools.chain.from_iterable(
            _run_network(segmenter, group) for group in _groups_of_one_size(reading, batch_size)
        )
        yield from stack.enter_context(
            contextlib.closing(
                map_in_order(finish, runs, workers=workers, ahead=workers + 1, cost=bytes_of, budget=budget)
            )
        )


def _groups_of_one_size(
    reading: Iterable[_Read | Failure[Item]], batch_size: int
) -> Iterator[list[_Read | Failure[Item]]]:
    """Joins images of one size that follow each other, batch_size at most, and the failures between them."""
    group: list[_Read | Failure[Item]] = []
    shape, count = None, 0
    for one in reading:
        if isinstance(one, _Read):
            if count == batch_size or (count and one.pixels.shape != shape):
                yield group
                group, count = [], 0
            shape, count = one.pixels.shape, count + 1
        group.append(one)
        if batch_size == 1:  # nothing to wait for
            yield group
            group, count = [], 0
    if group:
        yield group


def _run_network(segmenter: Segmenter, group: Sequence[_Read | Failure[Item]]) -> Iterator[_Run | Failure[Item]]:
    """Runs the network on the images of a group at once, or on one after the other where the memory is too small."""
    images = [one.pixels for one in group if isinstance(one, _Read)]
    begin = time.monotonic()
    outputs: Iterator[np.ndarray] | None = None
    if len(images) > 1:
        with contextlib.suppress(UserError):
            outputs = iter(segmenter.run_network(np.stack(images)))
    seconds = (time.monotonic() - begin) / max(1, len(images))
    for one in group:
        if isinstance(one, Failure):
            yield one
        elif outputs is not None:
            yield _Run(one.item, one.pixels, next(outputs), seconds)
        else:
            begin = time.monotonic()
            try:
                output = segmenter.run_network(one.pixels)
            except UserError as error:
                yield Failure(one.item, error, is_read=True)  # type: ignore[arg-type]
                continue
            yield _Run(one.item, one.pixels, output, time.monotonic() - begin)


def _finish(segmenter: Segmenter, run: _Run) -> Segmented:
    if segmenter.crf is None:
        prediction = segmenter.finish(run.pixels, run.output)
        return Segmented(prediction, prediction.labels, run.seconds, None)
    network_labels = labels_of(run.output)
    begin = time.monotonic()
    prediction = segmenter.finish(run.pixels, run.output, crf_threads=1)
    return Segmented(prediction, network_labels, run.seconds, time.monotonic() - begin)


def _bytes_of(segmenter: Segmenter, run: _Run) -> float:
    """What an image takes from the network on: pixels, the network's output, and what becomes of it."""
    num_bytes = float(run.pixels.nbytes + 2 * run.output.nbytes)
    if segmenter.crf is not None:
        height, width = run.pixels.shape[:2]
        num_bytes += needed_bytes((height, width), run.output.shape[-1], segmenter.crf_backend)
    return num_bytes


def segment_all(
    segmenter: Segmenter,
    pictures: Iterable[tuple[str, ImageLike | UserError]],
    use: Callable[[str, Prediction], Result],
    *,
    batch_size: int = 1,
) -> Generator[Result | UserError, None, None]:
    """Segments many images by their names, as `segment_items` does.

    Args:
        segmenter: the model.
        pictures: names with what `Segmenter.segment` takes, or with the error that kept an image from being read.
        use: what to do with a prediction, such as to write it. It gets several at a time, and not always in order.
        batch_size: see `segment_items`.

    Returns:
        For each picture, in order, what `use` returned; or its error: the one that came with it or arose when it was
        read, or, with its name, what kept it from being segmented or used. What else `use` raises is raised.

    Raises:
        UserError: the CRF backend is not installed.
    """

    def read(picture: tuple[str, ImageLike | UserError]) -> np.ndarray:
        name, image = picture
        if isinstance(image, UserError):
            raise image
        return pixels_of(image, name)

    def use_named(picture: tuple[str, ImageLike | UserError], segmented: Segmented) -> Result:
        return use(picture[0], segmented.prediction)

    def named(result: Result | Failure[tuple[str, ImageLike | UserError]]) -> Result | UserError:
        if not isinstance(result, Failure):
            return result
        return UserError(f"{result.item[0]}: {result.error}") if result.is_read else result.error

    results = segment_items(segmenter, pictures, read, use_named, batch_size=batch_size)

    def all_named() -> Generator[Result | UserError, None, None]:
        with contextlib.closing(results):
            yield from map(named, results)

    return all_named()
