"""Which files of a folder a command wrote, so that it replaces its own and nobody else's.

The list stands in the folder, one JSON object a line. A line is added before a file is written, so that a killed run
knows its files, and another after it, with size and time: a file that was edited since belongs to the user.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator

from deeplab_tf.errors import UserError


class Written:
    """The files that one command wrote into one folder, in this run and in earlier ones."""

    def __init__(self, folder: str, command: str) -> None:
        """Reads what earlier runs wrote.

        Args:
            folder: of the files; it need not exist yet.
            command: its name, such as "predict". Several commands may write to one folder.
        """
        self._folder = folder
        self._path = os.path.join(folder, f".written_by_{command}.jsonl")
        self._guard = threading.Lock()
        # By name: size and time in nanoseconds; None while a file is being written.
        self._files: dict[str, tuple[int, int] | None] = {}
        with contextlib.suppress(OSError), open(self._path, encoding="utf-8") as file:
            for line in file:
                # The last line of a killed run may be half there.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    fields = json.loads(line)
                    state = (fields["size"], fields["mtime_ns"]) if "size" in fields else None
                    self._files[fields["file"]] = state

    def others(self, names: Iterable[str]) -> list[str]:
        """Returns those of these names, relative to the folder, that exist and are not as this command left them."""
        return [name for name in names if not self._is_ours(name)]

    def wrote(self, name: str) -> bool:
        """Says whether this file, named relative to the folder, exists as this command left it."""
        return name in self._files and os.path.lexists(os.path.join(self._folder, name)) and self._is_ours(name)

    def refuse_others(self, names: Iterable[str], overwrite: bool) -> None:
        """Refuses to replace files that this command did not write.

        Args:
            names: of the files that are to be written, relative to the folder.
            overwrite: the user allows it.

        Raises:
            UserError: there is one, and the user does not allow it.
        """
        others = [] if overwrite else self.others(names)
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise UserError(
                f"{os.path.join(self._folder, others[0])}{more} would be replaced, and this command did not write"
                " what is there now. Name another --out, or add --overwrite."
            )

    @contextlib.contextmanager
    def writing(self, *names: str) -> Iterator[None]:
        """Writes down that files, named relative to the folder, are written in the block; for any thread.

        Raises:
            UserError: the list cannot be written.
        """
        self._add([{"file": name} for name in names])
        try:
            yield
        finally:
            self._add([self._state_of(name) for name in names])

    def _state_of(self, name: str) -> dict[str, str | int]:
        try:
            found = os.stat(os.path.join(self._folder, name))
        except OSError:  # not written after all: no file has this size
            return {"file": name, "size": -1, "mtime_ns": 0}
        return {"file": name, "size": found.st_size, "mtime_ns": found.st_mtime_ns}

    def _is_ours(self, name: str) -> bool:
        try:
            found = os.lstat(os.path.join(self._folder, name))
        except OSError:  # there is none, or there cannot be one of this name
            return True
        if name not in self._files:
            return False
        state = self._files[name]
        return state is None or state == (found.st_size, found.st_mtime_ns)

    def _add(self, lines: Iterable[dict[str, str | int]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with self._guard, open(self._path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}. Check the folder, its rights.") from error
