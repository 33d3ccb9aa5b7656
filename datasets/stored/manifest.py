"""manifest.json: the classes of a converted data set, its splits, and each file of them.

It also has the length of each record, so that any record can be read without the ones before it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo, require_fields
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

from .records import FRAME_BYTES

FORMAT_VERSION = 2
# Version 1 is the same without the hashes of the images: all else in it still holds.
READABLE_VERSIONS = (1, FORMAT_VERSION)
MANIFEST = "manifest.json"
# No separator, so that a manifest names files of its own folder only.
_SHARD_NAME = re.compile(r"\w[\w.-]*\.tfrecord")
# Protobuf's limit for a message.
_LONGEST_RECORD = 2**31


@dataclasses.dataclass(frozen=True)
class ShardFile:
    """One TFRecord file.

    Attributes:
        name: file name inside the data folder.
        sha256: of the whole file, hexadecimal.
        record_bytes: length of each record in the file, framing included.
        image_hashes: `overlap.image_hash` of each record's image; () where format version 1 did not store them.
    """

    name: str
    sha256: str
    record_bytes: tuple[int, ...]
    image_hashes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _SHARD_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r:.200} is not the name of a shard")
        for length in self.record_bytes:
            if type(length) is not int or not FRAME_BYTES <= length < _LONGEST_RECORD:
                raise ValueError(f"{self.name} has a record of {length!r:.60} bytes")
        if self.image_hashes and len(self.image_hashes) != len(self.record_bytes):
            raise ValueError(f"{self.name} has {self.count} records and {len(self.image_hashes)} hashes of images")

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.record_bytes)

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return sum(self.record_bytes)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes."""
        return {
            "name": self.name,
            "count": self.count,
            "sha256": self.sha256,
            "record_bytes": list(self.record_bytes),
            "image_hashes": list(self.image_hashes),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ShardFile:
        """Rebuilds what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: something else.
        """
        require_fields(fields, "a shard")
        return cls(
            name=str(fields["name"]),
            sha256=str(fields["sha256"]),
            record_bytes=tuple(fields["record_bytes"]),
            image_hashes=tuple(str(digest) for digest in fields.get("image_hashes", ())),
        )


@dataclasses.dataclass(frozen=True)
class SplitManifest:
    """One split.

    Attributes:
        name: such as "train".
        has_labels: False for a test split.
        ids: image ids in stored order, without the skipped ones.
        files: shards in stored order.
        skipped: places in stored order, from 0, of records that are left out because they are damaged. It is not
            stored: a manifest read from its file skips none.
    """

    name: str
    has_labels: bool
    ids: tuple[str, ...]
    files: tuple[ShardFile, ...]
    skipped: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.ids)

    def without(self, places: Collection[int]) -> SplitManifest:
        """Leaves records out, by their places in `ids`; those skipped before stay out."""
        left_out = set(places)
        kept = [place for place in range(self.count) if place not in left_out]
        stored = self._stored_places()
        return dataclasses.replace(
            self,
            ids=tuple(self.ids[place] for place in kept),
            skipped=tuple(sorted({*self.skipped, *(int(stored[place]) for place in places)})),
        )

    def record_places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Says where each record of `ids` is stored.

        Returns:
            int64 [count] each: its shard's place in `files`, its offset there and its length, both in bytes.
        """
        shards = np.repeat(np.arange(len(self.files)), [file.count for file in self.files])
        offsets = np.concatenate([np.cumsum((0, *file.record_bytes[:-1])) for file in self.files])
        lengths = np.concatenate([file.record_bytes for file in self.files])
        kept = self._stored_places()
        return shards[kept].astype(np.int64), offsets[kept].astype(np.int64), lengths[kept].astype(np.int64)

    def image_hashes(self) -> tuple[str, ...] | None:
        """Returns `overlap.image_hash` of each image of `ids`, or None where format version 1 did not store them."""
        stored = [digest for file in self.files for digest in file.image_hashes]
        if len(stored) != sum(file.count for file in self.files):
            return None
        return tuple(stored[place] for place in self._stored_places())

    def _stored_places(self) -> np.ndarray:
        """Returns int64 [count], the place in stored order of each record that is not skipped."""
        stored = sum(file.count for file in self.files)
        return np.setdiff1d(np.arange(stored), np.array(self.skipped, np.int64))


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


def read_manifest(data_dir: str | os.PathLike[str], check_sizes: bool = True) -> Manifest:
    """Reads manifest.json and checks that the shards are there, each with its full length.

    Args:
        data_dir: folder written by `datasets.convert`.
        check_sizes: False checks the manifest only, for readers that skip damaged records and find out about the files.

    Raises:
        UserError: the folder, the manifest or a shard is missing, damaged, or of another format version.
    """
    manifest = load_manifest(Path(data_dir))
    for split in manifest.splits.values() if check_sizes else ():
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


def load_manifest(folder: Path) -> Manifest:
    """Reads manifest.json without a look at the shards: a damaged split can be written again.

    Raises:
        UserError: the folder or the manifest is missing, damaged, or of another format version.
    """
    path = folder / MANIFEST
    remedy = "Write it with python -m datasets.convert."
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of TFRecords, found no such folder. {remedy}")
    if not path.is_file():
        raise UserError(
            f"{folder}: expected {MANIFEST} there, found none: nothing was converted to this folder, or a conversion"
            f" did not end. {remedy}"
        )
    try:
        fields = files.read_json(path)
        require_fields(fields, "the manifest")
        version = fields["format_version"]
        if version not in READABLE_VERSIONS:
            raise UserError(
                f"{path}: expected format_version {' or '.join(map(str, READABLE_VERSIONS))}, got {version}: another"
                " version of this project wrote it. Convert the raw files again, to another --out or after deleting"
                " this folder."
            )
        return Manifest(
            data_dir=folder,
            info=DatasetInfo.from_json(fields["info"]),
            splits=_splits_from_json(fields["splits"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected a manifest as datasets.convert writes it, cannot read it ({error!r})."
            " Delete the folder and convert again."
        ) from None


def write_manifest(folder: Path, info: DatasetInfo, splits: dict[str, SplitManifest]) -> None:
    """Writes manifest.json under a temporary name and renames it.

    Raises:
        OSError: the folder cannot be written.
    """
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
        "files": [file.to_json() for file in split.files],
        "ids": list(split.ids),
    }


def _splits_from_json(fields: Any) -> dict[str, SplitManifest]:
    require_fields(fields, "splits")
    return {name: _split_from_json(name, split) for name, split in fields.items()}


def _split_from_json(name: str, fields: Any) -> SplitManifest:
    require_fields(fields, f"split {name!r:.60}")
    shards = tuple(ShardFile.from_json(file) for file in fields["files"])
    ids = tuple(fields["ids"]) if isinstance(fields["ids"], list) else ()
    for image_id in ids:
        # Pictures and archives have files of this name.
        if not isinstance(image_id, str) or not image_id or "/" in image_id or "\0" in image_id:
            raise ValueError(f"split {name!r:.60} has an image called {image_id!r:.200}")
    if not sum(shard.count for shard in shards) == len(ids):
        raise ValueError(f"split {name!r:.60} lists {len(ids)} ids and {sum(s.count for s in shards)} records")
    return SplitManifest(name, bool(fields["has_labels"]), ids, shards)
