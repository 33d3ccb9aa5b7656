"""Which images two splits share: a score on images that were trained on says nothing.

Both answers come from the manifests, without a look at the images:

    shared = shared_images(read_manifest("data/mine").split("train"), read_manifest("data/mine").split("val"))
    print(len(shared.images()), "images of val are in train too")
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from ..stored.manifest import SplitManifest


class Overlap(NamedTuple):
    """The images that two splits share.

    Attributes:
        ids: ids that are in both, in the order of the second split. In two unrelated data sets they may be a chance.
        contents: (id in the first split, id in the second) of images with the same stored bytes, in the order of the
            second split, each of its images once; None where this is not known, because format version 1 of the
            manifest wrote one of the splits. An image that was resized or compressed anew has other bytes.
    """

    ids: tuple[str, ...]
    contents: tuple[tuple[str, str], ...] | None

    def images(self) -> tuple[str, ...]:
        """Returns the ids in the second split of what is shared, by id or by content, each once."""
        return tuple(dict.fromkeys([*self.ids, *(second for _, second in self.contents or ())]))


def shared_images(first: SplitManifest, second: SplitManifest) -> Overlap:
    """Compares two splits, of one data folder or of two.

    Args:
        first: such as the split that was trained on, `read_manifest(data_dir).split(name)`.
        second: such as the one to evaluate.

    Returns:
        What they share.
    """
    return shared_with(first.ids, first.image_hashes(), second)


def shared_with(first_ids: Sequence[str], first_hashes: Sequence[str] | None, second: SplitManifest) -> Overlap:
    """Compares the images of a split with some of which only ids and hashes are known; see `shared_images`.

    Args:
        first_ids: of these images.
        first_hashes: `image_hash` of each, or None where they are not known.
        second: the split.
    """
    known = set(first_ids)
    ids = tuple(image_id for image_id in second.ids if image_id in known)
    second_hashes = second.image_hashes()
    if first_hashes is None or second_hashes is None:
        return Overlap(ids, None)
    # Of images that are equal within the first split, the first one is named.
    owners = dict(zip(reversed(first_hashes), reversed(first_ids), strict=True))
    pairs = [
        (owners[digest], image_id)
        for digest, image_id in zip(second_hashes, second.ids, strict=True)
        if digest in owners
    ]
    return Overlap(ids, tuple(pairs))


def image_hash(encoded: bytes) -> str:
    """Returns 32 hexadecimal digits that two images share only if their stored bytes are the same (BLAKE2b)."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
