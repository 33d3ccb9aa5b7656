"""Files by Beam's file systems: the same code for folders, gs://, s3://, azfs:// and hdfs://."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

WORK = ".batch"
"""The folder of OUT for what only a run needs."""

WRITING = f"{WORK}/writing"
"""Where files of OUT stand until they are complete."""

_THREADS = 16


class NoRoomError(Exception):
    """This machine's temporary folder cannot hold a copy. It is the machine's fault, not that of the file."""


def join(folder: str, name: str) -> str:
    """Returns the path of a name, with slashes, in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def is_local(path: str) -> bool:
    """Says whether a path is of this machine's own file systems."""
    return FileSystems.get_scheme(path) is None


def list_files(pattern: str) -> list[str]:
    """Returns the files that a pattern matches, sorted; * stops at a slash, ** does not.

    Raises:
        UserError: the file system is not known or cannot be read.
    """
    with _complaining(f"cannot list {pattern}"):
        [matched] = FileSystems.match([pattern])
    return sorted(metadata.path for metadata in matched.metadata_list)


def exists(path: str) -> bool:
    """Says whether the file exists.

    Raises:
        UserError: the file system is not known or cannot be read.
    """
    with _complaining(f"cannot look for {path}"):
        return FileSystems.exists(path)


def read(path: str) -> bytes:
    """Reads a whole file as it is stored.

    Raises:
        UserError: it cannot be read.
    """
    with _complaining(f"cannot read {path}"):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()


def read_all(paths: Sequence[str]) -> Iterator[bytes | UserError]:
    """Reads whole files, several at a time: their bytes in order, or why one cannot be read."""

    def attempt(path: str) -> bytes | UserError:
        try:
            return read(path)
        except UserError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(attempt, paths)


def write_all(folder: str, contents: Mapping[str, bytes]) -> None:
    """Writes files, under temporary names first: after a kill each of them is complete or not there.

    Args:
        folder: OUT.
        contents: by names relative to it, with slashes.

    Raises:
        UserError: they cannot be written.
    """
    temporary = {name: join(folder, f"{WRITING}/{uuid.uuid4().hex}") for name in contents}

    def write(name: str) -> None:
        with FileSystems.create(temporary[name], compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(contents[name])

    with _complaining(f"cannot write to {folder}"):
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(write, contents))
        for parent in {os.path.dirname(join(folder, name)) for name in contents}:
            _make_folder(parent)
        names = sorted(contents)
        FileSystems.rename([temporary[name] for name in names], [join(folder, name) for name in names])


def delete(paths: Sequence[str]) -> None:
    """Deletes files.

    Raises:
        UserError: they cannot be deleted.
    """
    with _complaining(f"cannot delete {', '.join(paths)}"):
        if paths:
            FileSystems.delete(list(paths))


def delete_folder(path: str) -> None:
    """Deletes all files in a folder, and the folder, where there is one.

    Raises:
        UserError: it cannot be deleted.
    """
    delete(list_files(join(path, "**")))
    if is_local(path):
        shutil.rmtree(path, ignore_errors=True)  # only folders are left


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Gives a path of this machine for a file or folder: itself, or a copy that lasts as long as the block.

    Raises:
        UserError: it cannot be read.
        NoRoomError: it cannot be copied.
    """
    if is_local(path):
        yield path
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-predict-"))
            inside = list_files(join(path, "**"))
            for source in inside or [path]:
                copy = os.path.join(folder, "copy", source.removeprefix(path).lstrip("/")).rstrip("/")
                os.makedirs(os.path.dirname(copy), exist_ok=True)
                with open(copy, "wb") as file:
                    file.write(read(source))
        except OSError as error:
            raise NoRoomError(
                f"cannot copy {path} to a temporary folder of {socket.gethostname()}: {error}. Make room there, or set"
                " TMPDIR of the workers to another folder."
            ) from error
        yield os.path.join(folder, "copy")


@contextlib.contextmanager
def only_job(folder: str) -> Iterator[None]:
    """Keeps other jobs out of OUT as long as the block, or this process, lasts.

    Only in a folder: an object store has no locks, and neither have some network file systems.

    Raises:
        UserError: another process works there, or the folder cannot be made.
    """
    if not is_local(folder):
        yield
        return
    with _complaining(f"cannot write to {folder}"):
        _make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            files.lock(descriptor)
        except BlockingIOError:
            raise UserError(
                f"another process is writing to --out={folder}: wait until it has ended, or name another --out."
            ) from None
        yield
    finally:
        os.close(descriptor)


def _make_folder(path: str) -> None:
    if is_local(path):
        os.makedirs(path or ".", exist_ok=True)  # FileSystems.mkdirs refuses one that another process has just made
    elif FileSystems.get_filesystem(path).has_dirs() and not FileSystems.exists(path):
        with contextlib.suppress(OSError):
            FileSystems.mkdirs(path)


@contextlib.contextmanager
def _complaining(what: str) -> Iterator[None]:
    """Turns what a file system says into one line."""
    try:
        yield
    except (BeamIOError, OSError) as error:
        details = getattr(error, "exception_details", None)
        reason = next(iter(details.values())) if details else error
        raise UserError(f"{what}: {reason}. Check the path, its rights and the free space.") from error
    except ValueError as error:  # no file system has this scheme
        raise UserError(f"{what}: {error}. For gs:// install apache-beam[gcp], for s3:// apache-beam[aws].") from error
