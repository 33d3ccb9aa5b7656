"""`.npz` files with arrays under the released networks' names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def read(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array) of a `.npz` file; pickled objects are refused.

    Raises:
        ValueError, zipfile.BadZipFile, OSError, EOFError: damaged, or of another format.
    """
    # Opened here: np.load leaves the file open where it is no zip archive.
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                yield name, arrays[name]
    except NotImplementedError as error:  # zipfile's, of a damaged directory
        raise ValueError(str(error)) from error
