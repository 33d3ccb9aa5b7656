"""The stored form of data sets in TensorFlow: taking records apart, decoding them, naming damaged ones.

`records` has the form of a record, `manifest` what manifest.json says, and `conversion` writes both.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.images.decode import decode_image

from . import records
from .manifest import MANIFEST, Manifest, ShardFile, SplitManifest, read_manifest

__all__ = [
    "MANIFEST",
    "DamagedRecord",
    "Manifest",
    "ShardFile",
    "SplitManifest",
    "decode_image",
    "decode_labels",
    "describe_damage",
    "find_damage",
    "find_undecodable",
    "naming_damage",
    "parse",
    "read_manifest",
    "skip_damaged",
]


# TensorFlow's errors for a record that is not an example, image or label map. They quote the record, which may be
# binary.
_UNREADABLE = (tf.errors.InvalidArgumentError, UnicodeDecodeError)


class DamagedRecord(NamedTuple):
    """A record whose bytes are not those that were written.

    Attributes:
        shard: the file's name.
        number: which record of the file, from 0.
        place: its place in the `ids` of its split.
        image_id: what the manifest says is stored there.
        problem: what is wrong, in words.
    """

    shard: str
    number: int
    place: int
    image_id: str
    problem: str

    def __str__(self) -> str:
        return f"{self.shard}: record {self.number} ({self.image_id}): {self.problem}"


def find_damage(manifest: Manifest, split: str) -> Iterator[DamagedRecord]:
    """Reads a split and checks the checksums of all its records, one record in memory at a time.

    Args:
        manifest: what `read_manifest` gave.
        split: its name.

    Yields:
        The damaged records, in stored order.

    Raises:
        UserError: no such split, or a file cannot be read.
    """
    described = manifest.split(split)
    shards, offsets, _ = described.record_places()
    places = {
        (int(shard), int(offset)): place for place, (shard, offset) in enumerate(zip(shards, offsets, strict=True))
    }
    for shard, file in enumerate(described.files):
        starts = [0]
        for length in file.record_bytes:
            starts.append(starts[-1] + length)
        try:
            for number, problem in records.find_damage(manifest.data_dir / file.name, file.record_bytes):
                place = places.get((shard, starts[number]))
                if place is not None:  # a skipped one is known
                    yield DamagedRecord(file.name, number, place, described.ids[place], problem)
        except OSError as error:
            raise UserError(
                f"{manifest.data_dir / file.name}: expected a readable shard, got: {error.strerror or error}."
                f" Copy it again, or convert {split} again."
            ) from None


def find_undecodable(manifest: Manifest, split: str) -> Iterator[DamagedRecord]:
    """Decodes a split, whose records are whole, and yields those that do not hold an image and labels."""
    described = manifest.split(split)
    first = np.cumsum([0, *(file.count for file in described.files)])
    stored = np.setdiff1d(np.arange(first[-1]), described.skipped)  # the stored place of each id
    for place, (shard, offset, length) in enumerate(zip(*described.record_places(), strict=True)):
        file = described.files[shard]
        payload = records.read_payload(manifest.data_dir / file.name, int(offset), int(length))
        try:
            record = parse(tf.constant(payload))
            decode_image(record["image"])
            if described.has_labels:
                decode_labels(record["labels"])
        except _UNREADABLE as error:
            problem = f"it cannot be decoded ({type(error).__name__})"
            yield DamagedRecord(file.name, int(stored[place] - first[shard]), place, described.ids[place], problem)


def skip_damaged(data_dir: str | os.PathLike[str], split: str) -> tuple[Manifest, list[DamagedRecord]]:
    """Reads a manifest and leaves the damaged records of one split out, after reading all of them.

    Args:
        data_dir: folder written by `datasets.convert`.
        split: the split's name, or "" for the one that training takes by default.

    Returns:
        The manifest without these records, and what was left out.

    Raises:
        UserError: the manifest is not usable, there is no such split, a file cannot be read, or nothing whole is left.
    """
    manifest = read_manifest(data_dir, check_sizes=False)
    split = split or manifest.info.train_split
    damaged = list(find_damage(manifest, split))
    described = manifest.split(split)
    if len(damaged) == described.count:
        raise UserError(f"{data_dir}: expected whole records in {split!r}, all are damaged. Convert it again.")
    kept = described.without([record.place for record in damaged])
    return Manifest(manifest.data_dir, manifest.info, {**manifest.splits, split: kept}), damaged


def describe_damage(damaged: Sequence[DamagedRecord]) -> str:
    """Returns a line that counts damaged records and names the first."""
    what = "damaged record" if len(damaged) == 1 else "damaged records"
    return f"left out {len(damaged)} {what}" + (f", first {damaged[0]}" if damaged else "")


@contextlib.contextmanager
def naming_damage(manifest: Manifest, split: str) -> Iterator[None]:
    """Turns TensorFlow's complaint about a record into one line that names it.

    TensorFlow checks each record as it reads it, and says only at which byte of some file it failed.

    Raises:
        UserError: a record of the split is damaged, or whole and not what it should be.
    """
    try:
        yield
    except (tf.errors.DataLossError, *_UNREADABLE) as error:
        damaged = list(find_damage(manifest, split))
        if not damaged and isinstance(error, _UNREADABLE):
            damaged = list(itertools.islice(find_undecodable(manifest, split), 2))
        if not damaged:
            raise
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise UserError(
            f"{manifest.data_dir / str(damaged[0])}{more}. Copy the file again or convert {split} again, or go on"
            " without damaged records with --skip_damaged."
        ) from None


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Takes a record apart.

    Args:
        serialized: string [], one record.

    Returns:
        "image_id", "image" and "labels", each string []; labels is "" where the example has none.
    """
    text = tf.io.FixedLenFeature([], tf.string)
    return tf.io.parse_single_example(serialized, {"image_id": text, "image": text, "labels": text})


def decode_labels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes stored labels.

    Args:
        encoded: string [], "labels" of a record that has some.

    Returns:
        int32 [H, W], class indices and 255.
    """
    return tf.cast(tf.io.decode_png(encoded, channels=1)[:, :, 0], tf.int32)
