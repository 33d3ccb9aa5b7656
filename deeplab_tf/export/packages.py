"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from deeplab_tf.errors import UserError


def require(module: str, wanted_by: str) -> Any:
    """Imports a module of requirements-export.txt.

    Args:
        module: its dotted name.
        wanted_by: what cannot be done without it, for the message.

    Returns:
        The module.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{wanted_by} needs {module.split('.')[0]}, which is not installed: "
            "pip install -r requirements-export.txt -c constraints-export.txt"
        ) from error
