"""Label Studio's JSON export: brush strokes, polygons, rectangles and ellipses of each task.

    project.json, and the images anywhere below the root

Regions are drawn in the order of the file, the later ones in front. Of several annotations of a task the first that was
not cancelled counts. What nothing is drawn on is background.
"""

from __future__ import annotations

import collections
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from deeplab_tf.errors import UserError

from ...messages import some
from .. import drawing
from ..annotations import background_of, label_of, malformed, read_json
from ..layout import Item, Layout, LeftOut, Place, find_class_file, ids_of, split_lists
from ..pairing import fold
from ..tree import File
from .mask_pairs import unreadable

_TOOL = "Label Studio"
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_DRAWN = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
_NOT_DRAWN = ("keypointlabels", "labels", "choices", "textarea", "rating", "relation", "brush", "polygon", "rectangle")


def recognise(place: Place) -> Layout | None:
    """Looks for a JSON file that is a list of tasks with annotations."""
    tree = place.tree()
    documents = [file for file in tree.files if file.suffix == ".json" and _tasks(file.path)]
    if not documents:
        return None
    document = documents[0]
    by_name: dict[str, list[File]] = collections.defaultdict(list)
    for file in tree.images():
        by_name[fold(file.name)].append(file)
        by_name[fold(_UPLOAD.sub("", file.name))].append(file)
    found: list[File] = []
    skipped: list[Path] = []
    missing = []
    for task in _tasks(document.path):
        image = _image_of(task, by_name)
        if image is None:
            missing.append(f"{document.path}: task {task.get('id')}: expected its image below {tree.root}, found none.")
        elif _results(task) is None:
            skipped.append(image.path)
        else:
            found.append(image)
    ids = ids_of([(file.folders, file.stem) for file in found])
    used = {file.path for file in found} | set(skipped)
    left_out = [
        LeftOut("their tasks have no annotation", tuple(skipped)),
        LeftOut("no task is about them", tuple(file.path for file in tree.images() if file.path not in used)),
        LeftOut("other exports", tuple(file.path for file in documents[1:])),
        *unreadable(tree.files),
    ]
    return Layout(
        name="Label Studio's JSON export",
        confidence=0.77,
        reason=f"{document.name} is a list of tasks with annotations",
        items=tuple(
            sorted(Item(image_id, file.path, (document.path,)) for image_id, file in zip(ids, found, strict=True))
        ),
        form="label_studio_json",
        class_file=place.class_file or find_class_file(tree),
        lists=split_lists(tree.files),
        left_out=tuple(each for each in left_out if each.paths),
        problems=tuple(missing[:20]),
        num_images=len(tree.images()),
        num_labels=len(found),
    )


def names_in(items: Sequence[Item]) -> list[str]:
    """Returns the labels of all regions, sorted."""
    found = set()
    for path in {item.labels[0] for item in items}:
        for task in _tasks(path):
            for region in _results(task) or ():
                kind = str(region.get("type"))
                if kind in _DRAWN:
                    found |= {str(name).strip() for name in region.get("value", {}).get(kind, ())}
    return sorted(found)


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Draws the regions of an image; see `labelme.draw`."""
    path = item.labels[0]
    if item.image is None:
        raise UserError(f"{path}: expected the image {item.image_id}, found none.")
    task = _by_image(path, os.stat(path).st_mtime_ns)[_plain(item.image.name)]
    place = f"{path}: task {task.get('id')}"
    regions = [each for each in _results(task) or () if str(each.get("type")) not in _NOT_DRAWN]
    unknown = sorted({str(each.get("type")) for each in regions} - set(_DRAWN))
    if unknown:
        raise UserError(
            f"{place}: expected regions of the kinds {', '.join(_DRAWN)}, got {some(unknown)}. Delete these."
        )
    try:
        width, height = next(
            ((int(each["original_width"]), int(each["original_height"])) for each in regions), size or (0, 0)
        )
        labels = np.full((height, width), background_of(names), np.uint8)
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise malformed(place, _TOOL, error) from None
    for number, each in enumerate(regions):
        where = f"{place}: region {number}"
        try:
            value = each["value"]
            said = value[each["type"]]
            if len(said) != 1:
                raise ValueError(f"{len(said)} labels in one region")
            inside = _inside(each["type"], value, height, width, float(each.get("image_rotation") or 0))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise malformed(where, _TOOL, error) from None
        labels[inside] = label_of(str(said[0]), names, where)
    return labels


def decode_strokes(numbers: Sequence[int]) -> np.ndarray:
    """Decodes Label Studio's run lengths, a stream of bits in bytes, to uint8 values.

    The stream starts with the number of values (32 bits), the bits of a value less one (5) and four sizes of run
    lengths less one (4 each). Then follow runs: whether one value is repeated (1), which size the length has (2), the
    length less one, and the value or the values.

    Raises:
        ValueError: the stream ends too early, or claims too much.
    """
    bits = np.unpackbits(np.array(numbers, np.uint8))
    position = 0

    def read(count: int) -> int:
        nonlocal position
        if position + count > len(bits):
            raise ValueError("brush strokes that end too early")
        number = 0
        for bit in bits[position : position + count].tolist():
            number = number << 1 | bit
        position += count
        return number

    total = read(32)
    word = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total > 1 << 30 or word > 8:
        raise ValueError(f"brush strokes of {total} values")
    out = np.zeros(total, np.uint8)
    start = 0
    while start < total:
        repeated = read(1)
        stop = start + 1 + read(sizes[read(2)])
        if stop > total:
            raise ValueError("brush strokes that run over their end")
        if repeated:
            out[start:stop] = read(word)
        else:
            for place in range(start, stop):
                out[place] = read(word)
        start = stop
    return out


def _inside(kind: str, value: dict[str, Any], height: int, width: int, rotation: float) -> np.ndarray:
    if kind == "brushlabels":
        if value.get("format") != "rle":
            raise ValueError(f"brush strokes in the format {value.get('format')!r}")
        pixels = decode_strokes(value["rle"])
        if len(pixels) != height * width * 4:
            raise ValueError(f"brush strokes of {len(pixels) // 4} pixels for {height * width}")
        return pixels.reshape(height, width, 4)[:, :, 3] > 0
    scale = np.array([width, height]) / 100
    if kind == "polygonlabels":
        # Rounded, so that 20 is not 19.999 after it was a percentage.
        points = np.round(np.array(drawing.points_of(value["points"])) * scale, 6)
        if len(points) < 3:
            raise ValueError(f"polygon of {len(points)} points")
        return drawing.with_outline("polygon", [(x, y) for x, y in points.tolist()], height, width)
    rotation = float(value.get("rotation") or 0) + rotation
    if kind == "rectanglelabels":
        left, top = value["x"] * scale[0], value["y"] * scale[1]
        sides = np.array([value["width"] * scale[0], value["height"] * scale[1]])
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides
        angle = np.deg2rad(rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = np.round(corners @ turn.T + [left, top], 6)
        return drawing.with_outline("polygon", [(x, y) for x, y in points.tolist()], height, width)
    canvas = np.zeros((height, width), np.uint8)
    centre = (value["x"] * scale[0], value["y"] * scale[1])
    axes = (2 * value["radiusX"] * scale[0], 2 * value["radiusY"] * scale[1])
    cv2.ellipse(canvas, (centre, axes, rotation), 1, cv2.FILLED)
    return canvas == 1


def _tasks(path: Path) -> list[dict[str, Any]]:
    """Returns the tasks of a file; none where it is another kind of file."""
    try:
        state = os.stat(path)
    except OSError:
        return []
    return _read_tasks(path, state.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_tasks(path: Path, changed: int) -> list[dict[str, Any]]:
    del changed
    with open(path, "rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
            return []
    try:
        content = read_json(path)
    except UserError:
        return []
    tasks = [each for each in content if isinstance(each, dict) and "data" in each and "annotations" in each]
    return tasks if tasks and len(tasks) == len(content) else []


def _results(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the regions of the annotation that counts; None where there is none."""
    for annotation in task.get("annotations") or ():
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            return [each for each in annotation.get("result") or () if isinstance(each, dict)]
    return None


def _image_of(task: dict[str, Any], by_name: dict[str, list[File]]) -> File | None:
    data = task["data"]
    for value in data.values() if isinstance(data, dict) else ():
        name = PurePosixPath(str(value).split("?")[0]).name
        for candidate in (fold(name), fold(_UPLOAD.sub("", name))):
            files = by_name.get(candidate, [])
            if len({file.path for file in files}) == 1:
                return files[0]
    return None


def _plain(name: str) -> str:
    return fold(_UPLOAD.sub("", name))


@functools.lru_cache(maxsize=4)
def _by_image(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    del changed
    found = {}
    for task in _tasks(path):
        for value in task["data"].values():
            found[_plain(PurePosixPath(str(value).split("?")[0]).name)] = task
    return found
