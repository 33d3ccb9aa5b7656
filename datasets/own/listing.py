"""Lists of the images of a split, in the forms in which people write them.

img_001                 the name without its ending
img_001.jpg             or with it
train/img_001.jpg       or with folders
img_001 1               with a number behind it, as in PASCAL's lists of one class
a/img.png b/img.png     with the mask behind it, as in SegNet's lists
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from pathlib import Path

from deeplab_tf.errors import UserError

from ..messages import some
from ..raw import files as raw_files
from .layout import Item
from .pairing import fold, nearest
from .tree import IMAGE_SUFFIXES

_HINT = "Write one image per line: its file name, with or without its ending."


def read(path: Path, items: Sequence[Item], folder: Path) -> list[Item]:
    """Returns the images that a list names, in its order.

    Args:
        path: the list.
        items: the images that are there.
        folder: where they are, for messages.

    Raises:
        UserError: the list is missing, empty or no text, names what is not there, or names an image twice.
    """
    index = Index(items)
    found: dict[str, Item] = {}
    unknown: list[str] = []
    twice: list[str] = []
    for entry in raw_files.read_list(path, _HINT):
        item = index.find(entry)
        if item is None:
            unknown.append(entry)
        elif item.image_id in found:
            twice.append(entry)
        else:
            found[item.image_id] = item
    if twice:
        raise UserError(f"{path}: expected every entry once, found twice: {some(twice)}. Remove the repetitions.")
    if unknown:
        near = nearest(Path(unknown[0].split()[0]).stem, [item.image_id for item in items])
        hint = f" The nearest name is {near!r}." if near else ""
        more = f" and {len(unknown) - 1} more of its {len(found) + len(unknown)} entries" if len(unknown) > 1 else ""
        raise UserError(
            f"{path}: expected stems of images in {folder}, found none for {unknown[0]!r}{more}.{hint} {_HINT}"
        )
    return list(found.values())


class Index:
    """Finds images by what a list calls them."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._by_stem: dict[str, list[Item]] = collections.defaultdict(list)
        self._by_id = {item.image_id: item for item in items}
        for item in items:
            stem = item.image.stem if item.image is not None else item.image_id
            self._by_stem[fold(stem)].append(item)

    def find(self, entry: str) -> Item | None:
        """Returns the image that a line names, None where there is none or where it is not clear which."""
        for text in (entry, *re.split(r"[\s,;]+", entry)[:1]):
            if text in self._by_id:
                return self._by_id[text]
            parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
            if not parts:
                continue
            name = parts[-1]
            ending = Path(name).suffix.lower()
            # A dot may be part of a name: "shot.rf.1".
            stems = [name[: -len(ending)], name] if ending in IMAGE_SUFFIXES else [name]
            for stem in stems:
                candidates = self._by_stem.get(fold(stem), [])
                if len(candidates) > 1:
                    candidates = [item for item in candidates if _fits(item, parts)]
                if len(candidates) == 1:
                    return candidates[0]
        return None


def _fits(item: Item, parts: Sequence[str]) -> bool:
    """Says whether an image lies in the folders that a list gives."""
    if item.image is None:
        return len(parts) == 1
    folders = [fold(part) for part in item.image.parts[:-1]]
    wanted = [fold(part) for part in parts[:-1]]
    return bool(wanted) and folders[len(folders) - len(wanted) :] == wanted
