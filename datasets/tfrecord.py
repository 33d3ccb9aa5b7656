"""The one form in which data sets are stored: TFRecord shards and a manifest.json that describes them.

A record is a tf.train.Example with three byte strings:

    image_id    UTF-8
    image       JPEG or PNG, 8-bit RGB or grey, as `raw_files.read_image` gives it
    labels      8-bit grey PNG, grey value = class index, 255 = ignore; empty in a test split

The shards of a split hold consecutive blocks of its examples, so reading them one after the other gives the stored
order. The manifest also has the length of each record: the pipeline reads any record without the ones before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from datasets.source import Example
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# A TFRecord frames its payload by a length (8 bytes) and two checksums (4 bytes each).
_FRAME_BYTES = 16


@dataclasses.dataclass(frozen=True)
class ShardFile:
    """One TFRecord file.

    Attributes:
        name: file name inside the data folder.
        sha256: of the whole file, hexadecimal.
        record_bytes: length of each record in the file, framing included.
    """

    name: str
    sha256: str
    record_bytes: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.record_bytes)

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return sum(self.record_bytes)


@dataclasses.dataclass(frozen=True)
class SplitManifest:
    """One split.

    Attributes:
        name: such as "train".
        has_labels: False for a test split.
        ids: image ids in stored order.
        files: shards in stored order.
    """

    name: str
    has_labels: bool
    ids: tuple[str, ...]
    files: tuple[ShardFile, ...]

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    Attributes:
        data_dir: the folder it was read from.
        info: the classes.
        splits: by name.
    """

    data_dir: Path
    info: DatasetInfo
    splits: dict[str, SplitManifest]

    def split(self, name: str) -> SplitManifest:
        """Returns a split.

        Raises:
            UserError: no such split, or it holds no examples.
        """
        found = self.splits.get(name)
        if found is None or not found.count:
            existing = ", ".join(self.splits) or "none"
            state = "no such split" if found is None else "an empty one"
            raise UserError(
                f"{self.data_dir}: expected a split {name!r}, found {state}. Existing: {existing}."
                " Name one of these, or write it with python -m datasets.convert."
            )
        return found

    def shard_paths(self, name: str) -> list[str]:
        """Returns the paths of a split's shards in stored order."""
        return [str(self.data_dir / file.name) for file in self.split(name).files]


def read_manifest(data_dir: str | os.PathLike[str]) -> Manifest:
    """Reads manifest.json and checks that the shards are there, each with its full length.

    Raises:
        UserError: the folder, the manifest or a shard is missing, damaged, or of another format version.
    """
    manifest = _load_manifest(Path(data_dir))
    for split in manifest.splits.values():
        for file in split.files:
            shard = manifest.data_dir / file.name
            size = shard.stat().st_size if shard.is_file() else None
            if size != file.size:
                found = "no such file" if size is None else f"{size} bytes"
                raise UserError(
                    f"{shard}: expected a shard of {file.size} bytes, found {found}."
                    f" Copy it again, or convert {split.name} again."
                )
    return manifest


def write_shards(
    examples: Iterable[Example],
    count: int,
    info: DatasetInfo,
    split: str,
    out_dir: str | os.PathLike[str],
    num_shards: int,
) -> SplitManifest:
    """Writes one split as SPLIT-00000-of-NNNNN.tfrecord and enters it in manifest.json.

    One example is in memory at a time. The same examples give the same bytes. Nothing half-written is ever visible:
    the shards get their names when all are complete, the manifest comes last. An existing split of this name is
    replaced, other splits stay. The manifest's `train_split` is "trainaug" where there is such a split. A progress
    bar shows on a terminal.

    Args:
        examples: the examples, in the order to store them.
        count: how many there are, >= 1.
        info: the classes.
        split: letters, digits, "_", "-" and ".".
        out_dir: created where missing.
        num_shards: number of files, 1 to count.

    Returns:
        What was entered in the manifest.

    Raises:
        UserError: out_dir holds another list of classes or cannot be written, the split's name cannot be part of a
            file name, or `examples` raises it.
        ValueError: num_shards or the number of examples does not fit count, an id comes twice, or only some
            examples have labels.
    """
    if not 1 <= num_shards <= count:
        raise ValueError(f"num_shards must be in 1..{count} for {count} examples, got {num_shards}.")
    if not re.fullmatch(r"\w[\w.-]*", split):
        raise UserError(f"expected a split name of letters, digits, '_', '-' and '.', got {split!r}. Rename the split.")
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        splits = _existing_splits(folder, info)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{split}-") as staging:
            progress = tqdm(examples, desc=split, total=count, unit="example", disable=None)
            written = _write_files(progress, count, split, Path(staging), num_shards)
            if splits.pop(split, None) is not None:
                # A crash between the renames must not leave the old ids beside new shards.
                _write_manifest(folder, info, splits)
            for file in written.files:
                os.replace(Path(staging) / file.name, folder / file.name)
        splits[split] = written
        _write_manifest(folder, info, splits)
        kept = {file.name for file in written.files}
        for old in folder.glob(f"{split}-[0-9]*-of-[0-9]*.tfrecord"):
            if old.name not in kept:
                old.unlink()
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"{folder}: expected to write TFRecords there, cannot: {' '.join(str(error).split())}."
            " Check the path, its permissions and the free space."
        ) from None
    return written


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Takes a record apart.

    Args:
        serialized: string [], one record.

    Returns:
        "image_id", "image" and "labels", each string []; labels is "" where the example has none.
    """
    text = tf.io.FixedLenFeature([], tf.string)
    return tf.io.parse_single_example(serialized, {"image_id": text, "image": text, "labels": text})


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG to the same pixels as Pillow.

    Args:
        encoded: string [].

    Returns:
        uint8 [H, W, 3], RGB.
    """

    def jpeg() -> tf.Tensor:
        # The default method differs from Pillow's by up to 17 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, lambda: tf.io.decode_png(encoded, channels=3))
    return tf.ensure_shape(image, [None, None, 3])


def decode_labels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes stored labels.

    Args:
        encoded: string [], "labels" of a record that has some.

    Returns:
        int32 [H, W], class indices and 255.
    """
    return tf.cast(tf.io.decode_png(encoded, channels=1)[:, :, 0], tf.int32)


def _write_files(examples: Iterable[Example], count: int, split: str, folder: Path, num_shards: int) -> SplitManifest:
    ids: list[str] = []
    files: list[ShardFile] = []
    labelled: set[bool] = set()
    stream: Iterator[Example] = iter(examples)
    for index in range(num_shards):
        name = f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"
        block = count * (index + 1) // num_shards - count * index // num_shards
        record_bytes = []
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for example in itertools.islice(stream, block):
                serialized = _serialize(example)
                writer.write(serialized)
                record_bytes.append(len(serialized) + _FRAME_BYTES)
                ids.append(example.image_id)
                labelled.add(example.labels is not None)
        with open(folder / name, "rb") as shard:
            sha256 = hashlib.file_digest(shard, "sha256").hexdigest()
        files.append(ShardFile(name, sha256, tuple(record_bytes)))
    if len(ids) != count or next(stream, None) is not None:
        raise ValueError(f"{split}: expected {count} examples, got {'more' if len(ids) == count else len(ids)}.")
    if len(set(ids)) != count:
        raise ValueError(f"{split}: expected every image id once, got {count - len(set(ids))} repetitions.")
    if len(labelled) != 1:
        raise ValueError(f"{split}: expected labels for all examples or for none.")
    return SplitManifest(split, labelled.pop(), tuple(ids), tuple(files))


def _serialize(example: Example) -> bytes:
    labels = b""
    if example.labels is not None:
        png = io.BytesIO()
        Image.fromarray(np.asarray(example.labels, np.uint8)).save(png, format="PNG")
        labels = png.getvalue()
    values = {"image_id": example.image_id.encode(), "image": example.image, "labels": labels}
    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()}
    record = tf.train.Example(features=tf.train.Features(feature=feature))
    return record.SerializeToString(deterministic=True)


def _load_manifest(folder: Path) -> Manifest:
    """Reads manifest.json without a look at the shards: a damaged split can be written again."""
    path = folder / MANIFEST
    remedy = "Write it with python -m datasets.convert."
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of TFRecords, found no such folder. {remedy}")
    if not path.is_file():
        raise UserError(f"{folder}: expected {MANIFEST} there, found none. {remedy}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: expected format_version {FORMAT_VERSION}, got {version}. Delete the folder and convert again."
            )
        return Manifest(
            data_dir=folder,
            info=DatasetInfo.from_json(fields["info"]),
            splits={name: _split_from_json(name, split) for name, split in fields["splits"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a manifest as datasets.convert writes it, cannot read it ({error!r})."
            " Delete the folder and convert again."
        ) from None


def _existing_splits(folder: Path, info: DatasetInfo) -> dict[str, SplitManifest]:
    """Returns the splits that are in the folder already, by name."""
    if not (folder / MANIFEST).is_file():
        return {}
    manifest = _load_manifest(folder)
    if manifest.info.class_names != info.class_names:
        raise UserError(
            f"{folder}: expected the classes of the splits there ({', '.join(manifest.info.class_names)}), got"
            f" {', '.join(info.class_names)}. Choose another --out or the same classes."
        )
    return dict(manifest.splits)


def _write_manifest(folder: Path, info: DatasetInfo, splits: dict[str, SplitManifest]) -> None:
    if "trainaug" in splits:
        info = dataclasses.replace(info, train_split="trainaug")
    fields = {
        "format_version": FORMAT_VERSION,
        "info": info.to_json(),
        "splits": {name: _split_to_json(split) for name, split in splits.items()},
    }
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(fields) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def _split_to_json(split: SplitManifest) -> dict[str, Any]:
    return {
        "count": split.count,
        "has_labels": split.has_labels,
        "files": [
            {"name": file.name, "count": file.count, "sha256": file.sha256, "record_bytes": list(file.record_bytes)}
            for file in split.files
        ],
        "ids": list(split.ids),
    }


def _split_from_json(name: str, fields: dict[str, Any]) -> SplitManifest:
    files = tuple(
        ShardFile(file["name"], file["sha256"], tuple(int(length) for length in file["record_bytes"]))
        for file in fields["files"]
    )
    split = SplitManifest(name, bool(fields["has_labels"]), tuple(fields["ids"]), files)
    if sum(file.count for file in files) != split.count:
        raise ValueError(f"split {name!r} lists {split.count} ids and {sum(file.count for file in files)} records")
    return split
