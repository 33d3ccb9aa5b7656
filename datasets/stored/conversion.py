"""A conversion: from splits that are to be written to a folder that holds them, all of them or none.

It works in the hidden folder OUT/.converting, where finished shards wait. When all shards of all splits are complete
they move to OUT, and the manifest comes last: what is half done is never taken for whole. A conversion that was
killed, or that met a bad file, goes on from the finished shards when the same command runs again.

The shards of a split hold consecutive blocks of its examples, so reading them one after the other gives the stored
order. The same examples give the same bytes, whatever the number of processes.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

from ..source import Example
from .manifest import MANIFEST, SplitManifest, load_manifest, write_manifest
from .shards import Job, Shard, all_or_none, writing_to
from .workers import make_shards

STAGING = ".converting"


class SplitPlan(NamedTuple):
    """A split that is to be written.

    Attributes:
        name: letters, digits, "_", "-" and ".".
        ids: the images, each once, in the order to store them.
        num_shards: number of files, 1 to len(ids).
        load: gives the example of an id. It goes to other processes: a function of a module, or an object with
            `__call__`, but no lambda.
        recipe: says all that the examples depend on beside the ids and the raw files: flags, versions.
    """

    name: str
    ids: tuple[str, ...]
    num_shards: int
    load: Callable[[str], Example]
    recipe: str


@contextlib.contextmanager
def open_folder(out_dir: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes a folder, and the staging folder in it, for one conversion at a time.

    At the end the staging folder stays only if a shard is finished in it, and a new folder only if it holds something.

    Args:
        out_dir: created where missing.

    Yields:
        The staging folder.

    Raises:
        UserError: the folder cannot be made or written, or another conversion is writing to it.
    """
    folder = Path(out_dir)
    staging = folder / STAGING
    is_new = not folder.exists()
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        _lock(lock, folder)
        try:
            with writing_to(folder):
                staging.mkdir(exist_ok=True)
            yield staging
        finally:
            if not any(staging.glob("*.tfrecord")):
                shutil.rmtree(staging, ignore_errors=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()
    finally:
        os.close(lock)


def _lock(lock: int, folder: Path) -> None:
    """Locks an open folder until it is closed."""
    try:
        files.lock(lock)
    except BlockingIOError:
        raise UserError(
            f"{folder}: expected to be the only conversion that writes there, another one is running."
            " Wait for it, or choose another --out."
        ) from None


def write_splits(
    plans: Sequence[SplitPlan],
    info: DatasetInfo,
    staging: Path,
    num_workers: int,
    make: Callable[[Sequence[Job]], dict[str, Shard]] | None = None,
) -> list[SplitManifest]:
    """Writes splits and enters them in the manifest, all of them or none.

    Memory holds one example for each process, and the ids. See `workers.make_shards` for the processes.

    Args:
        plans: the splits; existing ones of the same names are replaced, others stay.
        info: the classes.
        staging: what `open_folder` gave.
        num_workers: processes that read, check and write; 1 works in this process.
        make: makes the shards instead, all of them in the staging folder, and returns them by their file names.

    Returns:
        What was entered in the manifest.

    Raises:
        UserError: the folder holds another list of classes or cannot be written, a split's name cannot be part of a
            file name, a process was killed, or `load` raises it.
        ValueError: only some examples of a split have labels.
    """
    folder = staging.parent
    _check_place(folder, info, [plan.name for plan in plans])
    jobs = {plan.name: _jobs(plan, staging) for plan in plans}
    make = make or functools.partial(make_shards, num_workers=num_workers)
    finished = make([job for of_split in jobs.values() for job in of_split])
    written = []
    for plan in plans:
        shards = [finished[job.path.name] for job in jobs[plan.name]]
        labelled = all_or_none(plan.name, {shard.labelled for shard in shards})
        written.append(SplitManifest(plan.name, labelled, plan.ids, tuple(shard.file for shard in shards)))
    _move_in(written, info, staging)
    return written


def _jobs(plan: SplitPlan, staging: Path) -> list[Job]:
    jobs = []
    for (start, stop), name in zip(
        _blocks(len(plan.ids), plan.num_shards), _names(plan.name, plan.num_shards), strict=True
    ):
        ids = plan.ids[start:stop]
        fingerprint = hashlib.sha256(json.dumps([plan.recipe, plan.name, ids]).encode()).hexdigest()
        jobs.append(Job(staging / name, ids, plan.load, fingerprint))
    return jobs


def _blocks(count: int, num_shards: int) -> list[tuple[int, int]]:
    """Returns (first, last + 1) of the examples of each shard: blocks whose lengths differ by one at most."""
    return [(count * shard // num_shards, count * (shard + 1) // num_shards) for shard in range(num_shards)]


def _names(split: str, num_shards: int) -> list[str]:
    return [f"{split}-{shard:05d}-of-{num_shards:05d}.tfrecord" for shard in range(num_shards)]


def _check_place(folder: Path, info: DatasetInfo, split_names: Sequence[str]) -> None:
    """Raises UserError where the splits cannot be entered in the folder's manifest."""
    for split in split_names:
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise UserError(
                f"expected a split name of letters, digits, '_', '-' and '.', got {split!r}. Rename the split."
            )
    twice = [split for split, times in collections.Counter(split_names).items() if times > 1]
    if twice:
        raise UserError(f"--splits: expected every split once, got {', '.join(twice)} twice. Remove one.")
    if not (folder / MANIFEST).is_file():
        return
    existing = load_manifest(folder).info
    if existing.class_names != info.class_names:
        raise UserError(
            f"{folder}: expected the classes of the splits there ({', '.join(existing.class_names)}), got"
            f" {', '.join(info.class_names)}. Choose another --out or the same classes."
        )


def _move_in(written: Sequence[SplitManifest], info: DatasetInfo, staging: Path) -> None:
    """Moves complete shards from the staging folder to the folder around it, and enters them in the manifest."""
    folder = staging.parent
    with writing_to(folder):
        splits = dict(load_manifest(folder).splits) if (folder / MANIFEST).is_file() else {}
        replaced = [split.name for split in written if splits.pop(split.name, None) is not None]
        if replaced:
            # A crash between the renames must not leave the old ids beside new shards.
            write_manifest(folder, info, splits)
        for split in written:
            for file in split.files:
                os.replace(staging / file.name, folder / file.name)
        splits.update({split.name: split for split in written})
        write_manifest(folder, info, splits)
        for split in written:
            kept = {file.name for file in split.files}
            shard_of_split = re.compile(rf"{re.escape(split.name)}-\d{{5}}-of-\d{{5}}\..*")
            for old in itertools.chain(folder.iterdir(), staging.iterdir()):
                if shard_of_split.fullmatch(old.name) and not (old.parent == folder and old.name in kept):
                    old.unlink()
