"""Weights from files: what this project saves, the released networks' files, and pretrained trunks.

    formats   a reader each, from a path to (name in the file, array): npz.py
    names.py  names of the released networks -> names of this project's variables
    hdf5.py   this project's own .weights.h5
    hed.py    a VGG-16 trunk trained for edges
    report.py every tensor is matched, checked and reported; only then the model changes

Nothing in a file is ever executed.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator

import keras
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.weights import hdf5, names, npz
from deeplab_tf.weights.hed import load_hed
from deeplab_tf.weights.report import LoadReport, assign, variables_by_name

__all__ = ["SUFFIXES", "LoadReport", "load_hed", "load_weights"]

# Files under the released networks' names: suffix -> reader of (name, array), kernels OIHW.
_RELEASED: dict[str, Callable[[str], Iterator[tuple[str, np.ndarray]]]] = {".npz": npz.read}
SUFFIXES = (*_RELEASED, ".weights.h5")


def load_weights(model: keras.Model, path: str) -> LoadReport:
    """Sets a model's weights from a file.

    `.weights.h5` is what training writes. `.npz` holds arrays under the names of the released networks,
    PyTorch's (`base.layer3.block1.reduce.conv.weight`) or Caffe's (`conv1_1.weight`, `fc8_voc12.bias`),
    kernels OIHW. A classifier for another number of classes is skipped, and the report says so.

    Args:
        model: from `build_model`.
        path: the file.

    Returns:
        What was loaded, skipped and missing. Print it.

    Raises:
        UserError: no such file, not readable, a name that matches nothing in the model, another shape, or a
            value that is not finite. The model is then unchanged.
    """
    if not os.path.isfile(path):
        raise UserError(f"no weights file at {path}; expected a file ending {' or '.join(SUFFIXES)}.")
    variables = variables_by_name(model)
    suffix = os.path.splitext(path)[1]
    if suffix in _RELEASED:
        tensors = names.match_released(_RELEASED[suffix](path), variables)
    elif path.endswith(".weights.h5"):
        tensors = hdf5.read_own(path, variables)
    else:
        raise UserError(f"cannot read {path}: weights files end {' or '.join(SUFFIXES)}.")
    try:
        return assign(model, path, tensors)
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"cannot read the weights file {path}; it is damaged or of another format ({error})."
        ) from error
