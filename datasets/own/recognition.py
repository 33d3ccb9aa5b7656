"""Chooses the layout that a folder fits best."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import os
import tarfile
import zipfile
from pathlib import Path

from deeplab_tf.errors import UserError
from deeplab_tf.images.files import SUFFIXES

from . import tree as trees
from .layout import Layout, Place
from .layouts import (
    camvid,
    class_masks,
    coco_json,
    label_studio_json,
    labelme,
    pairs,
    roboflow,
    supervisely,
    via,
    voc,
    yolo,
)
from .roles import seat_of

RECOGNISERS = (voc, camvid, roboflow, class_masks, supervisely, labelme, label_studio_json, coco_json, via, yolo, pairs)
FORMS = {
    "labelme": labelme,
    "supervisely": supervisely,
    "coco_json": coco_json,
    "label_studio_json": label_studio_json,
    "via": via,
    "yolo": yolo,
}
"""The modules that draw labels from annotation files, by `Layout.form`."""
# So many annotation files are looked at again for each call; a change in others shows when one is added or removed.
_WATCHED = 16
_NAMING = (".json", ".csv", ".txt", ".yaml", ".yml")


def recognise(place: Place) -> Layout:
    """Returns the layout that fits a folder best.

    Raises:
        UserError: a folder is missing, or nothing in it looks like images with labels.
    """
    folders = [folder for folder in (place.root, place.image_dir, place.mask_dir) if folder is not None]
    for folder in folders:
        if folder.is_file():
            packed = zipfile.is_zipfile(folder) or tarfile.is_tarfile(folder)
            mend = "This is an archive: unpack it and name the folder." if packed else "Name the folder it lies in."
            raise UserError(f"{folder}: expected a folder, got a file. {mend}")
        if not folder.is_dir():
            content = "images/, masks/ and classes.txt" if folder == place.root else "images or masks"
            raise UserError(f"{folder}: expected a folder with {content}, found no such folder. Correct the path.")
    listed = [trees.list_tree(folder) for folder in folders]
    versions = tuple(tree.version for tree in listed)
    watched = _watched(tuple(folders), versions)
    states = tuple(_state(path) for path in [*watched, *([place.class_file] if place.class_file else [])])
    return _recognised(place, versions, states)


@functools.lru_cache(maxsize=16)
def _watched(folders: tuple[Path, ...], versions: tuple[int, ...]) -> tuple[Path, ...]:
    """Returns the first annotation files, lists and tables."""
    del versions
    files = (file for folder in folders for file in trees.list_tree(folder).files)
    return tuple(itertools.islice((each.path for each in files if each.suffix in _NAMING), _WATCHED))


def _state(path: Path) -> tuple[str, int]:
    try:
        return str(path), os.stat(path).st_mtime_ns
    except OSError:
        return str(path), 0


@functools.lru_cache(maxsize=16)  # each image that is read needs it
def _recognised(place: Place, versions: tuple[int, ...], states: tuple[tuple[str, int], ...]) -> Layout:
    del versions, states
    found = [layout for module in RECOGNISERS if (layout := module.recognise(place)) is not None]
    if not found:
        raise _nothing(place)
    best = max(found, key=lambda layout: layout.confidence)
    masks = [item.labels[0] for item in best.items if item.labels] if best.form == "masks" else []
    return dataclasses.replace(best, first_mask=min([*masks, *best.lone_labels], default=None))


def _nothing(place: Place) -> UserError:
    tree = place.tree()
    images = [file for file in tree.images() if seat_of(file.folders).kind not in ("mask", "look")]
    endings = collections.Counter(file.suffix or "no ending" for file in tree.files)
    listed = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5)) or "no files at all"
    if not images:
        other = [file for file in tree.files if file.suffix in trees.UNREADABLE_SUFFIXES]
        hint = f" {other[0].name} is in a format that is not read: export JPEG or PNG." if other else ""
        return UserError(f"{tree.root}: expected images ({' '.join(SUFFIXES)}), found none ({listed}).{hint}")
    boxes = next((file for file in tree.files if file.suffix == ".xml" and _in_xml(file.path)), None)
    if boxes is not None:
        return UserError(f"{boxes.path}: {_in_xml(boxes.path)}")
    return UserError(
        f"{tree.root}: expected masks or annotation files for the {len(images)} images there, such as images/ beside"
        f" masks/, found none ({listed}). Name the folders with --image_dir and --mask_dir; docs/datasets.md lists the"
        " layouts that are understood."
    )


def _in_xml(path: Path) -> str:
    """Says what an XML file of annotations is and what to export instead, "" where it is none."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if b"<annotations>" in head and b"<meta>" in head:
        return (
            "expected masks, got 'CVAT for images', which is not read. Export the task from CVAT as 'Segmentation mask"
            " 1.1' or 'COCO 1.0'."
        )
    if b"<annotation" in head and b"<bndbox>" in head:
        return (
            "expected masks, got boxes in PASCAL VOC's XML: a box does not say which pixels are meant. Segmentation"
            " needs a mask, or polygons, for each image."
        )
    return ""
