"""A batch prediction from its beginning to its end: plan, run, collect."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from apache_beam.io.filesystems import FileSystems

from deeplab_tf.batch import storage
from deeplab_tf.batch.manifest import Entry, merge, read_lines
from deeplab_tf.batch.pipeline import NOTES, Request, build
from deeplab_tf.batch.plan import Block, check_names, find_missing, is_record_file, make_blocks, root_of, shard_number
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import SUFFIXES
from deeplab_tf.runtime import beam, files

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from deeplab_tf.export.description import Description

MANIFEST = "manifest.jsonl"
FAILURES = "failures.jsonl"
SETTINGS = "settings.json"

# How often to count the notes; each time a cloud lists all of them, and charges for it.
_POLL_SECONDS = 2.0
_POLL_SECONDS_ELSEWHERE = 30.0


class Inputs(NamedTuple):
    """What is to be segmented.

    Attributes:
        paths: image files, or TFRecord files of images; sorted.
        root: names of labels are relative to this folder.
    """

    paths: list[str]
    root: str


class Outcome(NamedTuple):
    """What a run did.

    Attributes:
        entries: of all images that OUT knows, those of earlier runs too.
        counters: the sums of the counters of this run; {} where there was nothing to do.
    """

    entries: list[Entry]
    counters: dict[str, int]


def find_inputs(images: str, out: str) -> Inputs:
    """Lists the files that --images means.

    Args:
        images: a pattern, a folder (its image files at any depth, hidden ones left out), or a file.
        out: OUT, as `absolute` gave it.

    Raises:
        UserError: there are none, images are mixed with TFRecord files, or they lie in OUT.
    """
    if _has_wildcard(out):
        raise UserError(f"--out={out}: expected a folder without *, ? and [ in its path; name another.")
    pattern = absolute(images)
    if not _has_wildcard(pattern) and _is_folder(pattern):
        root = pattern.rstrip("/") + "/"
        pattern = f"{root}**"
        paths = [path for path in storage.list_files(pattern) if _is_taken(path.removeprefix(root))]
    else:
        root = root_of(pattern)
        paths = storage.list_files(pattern)
    if not paths:
        raise UserError(
            f"--images={images}: found no image. Name a folder, a file, or a pattern such as 'photos/**.jpg'."
        )
    if _would_match(pattern, out):
        raise UserError(f"--out={out} is among the images, so its results would be read as images; name another.")
    if len({is_record_file(path) for path in paths}) > 1:
        raise UserError(f"--images={images} matches images and TFRecord files; give a pattern for one of them.")
    return Inputs(paths, root)


def absolute(path: str) -> str:
    """Makes the path of a folder of this machine absolute, because other processes may work elsewhere."""
    return os.path.abspath(path) if storage.is_local(path) else path.rstrip("/")


def run_job(
    inputs: Inputs, request: Request, description: Description, options: PipelineOptions, images_per_block: int
) -> Outcome:
    """Does what is missing.

    Args:
        inputs: what is to be segmented.
        request: what is done with each image.
        description: what the model says of itself.
        options: Beam's.
        images_per_block: how many images are written, and noted as done, in one piece.

    Raises:
        UserError: another job writes to OUT, it was begun with something else, two answers would have one name, or a
            file cannot be written.
    """
    with storage.only_job(request.out):
        return _run_alone(inputs, request, description, options, images_per_block)


def _run_alone(
    inputs: Inputs, request: Request, description: Description, options: PipelineOptions, images_per_block: int
) -> Outcome:
    out = request.out
    _check_settings(request, description)
    # A job whose first process was killed may still run on a cluster: without its plan it stops.
    storage.delete(storage.list_files(storage.join(out, f"{storage.WORK}/plan*")))
    storage.delete_folder(storage.join(out, storage.WRITING))
    entries, taken = _what_is_done(out)
    missing = find_missing(inputs.paths, entries)
    check_names([*missing.new, *missing.failed], inputs.root, entries, request.as_records)
    blocks = make_blocks(missing, images_per_block, taken)
    counters: dict[str, int] = {}
    if blocks:
        plan = f"{storage.WORK}/plan-{uuid.uuid4().hex}.jsonl"
        storage.write_all(out, {plan: "".join(block.to_line() for block in blocks).encode()})
        with _progress(out, blocks):
            counters = beam.run(lambda pipeline: build(pipeline, storage.join(out, plan), request), options)
    return Outcome(_collect(request), counters)


def _what_is_done(out: str) -> tuple[list[Entry], set[int]]:
    """Reads the manifest and the notes: one entry an image, and the numbers that blocks have.

    Inputs whose labels somebody has deleted are left out.
    """
    entries: list[Entry] = []
    manifest = storage.join(out, MANIFEST)
    if storage.exists(manifest):
        entries = read_lines(storage.read(manifest).decode(), manifest)
    taken = {number for entry in entries if (number := shard_number(entry.output)) is not None}
    notes = storage.list_files(storage.join(out, f"{NOTES}/*"))
    for note, text in zip(notes, storage.read_all(notes), strict=True):
        if isinstance(text, UserError):
            raise text
        entries += read_lines(text.decode(), note)
        taken.add(int(os.path.basename(note).split(".")[0]))
    entries = merge(entries)
    there = set(storage.list_files(storage.join(out, "**")))
    lost = {entry.input for entry in entries if entry.output and storage.join(out, entry.output) not in there}
    return [entry for entry in entries if entry.input not in lost], taken


def _collect(request: Request) -> list[Entry]:
    """Makes the manifest of the notes, and removes what only a run needs."""
    out = request.out
    entries, _ = _what_is_done(out)
    failures = [entry for entry in entries if entry.reason]
    storage.write_all(
        out,
        {
            MANIFEST: "".join(entry.to_line() for entry in entries).encode(),
            FAILURES: "".join(entry.to_line() for entry in failures).encode(),
        },
    )
    if request.as_records:
        # Of a run that was killed between a shard and its note, with other images than this one.
        known = {storage.join(out, entry.output) for entry in entries}
        shards = [path for path in storage.list_files(storage.join(out, "labels-*")) if shard_number(path) is not None]
        storage.delete([path for path in shards if path not in known])
    storage.delete_folder(storage.join(out, storage.WORK))
    return entries


def _check_settings(request: Request, description: Description) -> None:
    """Writes OUT/settings.json, or compares with it.

    Raises:
        UserError: OUT was begun with another model, other constants or another format.
    """
    path = storage.join(request.out, SETTINGS)
    asked: dict[str, Any] = {
        "model_sha256": _digest(request.model),
        "crf": None if request.crf is None else dataclasses.asdict(request.crf),
        "format": "tfrecord" if request.as_records else "png",
    }
    if not storage.exists(path):
        info = description.config.info
        content = {**asked, "class_names": info.class_names, "palette": info.palette}
        storage.write_all(request.out, {SETTINGS: (json.dumps(content, indent=2) + "\n").encode()})
        return
    try:
        begun = files.parse_json(storage.read(path).decode())
        other = [name for name, value in asked.items() if begun[name] != value]
    except (ValueError, KeyError, TypeError):
        other = [SETTINGS]
    if other:
        raise UserError(
            f"--out={request.out} was begun with another {', '.join(other)}: old and new results would be mixed. Name"
            " another --out."
        )


def _digest(model: str) -> str:
    """Returns the SHA-256 of a folder's files and their names."""
    digest = hashlib.sha256()
    paths = storage.list_files(storage.join(model, "**"))
    for path, data in zip(paths, storage.read_all(paths), strict=True):
        if isinstance(data, UserError):
            raise data
        digest.update(f"{path.removeprefix(model)}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _progress(out: str, blocks: Sequence[Block]) -> contextlib.AbstractContextManager[None]:
    """Shows how many images are done: those of the blocks whose notes are there."""
    return beam.show_finished(
        {block.note: len(block.inputs) for block in blocks},
        lambda: map(os.path.basename, storage.list_files(storage.join(out, f"{NOTES}/*"))),
        unit="file" if is_record_file(blocks[0].inputs[0]) else "image",
        poll_seconds=_POLL_SECONDS if storage.is_local(out) else _POLL_SECONDS_ELSEWHERE,
    )


def _would_match(pattern: str, out: str) -> bool:
    """Says whether answers in a folder would be among the files of a pattern."""
    matches = re.compile(FileSystems.get_filesystem(pattern).translate_pattern(pattern)).match
    return any(matches(storage.join(out, name)) for name in ("a.png", "a/a.png", "labels-000000.tfrecord"))


def _has_wildcard(path: str) -> bool:
    return re.search(r"[*?\[]", path) is not None


def _is_folder(path: str) -> bool:
    # Where there are only names with slashes, a folder is what is not a file.
    return os.path.isdir(path) if storage.is_local(path) else not storage.exists(path)


def _is_taken(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and (os.path.splitext(name)[1].lower() in SUFFIXES or is_record_file(name))
