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

# What Keras saves of a compiled model beside its weights.
_OPTIMIZER = "optimizer/"


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
        path: a file of `save_weights`, or the one in a `.keras` file, whose groups have other names.
        variables: names of the model's variables, "layer/variable", in the model's order.

    Yields:
        The tensors.
    """
    names: dict[str, list[str]] = {}
    for name in variables:
        names.setdefault(name.split("/")[0], []).append(name)
    with open_hdf5(path) as file:
        for h5_path, dataset in stored_arrays(file):
            if h5_path.startswith(_OPTIMIZER):
                yield Tensor(h5_path, "", None, "the optimizer's state")
                continue
            layer, index = _place_of(h5_path, dataset)
            known = names.get(layer, [])
            yield Tensor(h5_path, known[index] if index < len(known) else h5_path, read_array(dataset))


def _place_of(h5_path: str, dataset: h5py.Dataset) -> tuple[str, int]:
    """Returns the layer of an array, as its group says or else its path, and its place there; ("", 0) for others."""
    match = re.fullmatch(r"(?:.*/)?([^/]+)/vars/(\d+)", h5_path)
    if match is None:
        return "", 0
    name = dataset.parent.attrs.get("name")
    return name if isinstance(name, str) else match[1], int(match[2])


def list_arrays(path: str) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Lists (path in the file, dtype, shape) of any HDF5 file, without reading the arrays."""
    with open_hdf5(path) as file:
        return [(name, dataset.dtype, dataset.shape) for name, dataset in stored_arrays(file)]


def kernel_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Returns "layer/kernel" and its shape for every convolution of a file that `read_own` reads."""
    shapes = {}
    with open_hdf5(path) as file:
        for h5_path, dataset in stored_arrays(file):
            layer, index = _place_of(h5_path, dataset)
            if layer and index == 0 and len(dataset.shape) == 4 and not h5_path.startswith(_OPTIMIZER):
                shapes[f"{layer}/kernel"] = dataset.shape
    return shapes


def stored_arrays(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set of an HDF5 file, with its path."""
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return iter(found)
