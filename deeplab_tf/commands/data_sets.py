"""The way to the data sets, which are above the model and are named in this file only.

    checkout     datasets/ beside deeplab_tf/, imported as `datasets`
    installed    the same folder inside the package, as `deeplab_tf._datasets`

Another package is called `datasets` too, Hugging Face's. It does no harm beside an installed deeplab_tf, which never
imports that name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import deeplab_tf
from deeplab_tf.errors import UserError

_INSTALLED = "deeplab_tf._datasets"
_CHECKOUT = "datasets"


def data_sets(module: str = "") -> Any:
    """Imports the data sets, or a module of theirs.

    Args:
        module: its name below the package, such as "stored.tfrecord"; "" for the package.

    Returns:
        The module.

    Raises:
        UserError: another package of the same name is found first.
    """
    package = _INSTALLED
    if importlib.util.find_spec(_INSTALLED) is None:
        package = _CHECKOUT
        _check_own(os.path.join(os.path.dirname(os.path.dirname(deeplab_tf.__file__)), _CHECKOUT))
    return importlib.import_module(f"{package}.{module}" if module else package)


def _check_own(folder: str) -> None:
    """Refuses to import `datasets` where that is not the folder beside deeplab_tf."""
    spec = importlib.util.find_spec(_CHECKOUT)
    found = spec and spec.submodule_search_locations and next(iter(spec.submodule_search_locations))
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: expected the data sets beside deeplab_tf, found no such folder. Reinstall it.")
    if not found or not os.path.samefile(found, folder):
        raise UserError(
            f"`import datasets` finds {found or 'nothing'} instead of {folder}. Run from {os.path.dirname(folder)}, put"
            " it first in PYTHONPATH, or install it: `pip install .` there."
        )
