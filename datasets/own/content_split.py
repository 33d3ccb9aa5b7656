"""A split into train and val by what the images hold: it does not move when images are added or renamed."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from deeplab_tf.errors import UserError

from .layout import Item

# Of a large file the beginning and the end will do.
_HASHED_BYTES = 1 << 16


def choose(items: Sequence[Item], split: str, val_fraction: float) -> list[Item]:
    """Returns the images of train or val, at least one each.

    The hash of an image says on which side it is, whatever other images there are: val has those below `val_fraction`
    of all hashes, so its share of a small data set may be another. Only where none is below, or all are, the nearest
    one changes sides. Images with the same content are on the same side.

    Args:
        items: all images.
        split: "train" or "val".
        val_fraction: in (0, 1).

    Raises:
        UserError: the share is none, there are fewer than two images, or a file cannot be read.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f"--val_fraction: expected a share between 0 and 1, got {val_fraction}.")
    if len(items) < 2:
        raise UserError(f"expected at least 2 images to split into train and val, got {len(items)}. Add images.")
    places = {item.image_id: position(item) for item in items}
    by_hash = sorted(items, key=lambda item: (places[item.image_id], item.image_id))
    count = sum(place < val_fraction for place in places.values())
    val = {item.image_id for item in by_hash[: min(max(count, 1), len(items) - 1)]}
    return [item for item in items if (item.image_id in val) == (split == "val")]


def position(item: Item) -> float:
    """Returns where the hash of an image's file lies between 0 and 1."""
    path = item.image if item.image is not None else item.labels[0]
    try:
        state = os.stat(path)
        return _position(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: expected a readable image file, got: {error.strerror or error}.") from None


@functools.lru_cache(maxsize=1 << 17)
def _position(path: Path, size: int, changed: int) -> float:
    del changed
    with open(path, "rb") as file:
        digest = hashlib.blake2b(file.read(_HASHED_BYTES), digest_size=8, key=b"val")
        if size > 2 * _HASHED_BYTES:
            file.seek(size - _HASHED_BYTES)
        digest.update(file.read(_HASHED_BYTES))
    digest.update(str(size).encode())
    return int.from_bytes(digest.digest(), "big") / 2**64
