"""Telling how far a long list of images is: a bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import collections
import datetime
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tqdm

LINE_EVERY_SECONDS = 20.0

Item = TypeVar("Item")


def show_progress(
    items: Iterable[Item], count: int | None, unit: str = "image", images_of: Callable[[Item], int] | None = None
) -> Iterator[Item]:
    """Passes items on, and shows how many images are done, images/s and the time left.

    The rate is that of the last 50 items: the first one also pays for building the graph.

    Args:
        items: one per image; or see `images_of`.
        count: how many there will be; None where nobody knows, then no time left is shown.
        unit: what they are called.
        images_of: of how many images an item tells. Until the second item nobody knows the time left, where it is not
            one each: the first of them came after a start of unknown length.

    Yields:
        The items.
    """
    if sys.stderr.isatty():
        with tqdm.tqdm(total=count, unit=unit, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                bar.update(images_of(item) if images_of else 1)
        return
    number = 0
    points = collections.deque([(number, time.monotonic())], maxlen=51)
    line_at = points[0][1] + LINE_EVERY_SECONDS
    for item in items:
        yield item
        number += images_of(item) if images_of else 1
        now = time.monotonic()
        if images_of and points[0][0] == 0:
            points.clear()
        points.append((number, now))
        if now >= line_at and (count is None or number < count):
            line_at = now + LINE_EVERY_SECONDS
            line = f"{unit} {number}" if count is None else f"{unit} {number}/{count}"
            (first, begin), (last, end) = points[0], points[-1]
            if last > first:
                per_second = (last - first) / max(end - begin, 1e-9)
                line += f"  {per_second:.2f} {unit}s/s"
                if count is not None:
                    line += f"  {datetime.timedelta(seconds=round((count - number) / per_second))} left"
            print(line, flush=True)
