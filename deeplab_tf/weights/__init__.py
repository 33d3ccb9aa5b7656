"""Weights from files: what this project saves, the released networks' files, and pretrained trunks.

    load.py   any file into a network, by the reader of its format
    formats   a reader each, from a path to (name in the file, array): npz.py, caffemodel.py, pytorch.py,
              safe_tensors.py; mapped.py and restricted_pickle.py serve them
    names.py  names of the released networks -> names of this project's variables
    hdf5.py   this project's own .weights.h5, also inside a .keras file (keras_archive.py); hdf5_probe.py looks at an
              HDF5 file from a safe distance
    hed.py    a VGG-16 trunk trained for edges
    imagenet.py  ImageNet's weights, from where the backbone says: keras_cache.py, readers/keras_h5.py, installed.py
    fit.py    which experiments a file belongs to
    report.py every tensor is matched, checked and reported; only then the model changes

Nothing in a file is ever executed. The names below are loaded when they are first used, so that
`python -m deeplab_tf.weights` starts like the other commands.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab_tf.weights.fit import Fit
    from deeplab_tf.weights.hed import load_hed
    from deeplab_tf.weights.imagenet import load_imagenet
    from deeplab_tf.weights.load import SUFFIXES, find_fit, list_tensors, load_weights
    from deeplab_tf.weights.report import LoadReport

__all__ = [
    "SUFFIXES",
    "Fit",
    "LoadReport",
    "find_fit",
    "list_tensors",
    "load_hed",
    "load_imagenet",
    "load_weights",
]

_MODULES = {
    "Fit": "fit",
    "LoadReport": "report",
    "SUFFIXES": "load",
    "find_fit": "load",
    "list_tensors": "load",
    "load_hed": "hed",
    "load_imagenet": "imagenet",
    "load_weights": "load",
}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name (PEP 562).

    Raises:
        AttributeError: no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
