"""An exported network under load: eight threads, good, bad and huge requests mixed.

    python -m tests.load [--seconds=600] [--seed=0] [--threads=8]

It exports `models/voc_animals`, asks the SavedModel at once from all threads, and compares each answer with the one
that it gave alone. Bad requests have to fail, and only they. The memory after each tenth of the time is printed: it
must not grow. docs/reliability.json adds up the requests.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import ledger
from tests.processes import resident_bytes

MODEL = Path(__file__).resolve().parents[1] / "models" / "voc_animals"
SIZES = ((65, 65), (120, 90), (33, 200), (1, 1), (257, 193))
HUGE = (1400, 1800)
# How many of a hundred requests are of each kind.
SHARES = {"pixels": 40, "jpeg": 20, "png": 20, "damaged": 10, "no image": 4, "wrong type": 3, "no pixels": 1, "huge": 2}
TENTHS = 10
MOST_GROWTH_BYTES = 100e6


def encode(image: np.ndarray, kind: str) -> bytes:
    """Returns a JPEG or a PNG."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, kind)
    return encoded.getvalue()


class Requests:
    """Requests with their right answers; None where they have to fail.

    Args:
        signatures: of the SavedModel.
    """

    def __init__(self, signatures: Any) -> None:
        import tensorflow as tf

        self._tf = tf
        self._signatures = signatures
        rng = np.random.default_rng(0)
        sizes = (*SIZES, HUGE)
        images = {size: rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes}
        self._asked: dict[str, list[tuple[Callable[[], Any], Any]]] = collections.defaultdict(list)
        for size, image in images.items():
            kind = "huge" if size == HUGE else "pixels"
            self._add(kind, lambda image=image: self._labels(image))
            if size != HUGE:
                for form in ("jpeg", "png"):
                    data = encode(image, form)
                    self._add(form, lambda data=data: self._encoded(data))
                    self._add("damaged", lambda data=data: self._encoded(data[: len(data) // 2]), fails=size != (1, 1))
        self._add("no image", lambda: self._encoded(b"GIF89a"), fails=True)
        self._add("wrong type", lambda: self._labels(images[SIZES[0]].astype(np.float32)), fails=True)
        self._add("no pixels", lambda: self._labels(np.zeros((0, 5, 3), np.uint8)), fails=True)

    def _add(self, kind: str, ask: Callable[[], Any], fails: bool = False) -> None:
        try:
            answer = ask()
        except self.errors:
            answer = None
        if not fails and answer is None:
            print(f"note: a request of the kind {kind!r} fails alone, too")
        self._asked[kind].append((ask, answer))

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a request that cannot be answered raises in Python."""
        return (self._tf.errors.InvalidArgumentError, TypeError, ValueError)

    def _labels(self, image: np.ndarray) -> bytes:
        images = self._tf.constant(image[np.newaxis])
        return self._signatures["serving_default"](images=images)["labels"].numpy().tobytes()

    def _encoded(self, data: bytes) -> bytes:
        return self._signatures["encoded"](images=self._tf.constant([data]))["labels_png"].numpy()[0]

    def ask(self, kind: str, dice: random.Random) -> bool:
        """Sends a request; says whether the answer is the one that it got alone."""
        ask, wanted = dice.choice(self._asked[kind])
        try:
            return ask() == wanted and wanted is not None
        except self.errors:
            return wanted is None


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=8)
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from deeplab_tf import workdir
    from deeplab_tf.export.saved_model import export_saved_model

    with tempfile.TemporaryDirectory() as folder:
        path = export_saved_model(*workdir.load(str(MODEL)), folder)
        loaded = tf.saved_model.load(path)
        requests = Requests(loaded.signatures)
        counts: collections.Counter[str] = collections.Counter()
        wrong: collections.Counter[str] = collections.Counter()

        def work(number: int, tenth: int, until: float) -> list[tuple[str, bool]]:
            dice, done = random.Random(f"{flags.seed} {number} {tenth}"), []
            while time.monotonic() < until:
                kind = dice.choices(list(SHARES), list(SHARES.values()))[0]
                done.append((kind, requests.ask(kind, dice)))
            return done

        memory = []
        with concurrent.futures.ThreadPoolExecutor(flags.threads) as threads:
            for tenth in range(TENTHS):
                until = time.monotonic() + flags.seconds / TENTHS
                for done in threads.map(functools.partial(work, tenth=tenth, until=until), range(flags.threads)):
                    counts.update(kind for kind, _ in done)
                    wrong.update(kind for kind, right in done if not right)
                memory.append(resident_bytes())
                print(f"{sum(counts.values())} requests, {memory[-1] / 1e6:.0f} MB", flush=True)
    # The largest requests come by chance, and what they took is kept: the first third is for that.
    growth = memory[-1] - max(memory[: TENTHS // 3])
    print(f"wrong: {dict(wrong) or 'none'} of {dict(counts)}; memory grew by {growth / 1e6:.0f} MB")
    failed = sum(wrong.values()) + (growth > MOST_GROWTH_BYTES)
    ledger.add("load", "saved_model", requests=sum(counts.values()), findings=failed, seconds=flags.seconds)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
