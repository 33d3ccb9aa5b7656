"""The VGG Image Annotator's JSON, one file for many images: a project, or "annotations as JSON".

    a.jpg  b.jpg  via_region_data.json          also train/ and val/, each with a file

Polygons, rectangles, circles and ellipses are painted in the order of the file, the later ones in front. What nothing
is drawn on is background. Each region's class is its one attribute, or the one that is called label, class, name or
type; regions without any attribute are all of one class.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from deeplab_tf.errors import UserError

from ...messages import some
from .. import drawing
from ..annotations import background_of, label_of, malformed, read_json
from ..class_file import is_background
from ..layout import Item, Layout, LeftOut, Place, find_class_file, ids_of, split_of
from ..pairing import fold
from ..roles import seat_of
from ..tree import File
from .mask_pairs import unreadable

_TOOL = "the VGG Image Annotator"
_DRAWN = ("polygon", "rect", "circle", "ellipse")
_CALLED = ("label", "class", "name", "type", "category", "object", "class_name")
_ONE_CLASS = "object"


class _Described(NamedTuple):
    """What a file says of an image: its name, and the shape and the attributes of each region."""

    name: str
    regions: list[tuple[dict[str, Any], dict[str, Any]]]


def recognise(place: Place) -> Layout | None:
    """Looks for JSON files with regions and their shape attributes."""
    tree = place.tree()
    documents = [file for file in tree.files if file.suffix == ".json" and _looks_like(file.path)]
    if not documents:
        return None
    images: dict[str, list[File]] = {}
    for image in tree.images():
        images.setdefault(fold(image.name), []).append(image)
    found: list[tuple[File, Path]] = []
    problems: list[str] = []
    for document in documents:
        for key, (name, regions) in _open(document.path).items():
            same = images.get(key, [])
            fitting = [image for image in same if image.folders == document.folders] or same
            if fitting and regions:
                found.append((fitting[0], document.path))
            elif regions:
                problems.append(f"{document.path}: expected the image {name!r}, found none of this name.")
    where = [(seat_of(image.folders).place, image.stem) for image, _ in found]
    items = [
        Item(image_id, image.path, (document,), split_of(image.folders))
        for image_id, (image, document) in zip(ids_of(where), found, strict=True)
    ]
    used = {image.path for image, _ in found}
    left_out = [
        LeftOut("nothing is annotated in them", tuple(each.path for each in tree.images() if each.path not in used)),
        *unreadable(tree.files),
    ]
    return Layout(
        name="the VGG Image Annotator's JSON",
        confidence=0.77,
        reason=f"{some([file.name for file in documents], 3)} with regions",
        items=tuple(sorted(items)),
        form="via",
        class_file=place.class_file or find_class_file(tree),
        left_out=tuple(each for each in left_out if each.paths),
        problems=tuple([*problems[:20], *([f"and {len(problems) - 20} more images"] if len(problems) > 20 else [])]),
        num_images=len(tree.images()),
        num_labels=len(found),
    )


def names_in(items: Sequence[Item]) -> list[str]:
    """Returns the classes of all regions, sorted."""
    found: set[str] = set()
    for path in sorted({item.labels[0] for item in items}):
        for name, regions in _open(path).values():
            for number, (_, attributes) in enumerate(regions):
                found.add(_class_of(attributes, f"{path}: {name}: region {number}") or _ONE_CLASS)
    return sorted(found)


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Paints the regions of an image; see `labelme.draw`."""
    path = item.labels[0]
    if size is None or item.image is None:
        raise UserError(f"{path}: expected the image {item.image_id}, found none.")
    width, height = size
    labels = np.full((height, width), background_of(names), np.uint8)
    objects = [name for name in names if not is_background(name)]
    for number, (shape, attributes) in enumerate(_open(path)[fold(item.image.name)].regions):
        place = f"{path}: {item.image.name}: region {number}"
        name = _class_of(attributes, place) or (objects[0] if len(objects) == 1 else _ONE_CLASS)
        kind = str(shape.get("name"))
        if kind not in _DRAWN:
            raise UserError(
                f"{place}: expected a shape with an inside ({', '.join(_DRAWN)}), got {kind!r}. Draw the object as a"
                " polygon, or delete the region."
            )
        label = label_of(name, names, place)
        try:
            labels[_inside(kind, shape, height, width)] = label
        except (KeyError, ValueError, TypeError) as error:
            raise malformed(place, _TOOL, error) from None
    return labels


def _inside(kind: str, shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    if kind == "polygon":
        points = drawing.points_of(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
        if len(points) < 3:
            raise ValueError(f"polygon of {len(points)} points")
        return drawing.with_holes(points, (), height, width)
    if kind == "rect":
        left, top, w, h = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return drawing.with_outline("rectangle", [(left, top), (left + w, top + h)], height, width)
    centre = round(float(shape["cx"])), round(float(shape["cy"]))
    axes = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
    canvas = np.zeros((height, width), np.uint8)
    angle = np.degrees(float(shape.get("theta", 0)))
    cv2.ellipse(canvas, centre, (round(float(axes[0])), round(float(axes[1]))), angle, 0, 360, 1, -1)
    return canvas == 1


def _class_of(attributes: dict[str, Any], place: str) -> str:
    """Returns the class that a region's attributes say, "" where it has none.

    Raises:
        UserError: several attributes, and nothing says which one is the class.
    """
    said = {str(key): value for key, value in attributes.items() if value not in ("", None, {})}
    if not said:
        return ""
    key = next(iter(said)) if len(said) == 1 else next((k for k in said if k.casefold() in _CALLED), "")
    value = said.get(key)
    if isinstance(value, dict):  # a checkbox: {"disc": true}
        chosen = [name for name, is_on in value.items() if is_on]
        value = chosen[0] if len(chosen) == 1 else None
    if not isinstance(value, (str, int)):
        raise UserError(
            f"{place}: expected one class, got the attributes {some([f'{k}={v}' for k, v in said.items()], 4)}. Call"
            " the attribute of the class 'label'."
        )
    return str(value).strip()


def _looks_like(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(1 << 20)
    return b'"shape_attributes"' in head and b'"regions"' in head


def _open(path: Path) -> dict[str, _Described]:
    """Returns what is said of each image, by its folded file name.

    Raises:
        UserError: the file is damaged.
    """
    state = os.stat(path)
    return _opened(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, changed: int, size: int) -> dict[str, _Described]:
    del changed, size
    content = read_json(path)
    try:
        content = content.get("_via_img_metadata", content)
        found: dict[str, _Described] = {}
        for entry in content.values():
            regions = entry["regions"]
            listed = list(regions.values()) if isinstance(regions, dict) else regions
            name = Path(str(entry["filename"]).replace("\\", "/")).name
            found.setdefault(fold(name), _Described(name, [])).regions.extend(
                (dict(each["shape_attributes"]), dict(each.get("region_attributes") or {})) for each in listed
            )
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise malformed(str(path), _TOOL, error) from None
