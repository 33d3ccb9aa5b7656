"""labelme's JSON files, one beside each image; also with the image inside.

    images/a.jpg    images/a.json

Polygons, rectangles, circles and masks are drawn as labelme draws them, the later ones in front. "__ignore__" is what
does not count, and what nothing is drawn on is background.
"""

from __future__ import annotations

import base64
import binascii
import collections
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from deeplab_tf.errors import UserError

from ...messages import some
from .. import drawing
from ..annotations import background_of, label_of, malformed, read_json
from ..layout import Item, Layout, LeftOut, Place, find_class_file, ids_of, split_lists, split_of
from ..pairing import fold
from ..roles import seat_of
from ..tree import File, list_tree
from .mask_pairs import unreadable

_TOOL = "labelme"
_DRAWN = ("polygon", "rectangle", "circle", "mask")
_LOOKED_AT = 5


def recognise(place: Place) -> Layout | None:
    """Looks for JSON files with labelme's "shapes"."""
    tree = place.tree()
    files = list(tree.files)
    if place.mask_dir is not None and place.mask_dir != tree.root:
        files += list_tree(place.mask_dir).files
    documents = [file for file in files if file.suffix == ".json"]
    if not any(_is_labelme(file.path) for file in documents[:_LOOKED_AT]):
        return None
    images: dict[str, list[File]] = collections.defaultdict(list)
    for file in tree.images():
        images[fold(file.stem)].append(file)
    found: list[tuple[File, Path | None]] = []
    used: set[Path] = set()
    others = []
    for document in documents:
        image = _beside(document, images)
        if image is None and not _is_labelme(document.path):
            others.append(document.path)
            continue
        if image is None:
            image = _by_name(document.path, tree.images())
        found.append((document, image))
        if image is not None:
            used.add(image)
    where = [(seat_of(document.folders).place, document.stem) for document, _ in found]
    items = [
        Item(image_id, image, (document.path,), split_of(document.folders))
        for image_id, (document, image) in zip(ids_of(where), found, strict=True)
    ]
    without = tuple(file.path for file in tree.images() if file.path not in used)
    left_out = [
        LeftOut("they have no annotation file", without),
        LeftOut("other JSON files", tuple(others)),
        *unreadable(tree.files),
    ]
    return Layout(
        name="labelme's JSON files",
        confidence=0.75,
        reason="JSON files with 'shapes'",
        items=tuple(sorted(items)),
        form="labelme",
        class_file=place.class_file or find_class_file(list_tree(place.root) if place.root else tree),
        lists=split_lists(tree.files),
        left_out=tuple(each for each in left_out if each.paths),
        num_images=len(tree.images()),
        num_labels=len(found),
    )


def names_in(items: Sequence[Item]) -> list[str]:
    """Returns the labels of all shapes, sorted."""
    found: set[str] = set()
    for item in items:
        try:
            found |= {str(shape["label"]).strip() for shape in _shapes(item.labels[0])}
        except UserError:
            continue  # drawing says what is wrong
    return sorted(found)


def image_bytes(path: Path) -> bytes:
    """Returns the image that a file holds.

    Raises:
        UserError: it holds none.
    """
    document = read_json(path)
    try:
        data = base64.b64decode(document.get("imageData") or "", validate=False)
    except (binascii.Error, TypeError, ValueError, AttributeError):
        data = b""
    if not data:
        name = document.get("imagePath") if isinstance(document, dict) else None
        raise UserError(
            f"{path}: expected its image {name!r} beside it, or inside it (imageData), found neither. Copy the image"
            " there."
        )
    return data


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Draws the shapes of an image.

    Args:
        item: with one JSON file.
        names: of the classes.
        size: (width, height) of the image as it stands upright; None for what the file says.

    Returns:
        uint8 [H, W], of the size that the file gives.

    Raises:
        UserError: the file is damaged, has a label that is no class, or a shape that has no inside.
    """
    path = item.labels[0]
    shapes = _shapes(path)
    document = read_json(path)
    try:
        width, height = (document.get("imageWidth"), document.get("imageHeight"))
        if not (isinstance(width, int) and isinstance(height, int)):
            if size is None:
                raise ValueError("no imageWidth and imageHeight")
            width, height = size
        labels = np.full((height, width), background_of(names), np.uint8)
    except (ValueError, MemoryError) as error:
        raise malformed(str(path), _TOOL, error) from None
    unknown = sorted({str(shape.get("shape_type")) for shape in shapes} - {*_DRAWN, "None"})
    if unknown:
        count = sum(str(shape.get("shape_type")) in unknown for shape in shapes)
        raise UserError(
            f"{path}: expected shapes with an inside ({', '.join(_DRAWN)}), got {some(unknown)} in {count} of"
            f" {len(shapes)} shapes. Draw these objects as polygons, or delete the shapes."
        )
    for number, shape in enumerate(shapes):
        label = label_of(str(shape["label"]), names, f"{path}: shape {number}")
        try:
            labels[_inside(shape, height, width)] = label
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise malformed(f"{path}: shape {number}", _TOOL, error) from None
    return labels


def _inside(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    kind = shape.get("shape_type") or "polygon"
    points = drawing.points_of(shape["points"])
    if kind == "mask":
        (left, top), _ = points
        piece = drawing.decode_bitmap(shape["mask"], compressed=False)
        return drawing.placed(piece, round(left), round(top), height, width)
    return drawing.with_outline(kind, points, height, width)


def _shapes(path: Path) -> list[dict[str, Any]]:
    document = read_json(path)
    try:
        shapes = document["shapes"]
        if not all(isinstance(shape, dict) and "label" in shape for shape in shapes):
            raise KeyError("label")
        return list(shapes)
    except (KeyError, TypeError) as error:
        raise malformed(str(path), _TOOL, error) from None


def _is_labelme(path: Path) -> bool:
    try:
        document = read_json(path)
    except UserError:
        return False
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def _beside(document: File, images: dict[str, list[File]]) -> Path | None:
    """Returns the image of the same name: in the same folder, or the only one there is."""
    same = images.get(fold(document.stem), [])
    near = [file for file in same if file.path.parent == document.path.parent]
    if len(near) == 1:
        return near[0].path
    return same[0].path if len(same) == 1 else None


def _by_name(path: Path, images: Sequence[File]) -> Path | None:
    """Returns the image that the file names."""
    try:
        name = PureWindowsPath(str(read_json(path)["imagePath"])).name  # also takes "/"
    except (UserError, KeyError, TypeError):
        return None
    same = [file.path for file in images if fold(file.name) == fold(name)]
    return same[0] if len(same) == 1 else None
