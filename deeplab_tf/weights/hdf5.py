"""This project's own files, `.weights.h5` as `keras.Model.save_weights` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import h5py

from deeplab_tf.weights.report import Tensor


def read_own(path: str, variables: Iterable[str]) -> Iterator[Tensor]:
    """Reads .../LAYER/vars/INDEX, in the order of the layer's variables.

    Args:
        path: a `.weights.h5` file.
        variables: names of the model's variables, "layer/variable", in the model's order.

    Yields:
        The tensors.
    """
    names: dict[str, list[str]] = {}
    for name in variables:
        names.setdefault(name.split("/")[0], []).append(name)
    with h5py.File(path, "r") as file:
        for h5_path, dataset in stored_arrays(file):
            match = re.fullmatch(r"(?:.*/)?([^/]+)/vars/(\d+)", h5_path)
            layer, index = (match[1], int(match[2])) if match else ("", 0)
            known = names.get(layer, [])
            yield Tensor(h5_path, known[index] if index < len(known) else h5_path, dataset[()])


def stored_arrays(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set of an HDF5 file, with its path."""
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return iter(found)
