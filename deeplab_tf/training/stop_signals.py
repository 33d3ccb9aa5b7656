"""Ctrl-C and SIGTERM while a step runs: noted now, acted upon where the training can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def collect() -> Iterator[list[signal.Signals]]:
    """Collects SIGINT and SIGTERM in the list it yields; a second one of a kind acts at once.

    Only the main thread of a process gets signals; in another one the list stays empty.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before: dict[int, Any] = {}

    def note(number: int, _: Any) -> None:
        received.append(signal.Signals(number))
        signal.signal(number, before[number])
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"\n{received[-1].name}: saving after this step; once more stops at once.\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
