"""How the kernels of the CRF become machine code: by numba, when first needed, kept on disk for the next process.

Importing a file of kernels compiles nothing. The code is kept in the folder that NUMBA_CACHE_DIR names, or beside the
source, or in the user's own cache folder: the first that can be written to. Where none can, what lies in one of them is
read, and what is missing is compiled once a process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching, config

Kernels = TypeVar("Kernels")

# Types of arguments: whole numbers, and arrays by type and dimensions, C-contiguous.
WHOLE, F1, F2 = numba.int64, numba.float32[::1], numba.float32[:, ::1]
B1, I1, I2, L1, L2 = numba.uint8[::1], numba.int32[::1], numba.int32[:, ::1], numba.int64[::1], numba.int64[:, ::1]
FROZEN_F2 = numba.types.Array(numba.float32, 2, "C", readonly=True)
FROZEN_U2 = numba.types.Array(numba.uint8, 2, "C", readonly=True)

# Seconds of compiling without a word.
_PATIENCE = 1.0

_signatures: dict[Any, Any] = {}
_ready: set[Any] = set()
_lock = threading.Lock()


def built_once(build: Callable[[int], Kernels]) -> Callable[[int], Kernels]:
    """Makes a function return one and the same object for the same number, to several threads at once too.

    `functools.cache` alone may build two sets of kernels then, of which one thread compiles one and calls the other.
    """
    cached, lock = functools.cache(build), threading.Lock()

    @functools.wraps(build)
    def locked(width: int) -> Kernels:
        with lock:
            return cached(width)

    return locked


def compiled(signature: Any, name: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Marks a function that `compile_kernels` compiles. It never holds Python's lock and rounds as IEEE 754 says.

    Args:
        signature: the types of its result and arguments, the only ones that it takes.
        name: its own among all kernels, where the function's is not: the cache goes by it.
    """

    def mark(kernel: Callable[..., Any]) -> Any:
        if name:
            kernel.__qualname__ = name
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(kernel)
        with contextlib.suppress(RuntimeError):  # no folder to keep it in
            dispatcher._cache = _Cache(kernel)
        _signatures[dispatcher] = signature
        return dispatcher

    return mark


def compile_kernels(kernels: Iterable[Any]) -> None:
    """Compiles kernels, or reads them from disk, unless that was done; says so where compiling takes over a second."""
    missing = [kernel for kernel in kernels if kernel not in _ready]
    if not missing:
        return
    with _lock:
        try:
            for kernel in missing:
                if kernel not in _ready:
                    if not isinstance(kernel._cache, _Cache):
                        _notice.begin()
                    kernel.compile(_signatures[kernel])
                    kernel.disable_compile()
                    _ready.add(kernel)
        finally:
            _notice.end()


class _Notice:
    """Says that kernels are compiled, once a process, if that takes long; reading them does not count."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_PATIENCE, _announce)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_notice = _Notice()


@functools.cache
def _announce() -> None:
    print("compiling the dense CRF for this machine (once, some seconds) ...", file=sys.stderr, flush=True)


@functools.cache
def _stamp() -> str:
    """Stands for all files of kernels: one kernel holds code of others, and is only right with all as they were."""
    files = sorted(Path(__file__).parent.glob("compiled*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Locator(caching._CacheLocator):
    """The folder of a kernel's code: the first that can be written to, else the first that is there."""

    def __init__(self, found: Any) -> None:
        self._found = found

    @classmethod
    def from_function(cls, kernel: Any, file: str) -> _Locator | None:
        kinds = (caching.UserProvidedCacheLocator, caching.InTreeCacheLocator, caching.UserWideCacheLocator)
        for kind in kinds:
            if (found := kind.from_function(kernel, file)) is not None:
                return cls(found)
        for kind in kinds if getattr(config, "CACHE_DIR", "") else kinds[1:]:
            if os.path.isdir((found := kind(kernel, file)).get_cache_path()):
                return cls(found)
        return None

    def ensure_cache_path(self) -> None:
        self._found.ensure_cache_path()

    def get_cache_path(self) -> str:
        return self._found.get_cache_path()

    def get_source_stamp(self) -> str:
        return _stamp()

    def get_disambiguator(self) -> str:
        return self._found.get_disambiguator()


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # type: ignore[list-item]  # noqa: RUF012


class _Cache(caching.FunctionCache):
    """Does without what cannot be read or written."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        with contextlib.suppress(OSError):
            found = super().load_overload(sig, target_context)
        if found is None:
            _notice.begin()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
