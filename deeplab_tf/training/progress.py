"""Telling how the training goes: a bar in a terminal, plain lines in a log file, TensorBoard for both."""

from __future__ import annotations

import contextlib
import datetime
import math
import sys
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tqdm

from deeplab_tf.runtime import files

LINE_EVERY_SECONDS = 20.0
_RECENT = 50  # updates that the speed, and the loss beside a bar, are the means of


class Progress:
    """Shows loss, images/s and the time left.

    Args:
        start: step at which this process begins.
        iterations: step at which the run ends.
        images_per_step: batch_size * iter_size.
        silent: show nothing.
    """

    def __init__(self, start: int, iterations: int, images_per_step: int, silent: bool = False) -> None:
        self._iterations = iterations
        self._images_per_step = images_per_step
        self._times: deque[tuple[int, float]] = deque([(start, time.monotonic())], maxlen=_RECENT)
        self._line_at = time.monotonic()
        self._silent = silent
        self._first = True
        self._losses: list[float] = []  # since the last line
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._bar = (
            tqdm.tqdm(total=iterations, initial=start, unit="step", dynamic_ncols=True)
            if sys.stderr.isatty() and not silent
            else None
        )

    def update(self, step: int, loss: float, learning_rate: float, started: float) -> None:
        """Counts `step` as done.

        A line of a log file has the mean loss of all updates since the line before, a bar that of the last ones.

        Args:
            step: its number.
            loss: its loss.
            learning_rate: its learning rate.
            started: when it was started, in seconds of `time.monotonic`; several may be told of at once.
        """
        now = time.monotonic()
        if self._first:  # it also prepared, which says nothing about those to come
            self._first = False
            self._times.clear()
        self._times.append((step, started))
        if self._bar is not None:
            self._recent.append(loss)
            mean = math.fsum(self._recent) / len(self._recent)
            self._bar.set_postfix_str(f"loss {mean:.3f}, {self.images_per_second:.2f} images/s", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        self._losses.append(loss)
        if now >= self._line_at or step == self._iterations:
            self._line_at = now + LINE_EVERY_SECONDS
            mean, self._losses = math.fsum(self._losses) / len(self._losses), []
            self.say(
                f"step {step}/{self._iterations}  loss {mean:.4f}  lr {learning_rate:.3g}"
                + (
                    f"  {self.images_per_second:.2f} images/s  {self._time_left(step)} left"
                    if len(self._times) > 1
                    else ""
                )
            )

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(line)
        elif not self._silent:
            print(line, flush=True)

    @property
    def images_per_second(self) -> float:
        """Over the last steps; 0 before there are two."""
        (first, begin), (last, end) = self._times[0], self._times[-1]
        return (last - first) * self._images_per_step / max(end - begin, 1e-9)

    def _time_left(self, step: int) -> datetime.timedelta:
        rate = self.images_per_second / self._images_per_step
        return datetime.timedelta(seconds=round((self._iterations - step) / max(rate, 1e-9)))

    def close(self) -> None:
        """Leaves the bar on the screen as it is."""
        if self._bar is not None:
            self._bar.close()


class Summaries:
    """TensorBoard entries: scalars and pictures.

    Where they cannot be written, that is said once, and the training goes on without them.
    """

    def __init__(self, workdir: str) -> None:
        self._writer: tf.summary.SummaryWriter | None = None
        with self._trying():
            self._writer = tf.summary.create_file_writer(workdir)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes numbers under their names."""
        if self._writer:
            with self._trying(), self._writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a uint8 [H, W, 3] picture."""
        if self._writer:
            with self._trying(), self._writer.as_default(step=step):
                tf.summary.image(name, picture[np.newaxis])

    def close(self) -> None:
        """Flushes to disk."""
        if self._writer:
            with self._trying():
                self._writer.close()

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            self._writer = None
            print(f"no TensorBoard entries from here on: {files.reason(error)}", flush=True)
