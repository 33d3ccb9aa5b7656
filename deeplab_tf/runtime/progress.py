"""Telling how far a long list of images is: a bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import collections
import datetime
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

LINE_EVERY_SECONDS = 20.0

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], count: int | None, unit: str = "image") -> Iterator[Item]:
    """Passes items on, and shows how many images are done, images/s and the time left.

    The rate is that of the last 50 images: the first one also pays for building the graph.

    Args:
        items: one per image.
        count: how many there will be; None where nobody knows, then no time left is shown.
        unit: what they are called.

    Yields:
        The items.
    """
    if sys.stderr.isatty():
        yield from tqdm.tqdm(items, total=count, unit=unit, dynamic_ncols=True)
        return
    times = collections.deque([time.monotonic()], maxlen=51)
    line_at = times[0] + LINE_EVERY_SECONDS
    for number, item in enumerate(items, start=1):
        yield item
        times.append(time.monotonic())
        if times[-1] >= line_at and (count is None or number < count):
            line_at = times[-1] + LINE_EVERY_SECONDS
            per_second = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
            line = f"{unit} {number}" if count is None else f"{unit} {number}/{count}"
            line += f"  {per_second:.2f} {unit}s/s"
            if count is not None:
                line += f"  {datetime.timedelta(seconds=round((count - number) / per_second))} left"
            print(line, flush=True)
