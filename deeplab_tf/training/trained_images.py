"""Which images a network was trained on: the workdir keeps their hashes, for the data folder may be written again."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from deeplab_tf.dataset_info import require_fields
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files

TRAINED_FILE = "trained_images.json.gz"


class Images(NamedTuple):
    """Some images.

    Attributes:
        ids: their names.
        hashes: of the stored bytes of each, or None where the manifest has none. Two images with one hash are the same.
    """

    ids: tuple[str, ...] = ()
    hashes: tuple[str, ...] | None = ()

    def without(self, others: Images) -> Images:
        """Leaves out what is among others too: by hash, or by id where hashes are not known of both."""
        if self.hashes is None or others.hashes is None:
            known = set(others.ids)
            kept = [place for place, image_id in enumerate(self.ids) if image_id not in known]
        else:
            known = set(others.hashes)
            kept = [place for place, digest in enumerate(self.hashes) if digest not in known]
        hashes = None if self.hashes is None else tuple(self.hashes[place] for place in kept)
        return Images(tuple(self.ids[place] for place in kept), hashes)

    def count_among(self, others: Images) -> int:
        """Counts those that are among others too."""
        return len(self.ids) - len(self.without(others).ids)

    def with_those_of(self, others: Images) -> Images:
        """Adds others; without hashes where one of both has none."""
        if not others.ids or not self.ids:
            return self if self.ids else others
        hashes = None if self.hashes is None or others.hashes is None else (*self.hashes, *others.hashes)
        return Images((*self.ids, *others.ids), hashes)


_NONE = Images()


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a training is about to see.

    Attributes:
        data_dir: the folder.
        split: the name of the split to train on.
        splits: the images of every split of the folder, that one included.
        contents: some text that changes where the stored bytes of the split do.
    """

    data_dir: str
    split: str
    splits: Mapping[str, Images]
    contents: str = ""

    @property
    def images(self) -> Images:
        """Those of the split."""
        return self.splits[self.split]


@dataclasses.dataclass(frozen=True)
class TrainedImages:
    """What the network of a workdir has seen.

    Attributes:
        now: the images of the newest data.
        before: those of earlier data, and of the workdir that --init named, which are not among these.
        contents: see `TrainingData`.
    """

    now: Images
    before: Images = _NONE
    contents: str = ""

    def everything(self) -> Images:
        """All of them."""
        return self.now.with_those_of(self.before)

    def continued_with(self, data: TrainingData) -> TrainedImages:
        """Returns what the network will have seen after a training on other data."""
        return TrainedImages(data.images, self.everything().without(data.images), data.contents)

    def changes(self, data: TrainingData) -> str:
        """Says how the data of a resumed training differ from what it was trained on; "" where they do not."""
        added, removed = len(data.images.without(self.now).ids), len(self.now.without(data.images).ids)
        if not added and not removed:
            if self.contents == data.contents:
                return ""
            return f"{data.split} of {data.data_dir} has the same images, with other labels or in another order."
        changed = (
            f"the data changed since this workdir was trained: {data.split} of {data.data_dir} has {added} more "
            f"image{'s' if added != 1 else ''}, and lacks {removed} that it had"
        )
        gone = self.everything().without(data.images)
        moved = [
            f"{count} of the {len(images.ids)} images of {name}"
            for name, images in data.splits.items()
            if name != data.split and (count := images.count_among(gone))
        ]
        if not moved:
            return changed + "."
        return (
            f"{changed}; {', '.join(moved)} were trained on, and scores there say little about new images. Train anew "
            "in another --workdir for scores that do."
        )


def refuse_other_data(workdir: str, data: TrainingData) -> None:
    """Refuses to continue a workdir on other data: most of its images are in no split of the folder.

    Additional images, and images that moved from split to split, do not count as other data.

    Args:
        workdir: one with checkpoints.
        data: what the training is about to see.

    Raises:
        UserError: it is other data.
    """
    known = read(workdir)
    if known is None or not known.now.ids:
        return
    left = known.now
    for images in data.splits.values():
        left = left.without(images)
    gone, all_of_them = len(left.ids), len(known.now.ids)
    if 2 * gone > all_of_them:
        raise UserError(
            f"{workdir} was trained on other data: {gone} of its {all_of_them} images are in no split of"
            f" {data.data_dir}. Name another --workdir; or --init={workdir} with another one, to begin with its"
            " weights; or --other_data, to continue it all the same."
        )


def begin(data: TrainingData, init: str) -> TrainedImages:
    """Returns what a network will have seen that starts from --init."""
    inherited = read(init) if os.path.isdir(init) else None
    return (inherited or TrainedImages(_NONE)).continued_with(data)


def read(workdir: str) -> TrainedImages | None:
    """Reads what the network of a workdir has seen; None where an earlier version, or nothing, was trained there.

    A file that cannot be read is told of, and counts as missing.
    """
    path = os.path.join(workdir, TRAINED_FILE)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            fields = files.parse_json(file.read())
        require_fields(fields, TRAINED_FILE, ("now", "before", "contents"))
        return TrainedImages(_images(fields["now"]), _images(fields["before"]), str(fields["contents"]))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, TypeError) as error:
        problem = files.reason(error) or type(error).__name__
        print(f"{path} cannot be read ({problem}): which images were trained on is not known.")
        return None


def write(workdir: str, trained: TrainedImages) -> None:
    """Writes WORKDIR/trained_images.json.gz: 22 bytes an image, or so.

    Raises:
        UserError: not writable.
    """
    content = {
        "now": {"ids": trained.now.ids, "hashes": trained.now.hashes},
        "before": {"ids": trained.before.ids, "hashes": trained.before.hashes},
        "contents": trained.contents,
    }
    packed = gzip.compress(json.dumps(content).encode(), mtime=0)

    def put(path: str) -> None:
        with open(path, "wb") as file:
            file.write(packed)

    files.write_atomically(os.path.join(workdir, TRAINED_FILE), put)


def _images(fields: Any) -> Images:
    require_fields(fields, "a list of images", ("ids", "hashes"))
    ids, hashes = fields["ids"], fields["hashes"]
    for texts in (ids, hashes) if hashes is not None else (ids,):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"expected a list of texts, got {texts!r:.60}")
    if hashes is not None and len(hashes) != len(ids):
        raise ValueError(f"{len(ids)} images have {len(hashes)} hashes")
    return Images(tuple(ids), None if hashes is None else tuple(hashes))
