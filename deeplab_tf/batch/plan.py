"""Which inputs are still to be done, in which blocks, and what their answers are called."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from deeplab_tf.batch.manifest import Entry
from deeplab_tf.errors import UserError

_LONGEST_NAME_BYTES = 255


class Block(NamedTuple):
    """What is done in one piece.

    Attributes:
        number: of its note, and of its shard.
        inputs: paths of image files, or of one TFRecord file.
    """

    number: int
    inputs: tuple[str, ...]

    def to_line(self) -> str:
        """Returns one line of JSON."""
        return json.dumps(self) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Block:
        """Reads what `to_line` gave."""
        number, inputs = json.loads(line)
        return cls(number, tuple(inputs))

    @property
    def note(self) -> str:
        """The name of its note."""
        return f"{self.number:06d}.jsonl"

    def shard(self, root: str) -> str:
        """Returns the name of its TFRecord file of labels, relative to OUT: that of its input, or with its number."""
        if is_record_file(self.inputs[0]):
            return _relative(self.inputs[0], root)
        return f"labels-{self.number:06d}.tfrecord"


def shard_number(path: str) -> int | None:
    """Returns the number of the block that a file of labels was written for; None for other files."""
    found = re.search(r"(?:^|/)labels-(\d{6,})\.tfrecord$", path)
    return int(found[1]) if found else None


def is_record_file(path: str) -> bool:
    """Says whether a path names a TFRecord file, such as train-00000-of-00016.tfrecord or a.tfrecord-00000-of-00016."""
    return re.search(r"\.tfrecords?(-\d+-of-\d+)?$", path) is not None


def root_of(pattern: str) -> str:
    """Returns the folder, with its final slash, before the first wildcard of a pattern; "" for the working directory.

    Names of answers are relative to it.
    """
    start = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return start[: start.rfind("/") + 1]


def png_name(path: str, root: str) -> str:
    """Returns the name of the labels of an image file, relative to OUT: photos/a/cat.jpg -> a/cat.png.

    Args:
        path: of the image.
        root: what `root_of` gave.
    """
    return posixpath.splitext(_relative(path, root))[0] + ".png"


def record_png_name(path: str, root: str, image_id: str) -> str:
    """Returns the name of the labels of an image in a TFRecord file: data/val.tfrecord, cat -> val/cat.png.

    Args:
        path: of the TFRecord file.
        root: what `root_of` gave.
        image_id: the image's name there.

    Raises:
        ValueError: the id does not name a file in that folder.
    """
    parts = image_id.split("/")
    if not image_id or "\\" in image_id or "\0" in image_id or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"image_id {image_id!r} cannot be the name of a file")
    return f"{_record_folder(path, root)}/{image_id}.png"


def too_long(name: str) -> str:
    """Says why this machine's file systems cannot have a file of this name, with slashes, and "" where they can."""
    longest = max(len(os.fsencode(part)) for part in name.split("/"))
    if longest <= _LONGEST_NAME_BYTES:
        return ""
    return f"its labels would have a name of {longest} bytes; a file's has at most {_LONGEST_NAME_BYTES}. Shorten it."


def check_names(inputs: Iterable[str], root: str, done: Iterable[Entry], as_records: bool = False) -> None:
    """Refuses two inputs whose labels would be one file, or would go to one folder of a TFRecord file's labels.

    Args:
        inputs: paths of image files, or of TFRecord files.
        root: what `root_of` gave.
        done: what `manifest.merge` gave.
        as_records: labels are written as TFRecord files.

    Raises:
        UserError: it names the first two.
    """
    owners: dict[str, str] = {}
    for entry in done:
        if entry.output:
            folder = entry.output.removesuffix(f"/{entry.record}.png") if entry.record else entry.output
            owners[entry.output if as_records else folder] = entry.input
    for path in inputs:
        if not is_record_file(path):
            if as_records:
                continue  # records have their whole paths
            name = png_name(path, root)
        else:
            name = _relative(path, root) if as_records else _record_folder(path, root)
        owner = owners.setdefault(name, path)
        if owner != path:
            raise UserError(
                f"the labels of {owner} and of {path} would both be {name}; rename one, or name another --out. Images"
                " keep their whole names with --format=tfrecord."
            )


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/")


def _record_folder(path: str, root: str) -> str:
    """Returns the folder of the labels of a TFRecord file, relative to OUT."""
    return re.sub(r"\.tfrecords?(?=(-\d+-of-\d+)?$)", "", _relative(path, root))


class Missing(NamedTuple):
    """Inputs that are to be done, each list sorted.

    Attributes:
        new: nothing is known of them.
        failed: image files that could not be read; perhaps they were mended.
    """

    new: list[str]
    failed: list[str]


def find_missing(inputs: Iterable[str], done: Iterable[Entry]) -> Missing:
    """Says which inputs are still to be done; `done` is what `manifest.merge` gave.

    A TFRecord file is read once, whatever is wrong with its records.
    """
    known: dict[str, bool] = {}
    for entry in done:
        known[entry.input] = bool(entry.reason)
    paths = sorted(set(inputs))
    return Missing(
        [path for path in paths if path not in known],
        [path for path in paths if known.get(path) and not is_record_file(path)],
    )


def make_blocks(missing: Missing, images_per_block: int, taken: Collection[int]) -> list[Block]:
    """Deals missing inputs to blocks.

    New inputs come first, in order, in blocks of so many; then, in separate blocks, those that failed. The blocks
    get the numbers that are free, in order. So, after a kill, the blocks are those that the run had still to do: all
    of its blocks are full, except the last one.

    Args:
        missing: what `find_missing` gave.
        images_per_block: image files in a block; a TFRecord file is always one block.
        taken: the numbers that earlier blocks have.
    """
    pieces = _pieces(missing.new, images_per_block) + _pieces(missing.failed, images_per_block)
    blocks: list[Block] = []
    number = 0
    used = set(taken)
    for piece in pieces:
        while number in used:
            number += 1
        blocks.append(Block(number, tuple(piece)))
        number += 1
    return blocks


def _pieces(inputs: Sequence[str], images_per_block: int) -> list[Sequence[str]]:
    files = [path for path in inputs if not is_record_file(path)]
    pieces: list[Sequence[str]] = [
        files[start : start + images_per_block] for start in range(0, len(files), images_per_block)
    ]
    return pieces + [[path] for path in inputs if is_record_file(path)]
