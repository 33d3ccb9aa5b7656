"""HDF5 files, which may come from anywhere, and this project's own: `.weights.h5` of `keras.Model.save_weights`."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator

import h5py
import numpy as np

from deeplab_tf.networks.pretrained import Tensor
from deeplab_tf.weights.readers import hdf5_probe


@contextlib.contextmanager
def open_hdf5(path: str) -> Iterator[h5py.File]:
    """Opens a file that the HDF5 library can take; a context manager.

    Raises:
        OSError, ValueError: damaged, or of another format.
    """
    hdf5_probe.look_through(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (KeyError, RuntimeError, TypeError) as error:  # what h5py makes of damage, beside the two above
        raise ValueError(str(error)) from error


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """Reads an array, whose size the file cannot exaggerate.

    Raises:
        ValueError: not stored as Keras does, in one run of bytes in this file.
    """
    if not is_plain(dataset):
        raise ValueError(f"{dataset.name} is compressed, linked or external")
    return dataset[()]


def is_plain(dataset: h5py.Dataset) -> bool:
    """Says whether an array is one run of bytes in this file: then it cannot be larger than the file."""
    plan = dataset.id.get_create_plist()
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    return (
        plan.get_layout() == h5py.h5d.CONTIGUOUS
        and plan.get_external_count() == 0
        and dataset.id.get_storage_size() == size <= dataset.file.id.get_filesize()
    )


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
    with open_hdf5(path) as file:
        for h5_path, dataset in stored_arrays(file):
            match = re.fullmatch(r"(?:.*/)?([^/]+)/vars/(\d+)", h5_path)
            layer, index = (match[1], int(match[2])) if match else ("", 0)
            known = names.get(layer, [])
            yield Tensor(h5_path, known[index] if index < len(known) else h5_path, read_array(dataset))


def list_arrays(path: str) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Lists (path in the file, dtype, shape) of any HDF5 file, without reading the arrays."""
    with open_hdf5(path) as file:
        return [(name, dataset.dtype, dataset.shape) for name, dataset in stored_arrays(file)]


def kernel_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Returns "layer/kernel" and its shape for every convolution of a `.weights.h5` file."""
    matches = ((re.fullmatch(r"(?:.*/)?([^/]+)/vars/0", name), shape) for name, _, shape in list_arrays(path))
    return {f"{match[1]}/kernel": shape for match, shape in matches if match and len(shape) == 4}


def stored_arrays(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set of an HDF5 file, with its path."""
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return iter(found)
