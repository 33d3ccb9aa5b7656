"""Shapes that people draw around objects, as pixels. Each tool has its own idea of what an outline encloses."""

from __future__ import annotations

import base64
import binascii
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

Points = Sequence[tuple[float, float]]
"""(x, y) in pixels."""


def with_outline(kind: str, points: Points, height: int, width: int) -> np.ndarray:
    """Draws a polygon, rectangle or circle as labelme does: its outline belongs to it.

    Args:
        kind: "polygon", "rectangle" (two corners) or "circle" (its centre and a point on it).
        points: in pixels.
        height: H.
        width: W.

    Returns:
        bool [H, W].

    Raises:
        ValueError: another kind, or not the points that it needs.
    """
    canvas = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon" and len(points) > 2:
        draw.polygon(list(points), outline=1, fill=1)
    elif kind == "rectangle" and len(points) in (2, 4):
        xs, ys = zip(*points, strict=True)
        draw.rectangle([min(xs), min(ys), max(xs), max(ys)], outline=1, fill=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), (other_x, other_y) = points
        radius = math.hypot(x - other_x, y - other_y)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    else:
        raise ValueError(f"{kind} of {len(points)} points")
    return np.asarray(canvas, np.uint8) == 1


def with_holes(exterior: Points, interior: Sequence[Points], height: int, width: int) -> np.ndarray:
    """Draws a polygon with holes on whole pixels, as Supervisely does; bool [H, W]."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [_whole(exterior)], [1])
    for hole in interior:
        cv2.fillPoly(canvas, [_whole(hole)], [0])
    return canvas == 1


def _whole(points: Points) -> np.ndarray:
    return np.rint(np.array(points, np.float64)).astype(np.int32).reshape(-1, 1, 2)


def placed(piece: np.ndarray, left: int, top: int, height: int, width: int) -> np.ndarray:
    """Puts a small bool picture at a place of a large one, bool [H, W]; what lies outside is cut off."""
    canvas = np.zeros((height, width), bool)
    rows, columns = piece.shape
    y, x = max(top, 0), max(left, 0)
    inside = piece[y - top : max(height - top, 0), x - left : max(width - left, 0)]
    if rows and columns and inside.size:
        canvas[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return canvas


def decode_bitmap(text: str, compressed: bool) -> np.ndarray:
    """Decodes a picture in base64, a PNG or (`compressed`) the zlib stream of one: bool [h, w], where it is not zero.

    A picture with alpha shows by its alpha, as Supervisely's do.

    Raises:
        ValueError: it is none.
    """
    try:
        data = base64.b64decode(text, validate=False)
        if compressed:
            unpacking = zlib.decompressobj()
            data = unpacking.decompress(data, 1 << 28)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except (binascii.Error, zlib.error, OSError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"a bitmap that cannot be decoded ({error})") from None
    if pixels.ndim == 3:
        pixels = pixels[:, :, 3] if pixels.shape[2] == 4 else pixels.max(axis=2)
    return pixels != 0


def points_of(value: Any) -> list[tuple[float, float]]:
    """Reads a list of [x, y].

    Raises:
        ValueError: it is none, or has numbers that are not finite.
    """
    try:
        points = [(float(x), float(y)) for x, y in value]
    except (TypeError, ValueError):
        raise ValueError(f"points {str(value)[:40]}") from None
    if not all(math.isfinite(x) and math.isfinite(y) and abs(x) < 1e6 and abs(y) < 1e6 for x, y in points):
        raise ValueError("points that are not finite")
    return points
