"""`.npz` files with arrays under the released networks' names."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

# Weights shrink by a tenth when compressed; a file that unpacks to far more was made to fill the memory.
_MOST_TIMES_LARGER = 20
_ALWAYS_ALLOWED = 1 << 20  # bytes


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array) of a `.npz` file; pickled objects are refused.

    Nothing is allocated before it is known that the file can hold it.

    Raises:
        ValueError, zipfile.BadZipFile, OSError, EOFError: damaged, or of another format.
    """
    try:
        _check_sizes(path)
        # Opened here: np.load leaves the file open if it is not a zip archive.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                yield name, arrays[name]
    # Of zipfile, zlib and the parser of array headers, where the file is damaged or encrypted.
    except (RuntimeError, zlib.error, tokenize.TokenError) as error:
        raise ValueError(str(error)) from error


def _check_sizes(path: str) -> None:
    """Refuses arrays that are larger than what is stored of them, and archives that unpack to far more than they are.

    NumPy allocates what an array's header declares before it reads the values.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        most = _MOST_TIMES_LARGER * os.path.getsize(path) + _ALWAYS_ALLOWED
        if unpacked > most:
            raise ValueError(f"it would unpack to {unpacked} bytes, more than {_MOST_TIMES_LARGER} times its size")
        for member in members:
            with archive.open(member) as file:
                declared = _declared_bytes(file)
                stored = member.file_size - file.tell()
            if declared != stored:
                raise ValueError(f"{member.filename} declares {declared} bytes of values and stores {stored}")


def _declared_bytes(file: IO[bytes]) -> int:
    """Reads the header of a `.npy` file; returns the size of the values that are to follow."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"it has an array in version {version} of NumPy's format; known are 1.0 and 2.0")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if min(shape, default=0) < 0:
        raise ValueError(f"it has an array of shape {shape}")
    return math.prod(shape) * dtype.itemsize
