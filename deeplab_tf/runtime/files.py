"""Writing files that are never half there."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from deeplab_tf.errors import ItemError, UserError

_LONGEST_WAIT_SECONDS = 60
_LONGEST_NAME_BYTES = 255
# A file system says so of one name; other names can be written.
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ)


@contextlib.contextmanager
def complete_or_absent(path: str) -> Iterator[str]:
    """Gives a temporary name beside `path`, with the same ending, and renames what was written there at the end.

    Args:
        path: the file to be. Where the block fails, it stays as it was.

    Raises:
        ItemError: the file system refuses the name; it is too long, for example.
        UserError: the folder cannot be written.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, _temporary_name(name))
    try:
        with _only_writer(folder):
            try:
                yield temporary
                os.replace(temporary, path)
            finally:
                if os.path.exists(temporary):
                    os.remove(temporary)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_atomically(path: str, write: Callable[[str], None]) -> None:
    """Writes under a temporary name beside `path` and renames.

    Args:
        path: the file to be.
        write: writes its content to the path it is given, which has the same ending.

    Raises:
        UserError: the folder cannot be written.
    """
    with complete_or_absent(path) as temporary:
        write(temporary)


def write_folder_atomically(path: str, write: Callable[[str], None]) -> None:
    """Writes a folder under a temporary name beside `path`, and puts it in the place of what is there.

    Args:
        path: the folder to be.
        write: makes the folder that it is given, and its content.

    Raises:
        UserError: it cannot be written.
    """
    parent, name = os.path.split(path)
    temporary, old = (os.path.join(parent, f".{state}.{name}") for state in ("writing", "replaced"))
    try:
        with _only_writer(parent):
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                write(temporary)
                if os.path.exists(path):
                    shutil.rmtree(old, ignore_errors=True)
                    os.rename(path, old)
                try:
                    os.rename(temporary, path)
                except OSError:
                    if os.path.exists(old):
                        os.rename(old, path)
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _temporary_name(name: str) -> str:
    """Returns a hidden name with the same ending, no longer than a name may be."""
    temporary = f".writing.{name}"
    if len(os.fsencode(temporary)) <= _LONGEST_NAME_BYTES:
        return temporary
    return f".writing.{hashlib.sha256(os.fsencode(name)).hexdigest()}{os.path.splitext(name)[1]:.16}"


def _unwritable(path: str, error: OSError) -> UserError:
    """Says that a file or folder cannot be written; or, where the error is of another file, that this one cannot."""
    if error.errno in _OF_THE_NAME:
        return ItemError(f"cannot write {path}: the file system refuses the name ({error.strerror}). Shorten it.")
    folder, name = os.path.split(path)
    ours = [
        os.path.join(folder, ours) for ours in (name, f".writing.{name}", f".replaced.{name}", _temporary_name(name))
    ]
    other = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if other and other != folder and not any(other == one or other.startswith(one + os.sep) for one in ours):
        return UserError(f"cannot open {other}: {error.strerror or error}. Check the file and its rights.")
    return UserError(
        f"cannot write {path}: {error.strerror or error}. Check the folder, its rights and the free space."
    )


@dataclasses.dataclass
class _Hold:
    """A folder that this process has locked or is about to lock, and how many are writing there or waiting for it."""

    descriptor: int | None = None
    users: int = 0
    opening: threading.Lock = dataclasses.field(default_factory=threading.Lock)


_holds: dict[str, _Hold] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def _only_writer(folder: str) -> Iterator[None]:
    """Lets one process at a time write to a folder: temporary names are the same in all of them.

    Within a process there may be several: threads, or pictures beside an archive.

    Raises:
        UserError: another process has written there for more than a minute.
        OSError: there is no such folder.
    """
    folder = os.path.realpath(folder or os.curdir)
    with _guard:
        hold = _holds.setdefault(folder, _Hold())
        hold.users += 1
    try:
        with hold.opening:  # and not _guard: another folder's writers do not wait for this one
            if hold.descriptor is None:
                hold.descriptor = _open_locked(folder)
        yield
    finally:
        with _guard:
            hold.users -= 1
            if not hold.users:
                del _holds[folder]
                if hold.descriptor is not None:
                    os.close(hold.descriptor)


def _open_locked(folder: str) -> int:
    """Opens a folder and locks it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, _LONGEST_WAIT_SECONDS)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise UserError(f"another process is writing to {folder}; wait for it, or name another --out.") from None
        raise
    return descriptor


def lock(descriptor: int, patience_seconds: float = 0.0) -> OSError | None:
    """Locks an open file or folder until it is closed, which the end of the process does too.

    Args:
        descriptor: of the file or folder.
        patience_seconds: how long to wait for another process that has locked it.

    Returns:
        None; or why nothing can be locked there, as on some network file systems.

    Raises:
        BlockingIOError: another process has locked it for longer than that.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)
        except OSError as error:
            return error


def refuse_existing(path: str, overwrite: bool) -> None:
    """Refuses to replace what may not be replaced.

    Raises:
        UserError: `path` exists and `overwrite` is false.
    """
    if os.path.exists(path) and not overwrite:
        raise UserError(f"{path} exists; add --overwrite to replace it, or name another --out.")


def require_space(path: str, num_bytes: int) -> None:
    """Refuses to begin a file that will not fit.

    Raises:
        UserError: less is free.
    """
    free = shutil.disk_usage(os.path.dirname(path)).free
    if free < num_bytes:
        raise UserError(
            f"cannot write {path}: it takes {num_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free. Free space and "
            "repeat the command."
        )


def reason(error: BaseException) -> str:
    """The first line of an error, without where in TensorFlow and in which temporary file it arose."""
    return re.sub(r"^\{\{.*?\}\} ?|/\S*; | ?\[Op:\w+\].*", "", str(error).splitlines()[0]).rstrip(".")


def flush_to_disk(path: str) -> None:
    """Returns when the file or folder is on the disk, not only in memory: a rename after it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        UserError: not writable, or no space.
    """

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            file.write(content)

    write_atomically(path, write)


def write_text(path: str, text: str) -> None:
    """Writes UTF-8."""

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomically(path, write)


def write_json(path: str, content: Any) -> None:
    """Writes indented JSON with a final newline; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """Reads JSON.

    Raises:
        ValueError: it is none, nested too deeply, or has numbers that are none or beyond float64.
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"it holds the number {number:.30}")
        return value

    try:
        return json.loads(text, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: see `parse_json`; or the text is not UTF-8.
    """
    with open(path, encoding="utf-8") as file:
        return parse_json(file.read())


def make_folder_of(path: str) -> None:
    """Makes the folder that a file is to be in.

    Raises:
        ItemError: the file system refuses its name.
        UserError: it cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def make_folder(path: str, flag: str) -> None:
    """Makes a folder, with its parents, that the user named with a flag.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {flag}={path}: {error.strerror}.") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot write to the folder {flag}={path}: permission denied.")
