"""A file as memory: arrays are views of it, so that a weights file is never copied as a whole."""

from __future__ import annotations

import mmap

import numpy as np
import tensorflow as tf

# NumPy has no bfloat16; TensorFlow brings one.
BFLOAT16 = np.dtype(tf.bfloat16.as_numpy_dtype)


def map_file(path: str) -> memoryview:
    """Returns the bytes of a file, read-only; they stay valid as long as anything refers to them.

    The file may be deleted or replaced meanwhile, but not cut: the operating system ends a process that reads
    mapped bytes which are gone.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty.
    """
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
