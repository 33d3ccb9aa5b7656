"""Graphs that TensorFlow runs and nobody differentiates: there the form that is fastest forward is taken."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_wanted = contextvars.ContextVar("_wanted", default=False)


@contextlib.contextmanager
def wanted() -> Iterator[None]:
    """Makes layers that are traced in here take their fastest forms, with the same results up to rounding.

    For evaluation, prediction and SavedModels. Graphs for other programs are not traced in here: their converters know
    fewer operations.
    """
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_wanted() -> bool:
    """Says whether a graph is traced that only runs forward, in TensorFlow."""
    return _wanted.get()
