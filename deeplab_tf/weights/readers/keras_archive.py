"""Keras' `.keras` archives: a zip with the weights as `model.weights.h5`, beside a description of the model.

Only the weights are read. The description can name any class and function, and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator

WEIGHTS = "model.weights.h5"
"""The member that holds the weights."""

# Floating-point numbers hardly compress: what unpacks to far more than its archive is not a network.
_MOST_TIMES = 20


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[str]:
    """Gives the path of a temporary copy of an archive's weights.

    Args:
        path: a file of `keras.Model.save`.

    Raises:
        ValueError: it unpacks to far more than it takes.
        zipfile.BadZipFile, OSError: damaged, or the temporary folder is full.
    """
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="keras-") as folder:
        size = archive.getinfo(WEIGHTS).file_size
        if size > _MOST_TIMES * os.path.getsize(path):
            raise ValueError(f"{WEIGHTS} unpacks to {size} bytes")
        copy = os.path.join(folder, WEIGHTS)
        with archive.open(WEIGHTS) as packed, open(copy, "wb") as file:
            shutil.copyfileobj(packed, file)
        yield copy
