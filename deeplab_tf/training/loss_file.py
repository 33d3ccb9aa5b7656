"""WORKDIR/loss.csv: the loss and the learning rate of every update, for a spreadsheet or a plot."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

LOSS_FILE = "loss.csv"
_FIRST_COLUMNS = ("step", "learning_rate", "loss")


class Losses(NamedTuple):
    """What a loss.csv says.

    Attributes:
        steps: numbers of the updates, from 1.
        learning_rates: of each, before the multipliers of the layers.
        losses: of each, the sum of its terms.
    """

    steps: list[int]
    learning_rates: list[float]
    losses: list[float]


class LossFile:
    """Writes a line for each update: its step, learning rate and loss, and the terms of the loss where it has several.

    A resumed training continues the file: lines of updates that it does again are removed first, so that every update
    stands there once. The lines up to a checkpoint are on the disk before the checkpoint is (`flush`). Where the file
    cannot be written, that is said once, and the training goes on without it.

    Args:
        workdir: the folder.
        start: the last update of the processes before.
        names: of the terms of the loss.
    """

    def __init__(self, workdir: str, start: int, names: Sequence[str]) -> None:
        self._path = os.path.join(workdir, LOSS_FILE)
        self._file: TextIO | None = None
        self._several = len(names) > 1
        header = ",".join((*_FIRST_COLUMNS, *(names if self._several else ())))
        with self._trying():
            kept = [line for step, line in _lines(self._path, header) if step <= start]
            files.write_text(self._path, "".join(f"{line}\n" for line in (header, *kept)))
            self._file = open(self._path, "a", encoding="utf-8", buffering=1)

    def add(self, step: int, learning_rate: float, terms: Sequence[float]) -> None:
        """Writes the line of an update; float32 values are written so that they can be read back exactly."""
        if self._file:
            with self._trying():
                numbers = (learning_rate, sum(terms), *(terms if self._several else ()))
                self._file.write(",".join((str(step), *(f"{number:.9g}" for number in numbers))) + "\n")

    def flush(self) -> None:
        """Returns when all lines are on the disk."""
        if self._file:
            with self._trying():
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the file."""
        if self._file:
            with self._trying():
                self._file.close()
        self._file = None

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UserError) as error:
            self._file = None
            print(f"{self._path} is not written from here on: {files.reason(error)}", flush=True)


def read(workdir: str) -> Losses:
    """Reads a workdir's loss.csv; a last line that was not finished is left out.

    Raises:
        OSError: it cannot be read.
    """
    losses = Losses([], [], [])
    with open(os.path.join(workdir, LOSS_FILE), encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            try:
                step, rate, loss = int(row["step"]), float(row["learning_rate"]), float(row["loss"])
            except (KeyError, TypeError, ValueError):
                continue
            for column, value in zip(losses, (step, rate, loss), strict=True):
                column.append(value)  # type: ignore[attr-defined]
    return losses


def _lines(path: str, header: str) -> Iterator[tuple[int, str]]:
    """Yields (step, line) of each whole line of a file with this header; a file with another one is set aside."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return
    first, *lines = text.split("\n")
    if first != header and text:
        os.replace(path, f"{path}.other")
        print(f"{path} has other columns than this training writes, and is set aside as {LOSS_FILE}.other.")
        return
    for line in lines[:-1]:  # behind the last line break there is nothing, or a line that was not finished
        with contextlib.suppress(ValueError):
            yield int(line.partition(",")[0]), line
