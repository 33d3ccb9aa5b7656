"""Makes shards on all cores, one process a shard."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from deeplab_tf.errors import UserError, UserErrors

from ..messages import some
from .shards import Job, Shard, make_shard, writing_to

# Fewer images than this are converted sooner than more processes start.
_IMAGES_PER_PROCESS = 64


class _StoppedError(Exception):
    """Another process has met an error: this one's work is not wanted any more."""


def make_shards(jobs: Sequence[Job], num_workers: int) -> dict[str, Shard]:
    """Makes shards, and shows a progress bar with the time left on a terminal.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        jobs: the shards, all in one folder.
        num_workers: processes, at most; 1 works in this process.

    Returns:
        The shards by their file names.

    Raises:
        UserErrors: the `load` of jobs raises UserError; all images for which it does are named.
        UserError: the folder cannot be written, or a process was killed.
        ValueError: only some examples of a shard have labels.
    """
    total = sum(len(job.ids) for job in jobs)
    num_workers = min(num_workers, len(jobs), total // _IMAGES_PER_PROCESS)
    finished: dict[str, Shard] = {}
    with tqdm(desc="converting", total=total, unit="image", disable=None) as progress:
        if num_workers > 1:
            return _make_in_processes(jobs, num_workers, progress)
        problems: list[str] = []
        for job in jobs:
            try:
                shard = make_shard(job, lambda _: None, progress.update)
                finished[shard.file.name] = shard
            except UserErrors as error:
                problems += error.problems
        if problems:
            raise UserErrors(problems)
        return finished


def _make_in_processes(jobs: Sequence[Job], num_workers: int, progress: tqdm) -> dict[str, Shard]:
    # Forked processes would inherit the locks of TensorFlow's threads, where a caller has imported it.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    with writing_to(jobs[0].path.parent.parent):
        for left in jobs[0].path.parent.glob("*.now"):
            left.unlink()
    finished: dict[str, Shard] = {}
    problems: dict[int, tuple[str, ...]] = {}
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, _start_process, (done, stop)) as pool:
        try:
            waiting = [pool.submit(_make_in_process, job) for job in jobs]
            places = {future: place for place, future in enumerate(waiting)}
            while waiting:
                ended = concurrent.futures.wait(waiting, 0.5, concurrent.futures.FIRST_COMPLETED).done
                progress.update(done.value - progress.n)
                for future in waiting:  # in the order of the jobs: of several errors the first is told
                    if future in ended:
                        try:
                            shard = future.result()
                            finished[shard.file.name] = shard
                        except UserErrors as error:  # the other shards may have more of them
                            problems[places[future]] = error.problems
                waiting = [future for future in waiting if future not in ended]
            progress.update(done.value - progress.n)
        except BrokenProcessPool:
            read = [_image_in(path) for path in sorted(jobs[0].path.parent.glob("*.now"))]
            raise UserError(
                f"one of {num_workers} processes was killed, for lack of memory or by a damaged file, while they read"
                f" {some(read) or 'nothing yet'}. Look at the file, or run the same command with fewer"
                " --workers: it continues from here."
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    if problems:
        raise UserErrors([problem for place in sorted(problems) for problem in problems[place]])
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


def _make_in_process(job: Job) -> Shard:
    # A decoder that crashes cannot say on which image: its id is written here first.
    now = job.path.parent / f"{os.getpid()}.now"
    with writing_to(now.parent.parent), open(now, "wb", buffering=0) as note:

        def begin(image_id: str) -> None:
            if _shared.stop.is_set():
                raise _StoppedError
            note.seek(0)
            note.write(f"{image_id}\n".encode())

        def count(examples: int) -> None:
            with _shared.done.get_lock():
                _shared.done.value += examples

        shard = make_shard(job, begin, count)
        now.unlink(missing_ok=True)
    return shard


def _image_in(note: Path) -> str:
    """Returns the image that a process was reading; what follows in its note is left of longer ids."""
    return note.read_bytes().partition(b"\n")[0].decode()
