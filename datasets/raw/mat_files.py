"""MATLAB's .mat files, read with one-line complaints about what is wrong with them."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from deeplab_tf.errors import UserError, in_short

from ..messages import some
from . import files as raw_files

# The type of a compressed part.
_COMPRESSED = 15
# What SciPy's reader is known to raise on damaged files.
_DECODE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NameError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_variable(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """Reads one variable.

    Args:
        path: a .mat file of version 4 to 7.
        name: the variable.

    Returns:
        The array. A struct is an array of objects that have its fields as attributes; every array in it keeps the
        two dimensions or more that MATLAB gave it.

    Raises:
        UserError: SciPy is not installed, or the file is missing, damaged, of version 7.3 or without the variable.
    """
    try:
        import scipy.io
    except ImportError:
        raise UserError(
            f"{path}: expected the package scipy, which reads .mat files, found none."
            " Install it: pip install -r requirements.txt -c constraints.txt"
        ) from None
    data = raw_files.read_bytes(path, ".mat")
    try:
        _check_compressed(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the reader warns of some damage and goes on
            variables: dict[str, Any] = scipy.io.loadmat(
                io.BytesIO(data), variable_names=[name], struct_as_record=False, squeeze_me=False
            )
    except NotImplementedError:
        raise UserError(
            f"{path}: expected a .mat file of version 7 or before, got version 7.3 (HDF5). Save it again with -v7."
        ) from None
    except (*_DECODE_ERRORS, scipy.io.matlab.MatReadError, Warning) as error:
        raise UserError(
            f"{path}: expected a whole .mat file, cannot read it ({in_short(error)})."
            " Copy the file again or leave its id out."
        ) from None
    if name not in variables:
        raise UserError(f"{path}: expected the variable {name!r} in it, found none. Check that it is the right file.")
    return variables[name]


def _check_compressed(data: bytes) -> None:
    """Raises ValueError or zlib.error if a compressed part of a file of version 5 or later is damaged.

    SciPy's reader uses what it decompresses before it comes to the checksum behind it: damage can end the process.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        return  # version 4, which compresses nothing, or no .mat file at all
    position = 128
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError("the file ends inside of a part")
        kind, length = struct.unpack_from(f"{order}II", data, position)
        position += 8 + length
        if position > len(data):
            raise ValueError("the file ends inside of a part")
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            stream.decompress(data[position - length : position])
            if not stream.eof or stream.unused_data:
                raise ValueError("a compressed part does not fill its place")


def field(path: str | os.PathLike[str], struct_object: Any, name: str) -> np.ndarray:
    """Returns a field of one struct.

    Raises:
        UserError: it is not a struct, or lacks the field; `path` names the file.
    """
    value = getattr(struct_object, name, None)
    if value is None or name not in getattr(struct_object, "_fieldnames", ()):
        raise UserError(
            f"{path}: expected a struct with the field {name!r}, found none. Check that it is the right file."
        )
    return np.asarray(value)


def only_struct(path: str | os.PathLike[str], structs: np.ndarray) -> Any:
    """Returns the struct of a 1x1 struct array.

    Raises:
        UserError: their number differs, or they are not structs.
    """
    if structs.size != 1 or structs.dtype != object:
        raise UserError(
            f"{path}: expected one struct, got an array of {structs.size} of type {structs.dtype}."
            " Check that it is the right file."
        )
    return structs.ravel()[0]


def label_map(path: str | os.PathLike[str], values: np.ndarray, highest: int) -> np.ndarray:
    """Returns a map of labels as integers.

    Args:
        path: where it comes from.
        values: numbers of any type.
        highest: the highest label.

    Returns:
        int64 [H, W], 0..highest.

    Raises:
        UserError: it is not a map of whole numbers in this range.
    """
    if values.ndim != 2 or values.dtype.kind not in "buif" or not values.size:
        raise UserError(
            f"{path}: expected a map of numbers [H, W], got {values.dtype} {list(values.shape)}."
            " Check that it is the right file."
        )
    with np.errstate(invalid="ignore"):  # not a number is no label either
        labels = values.astype(np.int64)
    wrong = (labels != values) | (labels < 0) | (labels > highest)
    if wrong.any():
        raise UserError(
            f"{path}: expected labels 0..{highest}, got {some(np.unique(values[wrong]).tolist())}."
            " Copy the file again or leave its id out."
        )
    return labels
