"""Supervisely's project format, a JSON file for each image.

    meta.json
    DATASET/img/a.jpg       DATASET/ann/a.jpg.json

Bitmaps, polygons (with holes) and rectangles are drawn in the order of the file, the later ones in front. Data sets
called train, val or test are splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_tf.errors import UserError

from ...messages import some
from .. import drawing
from ..annotations import background_of, label_of, malformed, read_json
from ..layout import Item, Layout, LeftOut, Place, ids_of, split_of
from ..pairing import fold
from ..tree import IMAGE_SUFFIXES
from .mask_pairs import unreadable

_TOOL = "Supervisely"
_DRAWN = ("bitmap", "polygon", "rectangle")


def recognise(place: Place) -> Layout | None:
    """Looks for folders img/ and ann/ side by side, and meta.json."""
    if place.is_one_split:
        return None
    tree = place.tree()
    documents = [
        file for file in tree.files if file.suffix == ".json" and file.folders and file.folders[-1].casefold() == "ann"
    ]
    metas = tree.named("meta.json")
    if not documents or not metas:
        return None
    images = {
        (file.folders[:-1], fold(file.name)): file
        for file in tree.files
        if file.folders and file.folders[-1].casefold() == "img" and file.suffix in IMAGE_SUFFIXES
    }
    by_stem = {(folders, fold(file.stem)): file for (folders, _), file in images.items()}
    meta = metas[0].path
    found = [
        (file, images.get((file.folders[:-1], fold(file.stem))) or by_stem.get((file.folders[:-1], fold(file.stem))))
        for file in documents
    ]
    used = {image.path for _, image in found if image is not None}
    where = [(file.folders[:-1], image.stem if image is not None else file.stem) for file, image in found]
    items = [
        Item(image_id, image.path, (file.path,), split_of(file.folders))
        for image_id, (file, image) in zip(ids_of(where), found, strict=True)
        if image is not None
    ]
    without = tuple(file.path for file in images.values() if file.path not in used)
    left_out = [LeftOut("they have no annotation file", without), *unreadable(tree.files)]
    return Layout(
        name="Supervisely's project",
        confidence=0.9,
        reason="meta.json, and img/ beside ann/",
        items=tuple(sorted(items)),
        form="supervisely",
        class_file=place.class_file,
        class_names=_names(meta),
        left_out=tuple(each for each in left_out if each.paths),
        lone_labels=tuple(file.path for file, image in found if image is None),
        num_images=len(images),
        num_labels=len(documents),
    )


def _names(meta: Any) -> tuple[str, ...]:
    document = read_json(meta)
    try:
        return tuple(str(each["title"]) for each in document["classes"])
    except (KeyError, TypeError) as error:
        raise malformed(str(meta), _TOOL, error) from None


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Draws the objects of an image; see `labelme.draw`."""
    path = item.labels[0]
    document = read_json(path)
    try:
        height, width = document["size"]["height"], document["size"]["width"]
        objects = document["objects"]
        labels = np.full((height, width), background_of(names), np.uint8)
        kinds = [str(each["geometryType"]) for each in objects]
        titles = [str(each["classTitle"]) for each in objects]
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise malformed(str(path), _TOOL, error) from None
    unknown = sorted(set(kinds) - set(_DRAWN))
    if unknown:
        raise UserError(
            f"{path}: expected shapes with an inside ({', '.join(_DRAWN)}), got {some(unknown)}. Convert these"
            " objects to bitmaps in Supervisely, or delete them."
        )
    for number, (each, kind, title) in enumerate(zip(objects, kinds, titles, strict=True)):
        label = label_of(title, names, f"{path}: object {number}")
        try:
            labels[_inside(each, kind, height, width)] = label
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise malformed(f"{path}: object {number}", _TOOL, error) from None
    return labels


def _inside(each: dict[str, Any], kind: str, height: int, width: int) -> np.ndarray:
    if kind == "bitmap":
        left, top = each["bitmap"]["origin"]
        piece = drawing.decode_bitmap(each["bitmap"]["data"], compressed=True)
        return drawing.placed(piece, int(left), int(top), height, width)
    exterior = drawing.points_of(each["points"]["exterior"])
    if kind == "rectangle":
        return drawing.with_outline(kind, exterior, height, width)
    interior = [drawing.points_of(hole) for hole in each["points"].get("interior", ())]
    if len(exterior) < 3:
        raise ValueError(f"polygon of {len(exterior)} points")
    return drawing.with_holes(exterior, interior, height, width)
