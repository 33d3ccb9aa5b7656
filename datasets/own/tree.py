"""The files of a folder, listed once, without what systems and tools leave in every folder."""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path
from typing import NamedTuple

from deeplab_tf.images.files import SUFFIXES

IMAGE_SUFFIXES = (*SUFFIXES, ".gif", ".jpe", ".jfif", ".jp2", ".ppm", ".pgm", ".dib")
"""Endings, in small letters, of what may be an image."""
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".npy", ".gif", ".pgm", ".ppm", ".jpg", ".jpeg", ".webp")
"""Endings of what may be a mask. Some of them lose class indices: reading them says so."""
UNREADABLE_SUFFIXES = (
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".psd",
    ".xcf",
    ".svg",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
)
"""Endings of pictures in formats that are not read."""

_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_versions = itertools.count(1)
_JUNK_FOLDERS = {"__macosx", "@eadir", "$recycle.bin"}


class File(NamedTuple):
    """One file below the root of a tree.

    Attributes:
        path: of the file.
        folders: the names of the folders from the root down to it.
    """

    path: Path
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.name

    @property
    def stem(self) -> str:
        """Its file name without the ending."""
        return self.path.stem

    @property
    def suffix(self) -> str:
        """Its ending, in small letters."""
        return self.path.suffix.lower()


class Tree(NamedTuple):
    """What a folder holds.

    Attributes:
        root: the folder.
        files: all files, sorted, without junk and without data sets that this project wrote.
        version: another number for each listing.
    """

    root: Path
    files: tuple[File, ...]
    version: int = 0

    def images(self) -> list[File]:
        """Returns the files that may be images, by their endings."""
        return [file for file in self.files if file.suffix in IMAGE_SUFFIXES]

    def named(self, *names: str) -> list[File]:
        """Returns the files of one of these names, in any case, those nearest to the root first."""
        wanted = {name.casefold() for name in names}
        found = [file for file in self.files if file.name.casefold() in wanted]
        return sorted(found, key=lambda file: len(file.folders))


def list_tree(root: Path) -> Tree:
    """Lists a folder and the folders in it; symbolic links are followed.

    A listing is kept for as long as no folder in it has changed.
    """
    tree, states = _listed(root)
    if any(_state(folder) != state for folder, state in states):
        _listed.cache_clear()
        tree, _ = _listed(root)
    return tree


@functools.lru_cache(maxsize=16)
def _listed(root: Path) -> tuple[Tree, tuple[tuple[str, int], ...]]:
    files: list[File] = []
    states: list[tuple[str, int]] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        states.append((folder, _state(folder)))
        if real in seen or _is_ours(folder, folders, names):
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_junk(name, _JUNK_FOLDERS))
        parts = Path(folder).relative_to(root).parts
        files += [File(Path(folder, name), parts) for name in sorted(names) if not _is_junk(name, _JUNK_FILES)]
    return Tree(root, tuple(files), next(_versions)), tuple(states)


def _is_junk(name: str, known: set[str]) -> bool:
    return name.startswith(".") or name.casefold() in known


def _is_ours(folder: str, folders: list[str], names: list[str]) -> bool:
    """Says whether this is what a conversion writes: --out may lie in --root."""
    return ".converting" in folders or ("manifest.json" in names and any(name.endswith(".tfrecord") for name in names))


def _state(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
