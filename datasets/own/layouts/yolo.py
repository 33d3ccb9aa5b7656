"""YOLO's segmentation labels: a text file for each image, a line for each object, in fractions of the image.

    data.yaml                   names: [disc, box]
    images/train/a.jpg          labels/train/a.txt      0 0.31 0.42 0.35 0.40 ...
    train/images/a.jpg          train/labels/a.txt      Roboflow, also valid/ and test/

A line is the number of a class and the corners of a polygon, x and y in turn. What no polygon covers is background.
Polygons are painted by area, the largest first. An empty file says that there is nothing but background in its image.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deeplab_tf.errors import UserError

from .. import class_document, class_file, drawing
from ..annotations import background_of, label_of
from ..layout import Item, Layout, LeftOut, Place, find_class_file, ids_of, split_lists, split_of
from ..pairing import fold
from ..roles import seat_of
from ..tree import File, Tree, list_tree
from .mask_pairs import unreadable

_LOOKED_AT = 20
_LINE = re.compile(r"\d+(\.0*)?(\s+-?\d*\.?\d+(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)
# Corners on the rim come out a little outside of 0..1.
_SLACK = 0.01


def recognise(place: Place) -> Layout | None:
    """Looks for text files of numbers that are named as images are."""
    tree = place.tree()
    files = list(tree.files)
    if place.mask_dir is not None and place.mask_dir != tree.root:
        files += list_tree(place.mask_dir).files
    by_place: dict[tuple[tuple[str, ...], str], File] = {}
    by_stem: dict[str, list[File]] = {}
    for file in files:
        if file.suffix == ".txt":
            by_place[_key(file)] = file
            by_stem.setdefault(fold(file.stem), []).append(file)
    found: list[tuple[File, File]] = []
    without: list[Path] = []
    for image in tree.images():
        same = by_stem.get(fold(image.stem), [])
        labels = by_place.get(_key(image)) or (same[0] if len(same) == 1 else None)
        if labels is None:
            without.append(image.path)
        else:
            found.append((image, labels))
    filled = [labels.path for _, labels in found if labels.path.stat().st_size]
    if not filled or not all(_is_yolo(path) for path in filled[:_LOOKED_AT]):
        return None
    names, origin = _names(place, tree, filled)
    splits = _named_splits(tree)
    items = [
        Item(image_id, image.path, (labels.path,), _split_of(image, splits), names)
        for image_id, (image, labels) in zip(
            ids_of([(seat_of(image.folders).place, image.stem) for image, _ in found]), found, strict=True
        )
    ]
    used = {labels.path for _, labels in found}
    lone = [file.path for file in files if file.suffix == ".txt" and file.path not in used and _is_yolo(file.path)]
    left_out = [
        LeftOut("they have no label file", tuple(without)),
        LeftOut("label files without an image", tuple(lone)),
        *unreadable(tree.files),
    ]
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    return Layout(
        name="YOLO's segmentation labels",
        confidence=0.76,
        reason="a .txt file of polygons for each image",
        items=tuple(sorted(items)),
        form="yolo",
        class_names=names,
        lists=split_lists(tree.files),
        left_out=tuple(each for each in left_out if each.paths),
        notes=(f"Objects are numbered as in {origin}: {numbered}; polygons are painted by area, the largest first.",),
        num_images=len(tree.images()),
        num_labels=len(found),
    )


def names_in(items: Sequence[Item]) -> list[str]:
    """Returns the names of the classes."""
    return list(items[0].classes) if items else []


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Paints the polygons of an image; see `labelme.draw`. The corners are fractions of `size`."""
    path = item.labels[0]
    if size is None:
        raise UserError(f"{path}: expected the image {item.image_id}, found none.")
    width, height = size
    labels = np.full((height, width), background_of(names), np.uint8)
    regions = []
    for number, words in _lines(path):
        place = f"{path}: line {number}"
        corners, name = _corners(words, place), _name(words[0], item.classes, place)
        inside = drawing.with_holes([(x * width, y * height) for x, y in corners], (), height, width)
        regions.append((-int(np.count_nonzero(inside)), number, label_of(name, names, place), inside))
    for _, _, label, inside in sorted(regions, key=lambda region: region[:2]):
        labels[inside] = label
    return labels


def _key(file: File) -> tuple[tuple[str, ...], str]:
    return seat_of(file.folders).place, fold(file.stem)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Returns the number and the words of each line that has any."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a text file of polygons, cannot read it ({error}).") from None
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _is_yolo(path: Path) -> bool:
    try:
        lines = _lines(path)
    except UserError:
        return False
    return bool(lines) and bool(_LINE.fullmatch(" ".join(lines[0][1])))


def _corners(words: Sequence[str], place: str) -> list[tuple[float, float]]:
    """Reads the corners of a line.

    Raises:
        UserError: it is a box, has an odd number of coordinates, or corners outside the image.
    """
    if len(words) in (5, 6):
        raise UserError(
            f"{place}: expected the corners of a polygon, found a box ({len(words)} numbers): a box does not say which"
            " pixels are meant. Export the labels for segmentation."
        )
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        raise UserError(f"{place}: expected numbers, {error}. Export the labels again.") from None
    if len(numbers) % 2 or len(numbers) < 6:
        raise UserError(
            f"{place}: expected a class and the x and y of three corners or more, got {len(words)} numbers. Export the"
            " labels again."
        )
    if not all(-_SLACK <= number <= 1 + _SLACK for number in numbers):
        worst = max(numbers, key=lambda number: abs(number - 0.5))
        raise UserError(
            f"{place}: expected corners as fractions of the image's width and height, 0 to 1, got {worst:g}. Divide"
            " x by the width and y by the height in pixels."
        )
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _name(word: str, classes: Sequence[str], place: str) -> str:
    number = int(float(word)) if re.fullmatch(r"\d+(\.0*)?", word) else -1
    if not 0 <= number < len(classes):
        raise UserError(
            f"{place}: expected a class number 0..{len(classes) - 1} ({', '.join(classes)[:200]}), got {word}. Name"
            " every class."
        )
    return classes[number]


def _names(place: Place, tree: Tree, filled: Sequence[Path]) -> tuple[tuple[str, ...], str]:
    """Returns the name of each number, and where it stands."""
    whole = list_tree(place.root) if place.root is not None else tree
    data = _data_file(whole)
    if not place.class_names and place.class_file is None and data is not None:
        table = class_file.read(data)
        if set(table.numbers) == set(range(len(table.names))):
            return table.names, data.name
        raise UserError(f"{data}: expected 'names' that are numbered from 0 on, got {sorted(table.numbers)}.")
    path = place.class_file or find_class_file(whole)
    if place.class_names:
        names, origin = place.class_names, "--classes"
    elif path is not None:
        names, origin = class_file.read(path).names, path.name
    else:
        raise UserError(
            f"{tree.root}: expected the names of the classes that its label files number (YOLO's segmentation labels),"
            " found no data.yaml with 'names'. Add it, or give --classes=a,b,c: the name of 0, of 1, of 2."
        )
    # The files number objects; a background that is named as well, as for masks, has no number.
    objects = tuple(name for name in names if not class_file.is_background(name))
    most = max(int(float(words[0])) for path in filled[:_LOOKED_AT] for _, words in _lines(path))
    return (objects if most < len(objects) else tuple(names)), origin


def _data_file(tree: Tree) -> Path | None:
    """Returns the YAML file with the names of the classes, None where there is none."""
    found = [file for file in tree.files if file.suffix in (".yaml", ".yml")]
    for file in sorted(found, key=lambda file: (len(file.folders), file.stem.casefold() not in ("data", "dataset"))):
        content = _content(file.path, file.path.stat().st_mtime_ns)
        if isinstance(content, dict) and "names" in content:
            return file.path
    return None


@functools.lru_cache(maxsize=8)
def _content(path: Path, changed: int) -> Any:
    del changed
    try:
        return class_document.load(path)
    except UserError:
        return None  # another program's file


def _named_splits(tree: Tree) -> list[tuple[tuple[str, ...], str]]:
    """Returns the folders of images that data.yaml names ("train: images/2017"), and their splits."""
    data = _data_file(tree)
    content = _content(data, data.stat().st_mtime_ns) if data is not None else {}
    named = []
    for key in ("train", "val", "valid", "test"):
        listed = content.get(key)
        for entry in listed if isinstance(listed, list) else [listed]:
            parts = tuple(part for part in PurePosixPath(str(entry or "")).parts if part not in (".", "..", "/"))
            if parts:
                named.append((parts, split_of([key])))
    return named


def _split_of(image: File, named: Sequence[tuple[tuple[str, ...], str]]) -> str:
    """Returns the split that the name of a folder says, or else data.yaml."""
    said = split_of([re.sub(r"\d+$", "", folder) for folder in image.folders])
    depth = len(image.folders)
    return said or next((split for parts, split in named if parts[-depth:] == image.folders[: len(parts)]), "")
