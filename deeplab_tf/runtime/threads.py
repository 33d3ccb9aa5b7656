"""Work done in threads, ahead of its use: in order, and a bounded number of items at a time."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import math
import os
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 1,
    ahead: int = 2,
    cost: Callable[[Item], float] = lambda _: 0,
    budget: float = math.inf,
) -> Generator[Result, None, None]:
    """Calls a function for each item in other threads, while the caller uses the results before.

    The items are taken in the calling thread. Stopping early leaves nothing running.

    Args:
        function: from an item to its result.
        items: any number of them; they are taken one by one, as results are needed.
        workers: threads, >= 1.
        ahead: how many results, finished or not, wait while the caller uses one, >= 0.
        cost: what an item takes from when it is given to a thread until its result is yielded, such as bytes.
        budget: how much all of those may take together. An item that takes more runs alone.

    Yields:
        The results in the order of the items. What the function raises is raised in the place of its result.
    """
    waiting: collections.deque[tuple[concurrent.futures.Future[Result], float]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        for item in items:
            more = cost(item)
            while waiting and more + sum(taken for _, taken in waiting) > budget:
                yield waiting.popleft()[0].result()
            waiting.append((pool.submit(function, item), more))
            del item  # so that only its result is kept
            if len(waiting) > ahead:
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        concurrent.futures.wait([future for future, _ in waiting if not future.cancel()])
        # The threads are idle and end by themselves. They are not joined: the garbage collector may close a forgotten
        # generator in a thread that is just starting and holds a lock that joining needs.
        pool.shutdown(wait=False)


def read_ahead(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Takes items in another thread, while the caller uses those before.

    Args:
        items: what to take; one thread does it, one item after the other.
        ahead: how many items wait while the caller uses one, >= 0.

    Yields:
        The items. What taking one raises is raised in its place.
    """
    iterator, end = iter(items), object()
    for item in map_in_order(lambda _: next(iterator, end), itertools.repeat(None), ahead=ahead):
        if item is end:
            return
        yield item  # type: ignore[misc]
