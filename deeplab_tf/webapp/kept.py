"""The last images with their probabilities, so that the CRF's sliders need not run the network: bounded in bytes."""

from __future__ import annotations

import secrets
import threading
import time
from typing import NamedTuple

from deeplab_tf.webapp.served_model import Segmented


class _Entry(NamedTuple):
    segmented: Segmented
    num_bytes: int
    used: float


class Kept:
    """Segmented images under keys that cannot be guessed; the one that was not used for longest goes first."""

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        """Begins empty.

        Args:
            max_bytes: of all together. The newest is kept however large it is.
            max_seconds: since an image was last used.
        """
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}  # in the order of their last use

    def add(self, segmented: Segmented) -> str:
        """Keeps an image; returns its key."""
        arrays = (segmented.image, segmented.labels, segmented.probabilities)
        num_bytes = sum(array.nbytes for array in arrays if array is not None)
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._entries[key] = _Entry(segmented, num_bytes, time.monotonic())
            while len(self._entries) > 1 and self._num_bytes() > self._max_bytes:
                del self._entries[next(iter(self._entries))]
        return key

    def get(self, key: str) -> Segmented | None:
        """Returns an image, or None if it was dropped."""
        self.forget_old()
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            self._entries[key] = entry._replace(used=time.monotonic())
            return entry.segmented

    def forget_old(self) -> None:
        """Drops what was not used for a while."""
        before = time.monotonic() - self._max_seconds
        with self._lock:
            self._entries = {key: entry for key, entry in self._entries.items() if entry.used > before}

    @property
    def num_bytes(self) -> int:
        """How much is kept."""
        with self._lock:
            return self._num_bytes()

    def _num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self._entries.values())
