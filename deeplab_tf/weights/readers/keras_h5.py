"""Keras' older HDF5 layout, `.h5`: one group per layer, whose attribute weight_names lists its arrays in order.

A file may come from anywhere, so nothing in it is taken at its word: links, external and virtual storage and
filters are refused, and an array is only read once its shape is the expected one and its bytes are in the file.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from deeplab_tf.errors import UserError, in_short
from deeplab_tf.weights.readers import hdf5, hdf5_probe

# What h5py raises on damaged files: TypeError is a number format that NumPy does not have.
_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError)


class KerasFile:
    """The layers of a file, open for reading; a context manager.

    Args:
        path: a file of `save_weights`, or a whole model's, from Keras 1 or 2 or the older form of Keras 3.

    Raises:
        UserError: damaged, or of another format.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with self._refusing_damage():
            hdf5_probe.look_through(path)
            self._file = h5py.File(path, "r")
            try:
                self._datasets = _datasets_by_layer(self._file)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> KerasFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def layers(self) -> list[str]:
        """Names of the layers that have weights, in the file's order."""
        return list(self._datasets)

    def weight_names(self, layer: str) -> list[str]:
        """The arrays of a layer, in Keras' order, as "layer/array", for messages."""
        return [f"{layer}/{name}" for name, _ in self._datasets[layer]]

    def shape(self, layer: str, index: int) -> tuple[int, ...]:
        """The declared shape of one of a layer's arrays, () where there is none."""
        with self._refusing_damage():
            arrays = self._datasets[layer]
            return tuple(arrays[index][1].shape) if index < len(arrays) else ()

    def check(self, layer: str, shapes: Sequence[tuple[int, ...]]) -> None:
        """Checks that a layer has arrays of these shapes, in this order, and that they can be read safely.

        Raises:
            UserError: another number of arrays, another shape, no floating-point numbers, or not stored plainly.
        """
        arrays = self._datasets[layer]
        if len(arrays) != len(shapes):
            raise UserError(
                f"{self.path}: layer {layer} has {len(arrays)} arrays, expected {len(shapes)}; "
                "is it another network's file?"
            )
        for (name, dataset), shape in zip(arrays, shapes, strict=True):
            with self._refusing_damage():
                found, dtype, plain = tuple(dataset.shape), dataset.dtype, hdf5.is_plain(dataset)
            if found != tuple(shape):
                raise UserError(
                    f"{self.path}: {layer}/{name} has shape {found}, the network's has {tuple(shape)}; "
                    "is it another network's file?"
                )
            if dtype.kind != "f" or not plain:
                raise UserError(
                    f"{self.path}: {layer}/{name} is not stored as a plain array of floating-point numbers, as Keras "
                    "writes it (compressed, linked or external data are not read)."
                )

    def read(self, layer: str, index: int, rows: slice = slice(None)) -> np.ndarray:
        """Reads one of a layer's arrays, or some of its first axis, as float32; `check` comes first.

        Raises:
            UserError: the file is damaged.
        """
        with self._refusing_damage():
            return self._datasets[layer][index][1][rows].astype(np.float32, copy=False)

    @contextlib.contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise UserError(
                f"cannot read the weights file {self.path}; it is damaged or of another format ({in_short(error)})."
            ) from error


def _datasets_by_layer(file: h5py.File) -> dict[str, list[tuple[str, h5py.Dataset]]]:
    """(name, data set) of every layer that has any."""
    # A whole model keeps its layers one group deeper.
    root = file if _has_names(file, "layer_names") else _member(file, "model_weights", h5py.Group)
    found = {}
    for layer in _names(root, "layer_names"):
        group = _member(root, layer, h5py.Group)
        names = _names(group, "weight_names")
        if names:
            found[layer] = [(name, _member(group, name, h5py.Dataset)) for name in names]
    return found


def _has_names(item: h5py.Group, attribute: str) -> bool:
    return attribute in item.attrs or f"{attribute}0" in item.attrs


def _names(item: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras splits one of more than 64 KiB over attributes that end 0, 1, ..."""
    if not _has_names(item, attribute):
        raise KeyError(f"{item.name} has no attribute {attribute}")
    parts = [attribute]
    if attribute not in item.attrs:
        parts = []
        while f"{attribute}{len(parts)}" in item.attrs:
            parts.append(f"{attribute}{len(parts)}")
    names = []
    for part in parts:
        for name in np.ravel(item.attrs[part]):
            names.append(name.decode() if isinstance(name, bytes) else str(name))
    return names


def _member(group: h5py.Group, path: str, kind: type[h5py.Group] | type[h5py.Dataset]) -> Any:
    """The group or data set at a path; soft and external links on the way are not followed."""
    item: h5py.Group | h5py.Dataset = group
    for part in path.split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{item.name} does not have its own {part}")
        item = item[part]
    if not isinstance(item, kind):
        raise ValueError(f"{item.name} is not a {kind.__name__.lower()}")
    return item
