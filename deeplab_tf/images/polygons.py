"""From labels to outlines of their regions, as polygons along the borders of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

Ring = list[tuple[int, int]]
"""Corners (x, y) in pixels from the image's upper left corner; the first is not repeated."""


class Region(NamedTuple):
    """Pixels of one class that touch each other at their sides.

    Attributes:
        label: the class.
        area: in pixels; what the polygon encloses, exactly.
        box: (x, y, width, height) in pixels.
        outline: its corners, counterclockwise where y points up.
        holes: those of the holes in it, clockwise.
        mask: bool [height, width], which pixels of the box are its own.
    """

    label: int
    area: int
    box: tuple[int, int, int, int]
    outline: Ring
    holes: list[Ring]
    mask: np.ndarray


def regions_of(labels: np.ndarray, classes: Iterable[int]) -> Iterator[Region]:
    """Finds the regions of some classes, by OpenCV.

    Pixel (column x, row y) covers the square from (x, y) to (x + 1, y + 1), so a polygon has as much area as its region
    has pixels, and a region of one pixel has a polygon too.

    Args:
        labels: uint8 [H, W].
        classes: the classes, in the order of the result.
    """
    for label in classes:
        # Pixels that only touch at a corner are two regions: a polygon that touches itself is not valid.
        _, numbers, statistics, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
        for number, (x, y, width, height, area) in enumerate(statistics.tolist()):
            if number == 0:  # all other classes
                continue
            mask = numbers[y : y + height, x : x + width] == number
            outline, holes = _rings(mask, x, y)
            yield Region(label, area, (x, y, width, height), outline, holes, mask)


def _rings(mask: np.ndarray, left: int, top: int) -> tuple[Ring, list[Ring]]:
    """Returns the outline of a region and those of its holes; `left` and `top` are the place of the mask."""
    # OpenCV's contours go through the middle of pixels. Of an image of twice the size they go through the middle of
    # quarters, and each quarter is beside one corner of its pixel: that of the outline.
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outline: Ring = []
    holes: list[Ring] = []
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0], strict=True):
        ring = _corners((contour[:, 0, :] + 1) // 2 + (left, top))
        if parent < 0:
            outline = ring
        else:
            holes.append(ring)
    return outline, holes


def _corners(points: np.ndarray) -> Ring:
    """Leaves out repeated points and those on a straight line: int [N, 2] to the corners."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    # OpenCV's outlines go down first: counterclockwise where y points down is clockwise in numbers.
    return [(x, y) for x, y in corners[::-1].tolist()]


def to_geojson(regions: Iterable[Region], class_names: tuple[str, ...]) -> dict[str, Any]:
    """Returns a GeoJSON FeatureCollection, a polygon for each region, in pixels; y points down."""

    def closed(ring: Ring) -> list[list[int]]:
        return [list(corner) for corner in (*ring, ring[0])]

    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"class": class_names[region.label], "label": region.label, "area": region.area},
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [closed(ring) for ring in (region.outline, *region.holes)],
                },
            }
            for region in regions
        ],
    }


def to_coco(regions: Iterable[Region], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Returns COCO's annotations without ids: a polygon, or run lengths where there are holes, which polygons lack.

    Args:
        regions: of an image.
        size: its height and width.
    """
    return [
        {
            "category_id": region.label,
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
            "segmentation": _run_lengths(region, size)
            if region.holes
            else [[coordinate for corner in region.outline for coordinate in corner]],
        }
        for region in regions
    ]


def _run_lengths(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """Returns COCO's run lengths, not compressed: down the columns, the first run without the region."""
    whole = np.zeros(size, bool)
    x, y, width, height = region.box
    whole[y : y + height, x : x + width] = region.mask
    pixels = whole.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff([0, *changes.tolist(), pixels.size]).tolist()
    return {"counts": [0, *counts] if pixels[0] else counts, "size": list(size)}
