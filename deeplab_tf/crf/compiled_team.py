"""Threads that share the work on one image: as many calls at the same time as there are threads."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Sequence
from types import TracebackType


class Team:
    """Runs calls that hold no lock and depend on none of each other. One thread is the caller's own."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = concurrent.futures.ThreadPoolExecutor(threads - 1, "crf") if threads > 1 else None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, calls: Sequence[Callable[[], object]]) -> None:
        """Runs calls, any number of them: all are finished when it returns, and what one raises is raised."""
        if self._pool is None or len(calls) <= 1:
            for call in calls:
                call()
            return
        waiting = collections.deque(calls)

        def work() -> None:
            while True:
                try:
                    call = waiting.popleft()  # needs no lock
                except IndexError:
                    return
                call()

        futures = [self._pool.submit(work) for _ in range(min(self.threads, len(calls)) - 1)]
        try:
            work()
        finally:
            concurrent.futures.wait(futures)
        for future in futures:
            future.result()

    def split(self, count: int, smallest: int = 1) -> list[tuple[int, int]]:
        """Cuts 0..count into a range for each thread, or fewer of at least `smallest`."""
        parts = max(1, min(self.threads, count // smallest))
        bounds = [count * part // parts for part in range(parts + 1)]
        return list(itertools.pairwise(bounds))
