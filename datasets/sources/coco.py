"""MS-COCO's instances as PASCAL VOC's 21 classes, for pretraining.

Layout, below --root, with YEAR 2014 or 2017 (--year where both are there):

    annotations/instances_{train,val}YEAR.json
    {train,val}YEAR/FILE.jpg

An image is taken if it shows an object of VOC's 20 classes that is not a crowd. What is in front of what COCO does not
say: objects are painted by area, the largest first, so that a bottle stays in front of its table. Objects of other
classes are background, or part of what they lie on, as in VOC. A region annotated as a crowd of one of the
classes is ignored, except where an object is drawn in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

from ..own.layouts import coco_json
from ..raw import files as raw_files
from ..source import Example, Source
from . import coco_index, voc12

# COCO's name of each of VOC's classes that has another one there.
_OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
LABELS = {_OTHER_NAMES.get(name, name): label for label, name in enumerate(voc12.CLASS_NAMES) if label > 0}
INFO = DatasetInfo(name="coco", class_names=voc12.CLASS_NAMES, palette=pascal_palette(len(voc12.CLASS_NAMES)))

_SPLITS = ("train", "val")
_YEARS = (2014, 2017)
# COCO's list of 80 categories has 7 KB.
_CATEGORY_BYTES = 1 << 18
# Annotations are drawn by hand on enlarged images: corners may lie a little outside.
_TOLERANCE_PIXELS = 2.0


def resolve(source: Source) -> tuple[str, Source]:
    """Returns the data set that reads this folder: "folder" where its JSON has its own categories.

    Raises:
        UserError: there is no annotation file.
    """
    if source.root and not source.year and Path(source.root).is_dir():
        official = [
            Path(source.root, "annotations", f"instances_{split}{year}.json") for year in _YEARS for split in _SPLITS
        ]
        there = [path for path in official if path.is_file()]
        if not (there and all(map(_has_cocos_categories, there))):
            others = [path for path in Path(source.root).rglob("*.json") if coco_json.looks_like(path)]
            if others:
                return "folder", source
    return "coco", source


def _has_cocos_categories(path: Path) -> bool:
    """Says whether a file has COCO's names; they stand at its beginning or its end."""
    try:
        with open(path, "rb") as file:
            head = file.read(_CATEGORY_BYTES)
            file.seek(max(0, path.stat().st_size - _CATEGORY_BYTES))
            text = re.sub(rb"\s+", b" ", head + file.read(_CATEGORY_BYTES))
    except OSError:
        return True  # reading it says what is wrong
    named = all(re.search(rb'"name" ?: ?"%s"' % re.escape(name.encode()), text) for name in LABELS)
    return named or b'"categories"' not in text


def info(source: Source) -> DatasetInfo:
    """Returns VOC's 21 classes; they do not depend on the files."""
    del source
    return INFO


def splits(source: Source) -> list[str]:
    """Returns the splits that have an annotation file.

    Raises:
        UserError: there is none, or one of several years.
    """
    year = _year(source)
    return [split for split in _SPLITS if _annotation_path(source, split, year).is_file()]


def ids(source: Source, split: str) -> list[str]:
    """Returns the images of a split that show one of the classes: file names without ending, sorted.

    Raises:
        UserError: an unknown split, or its annotations are missing or damaged.
    """
    return _index(source, split).labelled_stems()


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and paints its objects.

    Raises:
        UserError: the image is missing, damaged, or of another size than the annotations say, or an annotation is
            malformed, empty or outside the image.
    """
    index = _index(source, split)
    picture = index.picture(image_id)
    annotation_path = _annotation_path(source, split, _year(source))
    image_path = Path(source.root) / f"{split}{_year(source)}" / picture.file_name
    size = raw_files.read_size(image_path)
    if size != (picture.width, picture.height):
        raise UserError(
            f"{annotation_path}: {image_id}: expected the size of the image, {size[0]}x{size[1]} (width x height) as in"
            f" {image_path}, got {picture.width}x{picture.height}. Copy the image again, or correct its size there."
        )
    labels = paint(index.annotations(image_id), picture.height, picture.width, f"{annotation_path}: {image_id}")
    return raw_files.build_example(image_id, image_path, labels, annotation_path)


def paint(
    annotations: Sequence[coco_index.Annotation], height: int, width: int, place: str, background: int = 0
) -> np.ndarray:
    """Draws annotated objects on background.

    Args:
        annotations: the objects, and the crowds.
        height: H.
        width: W.
        place: where they come from, for messages.
        background: the label of what no object covers.

    Returns:
        uint8 [H, W]: `background`, else labels; 255 in crowds. Of two objects the smaller one is in front, of two of
        one area the later one.

    Raises:
        UserError: an annotation is malformed, empty or outside the image.
    """
    labels = np.full((height, width), background, np.uint8)
    objects = []
    for annotation in annotations:
        number, segmentation = annotation.content["id"], annotation.content["segmentation"]
        mask = decode_segmentation(segmentation, height, width, f"{place}: annotation {number}")
        if annotation.crowd:
            labels[mask] = IGNORE_LABEL
        else:
            objects.append((annotation.label, mask))
    for label, mask in sorted(objects, key=lambda drawn: -np.count_nonzero(drawn[1])):
        labels[mask] = label
    return labels


def decode_segmentation(segmentation: Any, height: int, width: int, place: str) -> np.ndarray:
    """Draws one segmentation.

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, ...], or {"size": [H, W], "counts": run lengths}, the run
            lengths, column by column, as a list or in COCO's compressed form.
        height: H.
        width: W.
        place: where it comes from, for messages.

    Returns:
        bool [H, W].

    Raises:
        UserError: it is malformed, empty or outside the image.
    """
    if isinstance(segmentation, dict):
        return _decode_run_lengths(segmentation, height, width, place)
    if not isinstance(segmentation, list) or not segmentation:
        raise UserError(
            f"{place}: expected polygons or run lengths, got"
            f" {_shown(segmentation)}{' (it has no segmentation)' if segmentation is None else ''}. Remove the"
            " annotation."
        )
    return _draw_polygons([_checked_polygon(polygon, height, width, place) for polygon in segmentation], height, width)


def _draw_polygons(polygons: Sequence[list[float]], height: int, width: int) -> np.ndarray:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "coco: expected the package pycocotools, which draws COCO's polygons, found none."
            " Install it: pip install -r requirements.txt -c constraints.txt"
        ) from None
    # Of two corners or fewer there is no inside, and four numbers would be taken for a box.
    drawable = [polygon for polygon in polygons if len(polygon) >= 6]
    if not drawable:
        return np.zeros((height, width), bool)
    return mask.decode(mask.merge(mask.frPyObjects(drawable, height, width))).astype(bool)


def _checked_polygon(polygon: Any, height: int, width: int, place: str) -> list[float]:
    try:
        corners = np.array(polygon, np.float64)
    except (TypeError, ValueError):
        corners = np.zeros(0)
    if corners.ndim != 1 or not corners.size or corners.size % 2:
        raise UserError(
            f"{place}: expected a polygon [x0, y0, x1, y1, ...], got {_shown(polygon)}. Remove the annotation."
        )
    x, y = corners[0::2], corners[1::2]
    inside = (np.minimum(x, y) >= -_TOLERANCE_PIXELS) & (x <= width + _TOLERANCE_PIXELS)
    inside &= y <= height + _TOLERANCE_PIXELS
    if not inside.all():
        worst = int(np.argmin(inside))
        raise UserError(
            f"{place}: expected a polygon inside its image of {width}x{height} (width x height), got a corner at"
            f" ({x[worst]:g}, {y[worst]:g}). Correct the annotation, or the size that the file gives for the image."
        )
    return corners.tolist()


def _decode_run_lengths(segmentation: dict[str, Any], height: int, width: int, place: str) -> np.ndarray:
    # Not by pycocotools: it takes run lengths that are too short for the image, and returns what was in memory.
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise UserError(
            f"{place}: expected run lengths for its image of {[height, width]} (height, width), got {_shown(size)}."
            " Correct the annotation, or the size that the file gives for the image."
        )
    runs: list[Any] = _expand_counts(counts) if isinstance(counts, str) else counts if isinstance(counts, list) else []
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        raise UserError(
            f"{place}: expected run lengths that add up to {height * width} pixels, got {_shown(counts)}."
            " Remove the annotation."
        )
    values = np.arange(len(runs)) % 2 == 1  # the first run is outside the object
    return np.repeat(values, runs).reshape(width, height).T


def _expand_counts(counts: str) -> list[int]:
    """Takes COCO's compressed run lengths apart.

    A character holds five bits, least significant first, and whether more of the number follow; the last bit is its
    sign. From the fourth number on, numbers are differences from the last but one.

    Returns:
        The run lengths; with a negative one if the text is malformed.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else [-1]


def _shown(value: Any) -> str:
    """Returns the beginning of what a file says, for messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _index(source: Source, split: str) -> coco_index.Index:
    if split not in _SPLITS:
        raise UserError(f"coco has the splits {', '.join(_SPLITS)}, got {split!r}. Correct --splits.")
    path = _annotation_path(source, split, _year(source))
    return coco_index.open_index(path, tuple(LABELS.items()), source.scratch)


def _year(source: Source) -> int:
    """Returns the year that --year names, or the only one that is there."""
    if not source.root:
        raise UserError("coco needs --root=FOLDER, the folder that holds annotations and the images.")
    if not Path(source.root).is_dir():
        raise UserError(f"--root={source.root}: expected the folder that holds annotations, found no such folder.")
    if source.year:
        if source.year not in _YEARS:
            raise UserError(f"--year: expected {' or '.join(map(str, _YEARS))}, got {source.year}.")
        return source.year
    found = [year for year in _YEARS if any(_annotation_path(source, split, year).is_file() for split in _SPLITS)]
    if len(found) != 1:
        state = f"those of {' and '.join(map(str, found))}: choose one with --year" if found else "no such file"
        raise UserError(
            f"--root={source.root}: expected annotations/instances_train2017.json or the like below it, found {state}."
        )
    return found[0]


def _annotation_path(source: Source, split: str, year: int) -> Path:
    return Path(source.root) / "annotations" / f"instances_{split}{year}.json"
