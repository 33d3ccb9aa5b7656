"""Writes the shards of a data set: on all cores, one process a shard, and only those that are missing.

A conversion works in the hidden folder OUT/.converting. Each finished shard lies there beside a note of what it was
made from. When all shards of all splits are complete they move to OUT, and the manifest comes last: what is half
done is never taken for whole. A conversion that was killed, or that met a bad file, goes on from the finished shards
when the same command runs again; a shard whose raw files, flags or code have changed since is written anew.

The shards of a split hold consecutive blocks of its examples, so reading them one after the other gives the stored
order. The same examples give the same bytes, whatever the number of processes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import fcntl
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from datasets import records
from datasets.manifest import MANIFEST, ShardFile, SplitManifest, load_manifest, write_manifest
from datasets.source import Example
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError

STAGING = ".converting"
# Fewer images than this are converted sooner than more processes start.
_IMAGES_PER_PROCESS = 64


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


class _Job(NamedTuple):
    """One shard that is to be there: its path in the staging folder and what belongs into it."""

    path: Path
    ids: tuple[str, ...]
    load: Callable[[str], Example]
    fingerprint: str


class _Shard(NamedTuple):
    """One shard that is there."""

    file: ShardFile
    labelled: bool


class _StoppedError(Exception):
    """Another process has met an error: this one's work is not wanted any more."""


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
    with _writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        _lock(lock, folder)
        try:
            with _writing_to(folder):
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
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{folder}: expected to be the only conversion that writes there, another one is running."
            " Wait for it, or choose another --out."
        ) from None
    except OSError:
        pass  # some network file systems cannot lock a folder


def write_splits(plans: Sequence[SplitPlan], info: DatasetInfo, staging: Path, num_workers: int) -> list[SplitManifest]:
    """Writes splits and enters them in the manifest, all of them or none.

    A progress bar with the time left shows on a terminal. Memory holds one example for each process, and the ids.
    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        plans: the splits; existing ones of the same names are replaced, others stay.
        info: the classes.
        staging: what `open_folder` gave.
        num_workers: processes that read, check and write; 1 works in this process.

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
    queue = [job for of_split in jobs.values() for job in of_split]
    total = sum(len(job.ids) for job in queue)
    num_workers = max(1, min(num_workers, len(queue), total // _IMAGES_PER_PROCESS))
    with tqdm(desc="converting", total=total, unit="image", disable=None) as progress:
        run = _run_here if num_workers == 1 else _run_in_processes
        finished = run(queue, num_workers, progress)
    written = []
    for plan in plans:
        shards = [finished[job.path.name] for job in jobs[plan.name]]
        labelled = _all_or_none(plan.name, {shard.labelled for shard in shards})
        written.append(SplitManifest(plan.name, labelled, plan.ids, tuple(shard.file for shard in shards)))
    _move_in(written, info, staging)
    return written


def _jobs(plan: SplitPlan, staging: Path) -> list[_Job]:
    jobs = []
    for (start, stop), name in zip(
        _blocks(len(plan.ids), plan.num_shards), _names(plan.name, plan.num_shards), strict=True
    ):
        ids = plan.ids[start:stop]
        fingerprint = hashlib.sha256(json.dumps([plan.recipe, plan.name, ids]).encode()).hexdigest()
        jobs.append(_Job(staging / name, ids, plan.load, fingerprint))
    return jobs


def _blocks(count: int, num_shards: int) -> list[tuple[int, int]]:
    """Returns (first, last + 1) of the examples of each shard: blocks whose lengths differ by one at most."""
    return [(count * shard // num_shards, count * (shard + 1) // num_shards) for shard in range(num_shards)]


def _names(split: str, num_shards: int) -> list[str]:
    return [f"{split}-{shard:05d}-of-{num_shards:05d}.tfrecord" for shard in range(num_shards)]


def _run_here(queue: Sequence[_Job], num_workers: int, progress: tqdm) -> dict[str, _Shard]:
    del num_workers
    return {job.path.name: _make_shard(job, lambda _: None, progress.update) for job in queue}


def _run_in_processes(queue: Sequence[_Job], num_workers: int, progress: tqdm) -> dict[str, _Shard]:
    # Forked processes would inherit the locks of TensorFlow's threads, where a caller has imported it.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    for left in queue[0].path.parent.glob("*.now"):
        left.unlink()
    finished: dict[str, _Shard] = {}
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, _start_process, (done, stop)) as pool:
        try:
            waiting = [pool.submit(_make_shard_in_process, job) for job in queue]
            while waiting:
                ended = concurrent.futures.wait(waiting, 0.5, concurrent.futures.FIRST_COMPLETED).done
                progress.update(done.value - progress.n)
                for future in waiting:  # in the queue's order: of several errors the first is told
                    if future in ended:
                        shard = future.result()
                        finished[shard.file.name] = shard
                waiting = [future for future in waiting if future not in ended]
            progress.update(done.value - progress.n)
        except BrokenProcessPool:
            read = " or ".join(path.read_text(encoding="utf-8") for path in queue[0].path.parent.glob("*.now"))
            raise UserError(
                f"one of {num_workers} processes was killed, for lack of memory or by a damaged file, while it read"
                f" {read or 'nothing yet'}. Look at the file, or run the same command with fewer --workers: it goes on"
                " from here."
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return finished


class _Shared(NamedTuple):
    """What the processes of a pool share: how many images are done, and whether to stop."""

    done: Synchronized[int]
    stop: Event


_shared: _Shared


def _start_process(done: Synchronized[int], stop: Event) -> None:
    """Prepares a process of the pool."""
    global _shared
    _shared = _Shared(done, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed: nobody would collect its work, or end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_shard_in_process(job: _Job) -> _Shard:
    now = job.path.parent / f"{os.getpid()}.now"

    def begin(image_id: str) -> None:
        if _shared.stop.is_set():
            raise _StoppedError
        now.write_text(image_id, encoding="utf-8")  # a decoder that crashes cannot say on which file

    def count(examples: int) -> None:
        with _shared.done.get_lock():
            _shared.done.value += examples

    shard = _make_shard(job, begin, count)
    now.unlink(missing_ok=True)
    return shard


def _make_shard(job: _Job, begin: Callable[[str], Any], count: Callable[[int], Any]) -> _Shard:
    """Returns the shard of an earlier call where it still holds, else writes it.

    It calls `begin` with each image that it is going to read, and `count` with the number of images that are done.
    """
    shard = _unchanged_shard(job)
    if shard is not None:
        count(len(job.ids))
        return shard

    inputs: dict[str, tuple[int, int]] = {}

    def examples() -> Iterator[Example]:
        for image_id in job.ids:
            begin(image_id)
            example = job.load(image_id)
            for source in example.files:
                inputs[str(source)] = _state(source)
            yield example
            count(1)

    with _writing_to(job.path.parent.parent):
        note = _note_path(job.path)
        note.unlink(missing_ok=True)
        shard = _write_file(job.path, examples())
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


def _write_file(path: Path, examples: Iterable[Example]) -> _Shard:
    """Writes one TFRecord file, which gets its name when it is complete."""
    record_bytes = []
    labelled: set[bool] = set()
    checksum = hashlib.sha256()
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb", buffering=1 << 20) as file:
        for example in examples:
            record = records.frame(records.encode(example))
            file.write(record)
            checksum.update(record)
            record_bytes.append(len(record))
            labelled.add(example.labels is not None)
    os.replace(temporary, path)
    return _Shard(ShardFile(path.name, checksum.hexdigest(), tuple(record_bytes)), _all_or_none(path.name, labelled))


def _unchanged_shard(job: _Job) -> _Shard | None:
    """Returns the finished shard of an earlier call, or None where there is none that would come out the same."""
    try:
        fields = json.loads(_note_path(job.path).read_text(encoding="utf-8"))
        if fields["fingerprint"] != job.fingerprint:
            return None
        if any(_state(Path(source)) != tuple(state) for source, state in fields["inputs"].items()):
            return None
        file = ShardFile.from_json(fields["file"])
        with open(job.path, "rb") as shard:
            if hashlib.file_digest(shard, "sha256").hexdigest() != file.sha256:
                return None
        return _Shard(file, bool(fields["labelled"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no note, or half a note


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _note_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _all_or_none(name: str, labelled: set[bool]) -> bool:
    if len(labelled) > 1:
        raise ValueError(f"{name}: expected labels for all examples or for none.")
    return labelled == {True}


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
    with _writing_to(folder):
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


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turns what the system says against writing into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: expected to write TFRecords there, cannot: {error.strerror or error}."
            " Check the path, its permissions and the free space."
        ) from None
