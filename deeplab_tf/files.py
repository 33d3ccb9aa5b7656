"""Writing files that are never half there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from deeplab_tf.errors import UserError


@contextlib.contextmanager
def complete_or_absent(path: str) -> Iterator[str]:
    """Gives a temporary name beside `path`, with the same ending, and renames what was written there at the end.

    Args:
        path: the file to be. Where the block fails, it stays as it was.

    Raises:
        UserError: the folder cannot be written.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".writing.{name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Check the folder, its rights and the free space."
        ) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


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
    shutil.rmtree(temporary, ignore_errors=True)
    try:
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
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Check the folder, its rights and the free space."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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
            f"cannot write {path}: it takes {num_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free. Make space and "
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


def write_text(path: str, text: str) -> None:
    """Writes UTF-8."""

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomically(path, write)


def write_json(path: str, content: Any) -> None:
    """Writes indented JSON with a final newline; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


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
