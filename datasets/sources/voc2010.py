"""The images and lists of PASCAL VOC 2010, which PASCAL-Context and PASCAL-Part label anew.

    VOCdevkit/VOC2010/ImageSets/Main/{train,val}.txt    ids (4,998 and 5,105)
    VOCdevkit/VOC2010/JPEGImages/ID.jpg

Both are in VOC 2010's trainval archive.
"""

from __future__ import annotations

from pathlib import Path

from deeplab_tf.errors import UserError

from ..raw import files as raw_files
from ..source import Source

SPLITS = ("train", "val")


def find_folder(source: Source, dataset: str) -> Path:
    """Returns the VOC2010 folder below --root.

    Args:
        source: where to look.
        dataset: the data set's name, for messages.

    Raises:
        UserError: there is none.
    """
    if not source.root:
        raise UserError(f"{dataset} needs --root=FOLDER, the folder that holds VOCdevkit/VOC2010.")
    root = Path(source.root)
    if not root.is_dir():
        raise UserError(f"--root={source.root}: expected the folder that holds VOCdevkit, found no such folder.")
    for folder in (root / "VOCdevkit" / "VOC2010", root / "VOC2010", root):
        if (folder / "ImageSets" / "Main").is_dir():
            return folder
    raise UserError(
        f"--root={source.root}: expected VOCdevkit/VOC2010/ImageSets/Main below it, found none."
        " Unpack VOC 2010's trainval archive there."
    )


def ids(source: Source, dataset: str, split: str) -> list[str]:
    """Returns the ids of VOC 2010's train or val.

    Raises:
        UserError: an unknown split, or its list is missing or not a list.
    """
    if split not in SPLITS:
        raise UserError(f"{dataset} has the splits {', '.join(SPLITS)}, got {split!r}. Correct --splits.")
    path = find_folder(source, dataset) / "ImageSets" / "Main" / f"{split}.txt"
    return raw_files.read_ids(path, "It is part of VOC 2010's trainval archive.")


def image_path(source: Source, dataset: str, image_id: str) -> Path:
    """Returns where an image should be."""
    return find_folder(source, dataset) / "JPEGImages" / f"{image_id}.jpg"


def find_annotations(source: Source, dataset: str, *names: str) -> Path:
    """Returns the first of some folders below --root that there is.

    Raises:
        UserError: there is none of them.
    """
    for name in names:
        folder = Path(source.root) / name
        if folder.is_dir():
            return folder
    raise UserError(
        f"--root={source.root}: expected the .mat files of {dataset} in {' or '.join(names)} below it, found no such"
        " folder. Unpack its trainval.tar.gz there."
    )
