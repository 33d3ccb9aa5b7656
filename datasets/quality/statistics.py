"""What the labels of a split are: how many pixels of which class, in which image, and how they lie together."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import io
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import STORED_FORMATS

from ..stored import records
from ..stored.manifest import Manifest
from .pictures import SIDE, Look, look

# Records that wait for a thread: enough that none is idle, and few beside a data set's.
_BLOCK = 1024

# What Pillow and OpenCV raise for bytes that are not a picture.
_UNDECODABLE = (OSError, SyntaxError, ValueError, cv2.error, Image.DecompressionBombError)


class LabelCounts(NamedTuple):
    """The labels of one image.

    Attributes:
        pixels: int64 [K + 1], pixels of each class, and last the ignored ones.
        interior: int64 [K], those of them whose four neighbours have the same label.
        lonely: labelled pixels without a neighbour of the same label.
    """

    pixels: np.ndarray
    interior: np.ndarray
    lonely: int


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """A split of N images and K classes.

    Attributes:
        name: such as "train".
        has_labels: False for a test split; then there are no pixels.
        ids: N image ids in stored order, without those of damaged records.
        heights: int64 [N].
        widths: int64 [N].
        pixels: int64 [N, K + 1], pixels of each class, and last the ignored ones.
        interior: int64 [K], pixels of each class whose four neighbours are of it too.
        lonely: int64 [N], labelled pixels without a neighbour of their label.
        labels_crc: int64 [N], a checksum of the stored labels: two masks that differ have different ones, nearly
            always.
        damaged: what is wrong with each damaged record.
        looks: what each image looks like beside its labels; empty where that was not measured.
    """

    name: str
    has_labels: bool
    ids: tuple[str, ...]
    heights: np.ndarray
    widths: np.ndarray
    pixels: np.ndarray
    interior: np.ndarray
    lonely: np.ndarray
    labels_crc: np.ndarray
    damaged: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()

    @property
    def count(self) -> int:
        """N, the number of images."""
        return len(self.ids)

    @property
    def class_pixels(self) -> np.ndarray:
        """int64 [K], pixels of each class in all images."""
        return self.pixels[:, :-1].sum(axis=0)

    @property
    def class_images(self) -> np.ndarray:
        """int64 [K], images in which each class occurs."""
        return np.count_nonzero(self.pixels[:, :-1], axis=0)

    @property
    def class_shares(self) -> np.ndarray:
        """float64 [K], the share of each class in the labelled pixels, 0..1."""
        return self.class_pixels / max(self.class_pixels.sum(), 1)

    @property
    def ignored_shares(self) -> np.ndarray:
        """float64 [N], the share of ignored pixels in each image, 0..1."""
        return self.pixels[:, -1] / np.maximum(self.pixels.sum(axis=1), 1)


def measure(manifest: Manifest, split: str, num_threads: int | None = None) -> SplitStatistics:
    """Reads a split once, on all cores, and shows a progress bar with the time left on a terminal.

    Memory holds one record for each thread, and one row of numbers for each image.

    Args:
        manifest: what `read_manifest` gave.
        split: its name.
        num_threads: None for one a core.

    Returns:
        The statistics of all records that are not damaged.

    Raises:
        UserError: no such split, or a file cannot be read.
    """
    described = manifest.split(split)
    num_classes = manifest.info.num_classes
    paths = [manifest.data_dir / file.name for file in described.files]
    places = list(zip(*(array.tolist() for array in described.record_places()), strict=True))

    def measure_record(place: tuple[int, int, int]) -> tuple[int, int, LabelCounts, int, Look] | str:
        shard, offset, length = place
        record = _read(paths[shard], offset, length)
        if isinstance(record, str):
            return f"{paths[shard]}: {record}"
        try:
            with Image.open(io.BytesIO(record.image), formats=STORED_FORMATS) as image:
                height, width = image.height, image.width
                image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded at a fraction of its size
                pixels = np.asarray(image.convert("RGB"))
            if not described.has_labels:
                return height, width, count_labels(np.zeros((0, 0), np.uint8), num_classes), 0, look(pixels, None)
            labels = decode_labels(record.labels)
        except _UNDECODABLE as error:
            return f"{paths[shard]}: its image or labels cannot be decoded ({error})"
        return *labels.shape, count_labels(labels, num_classes), zlib.crc32(record.labels), look(pixels, labels)

    pool = concurrent.futures.ThreadPoolExecutor(num_threads or len(os.sched_getaffinity(0)))
    try:
        blocks = (places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK))
        measured = (result for block in blocks for result in pool.map(measure_record, block))
        progress = tqdm(measured, f"reading {split}", described.count, unit="image", disable=None)
        results = list(zip(described.ids, progress, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error nobody waits for the rest
    good = [(image_id, *result) for image_id, result in results if not isinstance(result, str)]
    if not good:
        raise UserError(f"{manifest.data_dir}: expected whole records in {split!r}, all are damaged. Convert it again.")
    ids, heights, widths, counts, checksums, looks = zip(*good, strict=True)
    return SplitStatistics(
        name=split,
        has_labels=described.has_labels,
        ids=ids,
        heights=np.array(heights, np.int64),
        widths=np.array(widths, np.int64),
        pixels=np.stack([count.pixels for count in counts]),
        interior=np.sum([count.interior for count in counts], axis=0),
        lonely=np.array([count.lonely for count in counts], np.int64),
        labels_crc=np.array(checksums, np.int64),
        looks=looks,
        damaged=tuple(f"{image_id}: {result}" for image_id, result in results if isinstance(result, str)),
    )


def count_labels(labels: np.ndarray, num_classes: int) -> LabelCounts:
    """Counts the labels of an image.

    Args:
        labels: uint8 [H, W], 0..K-1 and 255.
        num_classes: K.

    Returns:
        The counts. Beyond the edge of the image a pixel's neighbours have its own label.
    """
    below = labels[1:] == labels[:-1]  # [H - 1, W]
    right = labels[:, 1:] == labels[:, :-1]  # [H, W - 1]
    # How many of the four neighbours are the same; uint8, because the sums are over few.
    same = np.full(labels.shape, 4, np.uint8)
    for differs, one, other in (
        (~below, (slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        (~right, (slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        same[one] -= differs
        same[other] -= differs
    pixels = np.bincount(labels.ravel(), minlength=256)
    interior = np.bincount(labels[same == 4], minlength=256)
    lonely = np.count_nonzero((same == 0) & (labels != IGNORE_LABEL))
    return LabelCounts(np.append(pixels[:num_classes], pixels[IGNORE_LABEL]), interior[:num_classes], int(lonely))


def decode_labels(encoded: bytes) -> np.ndarray:
    """Decodes the labels of a record: uint8 [H, W], class indices and 255.

    Raises:
        ValueError, cv2.error: they are none.
    """
    labels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) if encoded else None
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError("its labels are not an 8-bit grey PNG")
    return labels


def read_example(manifest: Manifest, split: str, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads one example to look at.

    Args:
        manifest: what `read_manifest` gave.
        split: the name of a split with labels.
        place: its place in the split's ids, of a record that is not damaged.

    Returns:
        uint8 [H, W, 3], RGB, and uint8 [H, W], labels.

    Raises:
        UserError: the file cannot be read, or the record is damaged.
    """
    described = manifest.split(split)
    shard, offset, length = (int(array[place]) for array in described.record_places())
    path = manifest.data_dir / described.files[shard].name
    record = _read(path, offset, length)
    if isinstance(record, str):
        raise UserError(f"{path}: record of {described.ids[place]}: {record}. Convert {split} again.")
    try:
        with Image.open(io.BytesIO(record.image), formats=STORED_FORMATS) as image:
            return np.asarray(image.convert("RGB")), decode_labels(record.labels)
    except _UNDECODABLE as error:
        raise UserError(
            f"{path}: record of {described.ids[place]}: its image or labels cannot be decoded ({error})."
            f" Convert {split} again."
        ) from None


def _read(path: Path, offset: int, length: int) -> records.Fields | str:
    try:
        return records.read(path, offset, length)
    except OSError as error:
        raise UserError(
            f"{path}: expected a readable shard, got: {error.strerror or error}. Copy it again, or convert it again."
        ) from None
