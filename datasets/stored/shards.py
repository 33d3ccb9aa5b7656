"""One shard: a TFRecord file, and beside it, until it moves to its place, a note of what it was made from.

A shard whose note still holds is not made again. The note has a fingerprint of the flags, the code and the ids, and
size and modification time of each raw file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplab_tf.errors import UserError, UserErrors

from ..quality.overlap import image_hash
from ..source import Example
from . import records
from .manifest import ShardFile


class Job(NamedTuple):
    """One shard that is to be there.

    Attributes:
        path: where, in the staging folder.
        ids: its images, in order.
        load: gives the example of an id.
        fingerprint: says all that the examples depend on beside the raw files.
    """

    path: Path
    ids: tuple[str, ...]
    load: Callable[[str], Example]
    fingerprint: str


class Shard(NamedTuple):
    """One shard that is there: its file, and whether its examples have labels."""

    file: ShardFile
    labelled: bool


def make_shard(job: Job, begin: Callable[[str], Any], count: Callable[[int], Any]) -> Shard:
    """Returns the shard of an earlier call where it still holds, else writes it.

    Args:
        job: the shard.
        begin: is called with the id of each image before it is read.
        count: is called with the number of images that are done.

    Raises:
        UserErrors: `load` raises UserError for some images; all of them are named.
        UserError: the folder cannot be written.
        ValueError: only some examples have labels.
    """
    shard = unchanged_shard(job)
    if shard is not None:
        count(len(job.ids))
        return shard

    inputs: dict[str, tuple[int, int]] = {}
    problems: list[str] = []

    def examples() -> Iterator[Example]:
        for image_id in job.ids:
            begin(image_id)
            try:
                example = job.load(image_id)
                for source in example.files:
                    inputs[str(source)] = _state(source)
            except UserErrors as error:
                problems.extend(error.problems)
                continue
            except UserError as error:
                problems.append(str(error))  # the others are looked at too: all that is wrong is told at once
                continue
            except OSError as error:  # not to be taken for one of writing
                problems.append(
                    f"{error.filename or image_id}: cannot be read: {error.strerror or error}."
                    " Check the file, its permissions and the disk."
                )
                continue
            if not problems:
                yield example
            count(1)

    with writing_to(job.path.parent.parent):
        note = note_path(job.path)
        note.unlink(missing_ok=True)
        shard = _write_file(job.path, examples(), problems)
        temporary = note.with_suffix(".tmp")
        fields = {
            "fingerprint": job.fingerprint,
            "file": shard.file.to_json(),
            "labelled": shard.labelled,
            "inputs": inputs,
        }
        temporary.write_text(json.dumps(fields), encoding="utf-8")
        os.replace(temporary, note)
    return shard


def _write_file(path: Path, examples: Iterable[Example], problems: Sequence[str]) -> Shard:
    """Writes one TFRecord file, which gets its name when it is complete.

    Raises:
        UserErrors: `problems` is not empty after the examples.
    """
    record_bytes, image_hashes = [], []
    labelled: set[bool] = set()
    checksum = hashlib.sha256()
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", buffering=1 << 20) as file:
        for example in examples:
            record = records.frame(records.encode(example))
            file.write(record)
            checksum.update(record)
            record_bytes.append(len(record))
            image_hashes.append(image_hash(example.image))
            labelled.add(example.labels is not None)
    if problems:
        temporary.unlink()
        raise UserErrors(problems)
    os.replace(temporary, path)
    described = ShardFile(path.name, checksum.hexdigest(), tuple(record_bytes), tuple(image_hashes))
    return Shard(described, all_or_none(path.name, labelled))


def unchanged_shard(job: Job) -> Shard | None:
    """Returns the finished shard of an earlier call, or None where there is none that would come out the same."""
    try:
        fields = json.loads(note_path(job.path).read_text(encoding="utf-8"))
        if fields["fingerprint"] != job.fingerprint:
            return None
        if any(_state(Path(source)) != tuple(state) for source, state in fields["inputs"].items()):
            return None
        file = ShardFile.from_json(fields["file"])
        with open(job.path, "rb") as shard:
            if hashlib.file_digest(shard, "sha256").hexdigest() != file.sha256:
                return None
        return Shard(file, bool(fields["labelled"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no note, or half a note


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def note_path(shard: Path) -> Path:
    """Returns where the note of a shard is."""
    return shard.with_suffix(".json")


def all_or_none(name: str, labelled: set[bool]) -> bool:
    """Says whether examples have labels.

    Raises:
        ValueError: some do and some do not; `name` says which examples these are.
    """
    if len(labelled) > 1:
        raise ValueError(f"{name}: expected labels for all examples or for none.")
    return labelled == {True}


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns what the system says against writing into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: expected to write TFRecords there, cannot: {error.strerror or error}."
            " Check the path, its permissions and the free space."
        ) from None
