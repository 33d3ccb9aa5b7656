"""The weights that a training left."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def weights(workdir: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of WORKDIR/model.weights.h5 by their names in the file."""
    found = {}
    with h5py.File(workdir / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {}))
    return found
