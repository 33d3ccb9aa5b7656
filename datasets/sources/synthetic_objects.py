"""The six things that the synthetic data set draws, each on its own square canvas.

Every `draw_*` function paints one object upright, as large as the canvas allows, and returns RGBA bytes; the
caller scales, turns and places it. Positions inside a canvas are unit coordinates: x to the right and y down,
both from -1 to 1. Shape and texture tell the classes apart; the caller chooses colours that several share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

CANVAS = 256

Colour = tuple[float, float, float]
Point = tuple[float, float]

# x and y of every canvas pixel, float32 [CANVAS, CANVAS].
_X, _Y = np.meshgrid(*[(np.arange(CANVAS, dtype=np.float32) + 0.5) / (CANVAS / 2) - 1] * 2)


@dataclasses.dataclass(frozen=True)
class Look:
    """What varies between two objects of one class.

    Attributes:
        main: (red, green, blue) in 0..255 of most of the object.
        second: colour of its pattern.
        light: unit vector (x, y, z) from the object to the light; z points at the viewer.
        pixel: canvas units of one pixel of the final image, in canvas pixels; thin parts are measured in it.
    """

    main: Colour
    second: Colour
    light: tuple[float, float, float]
    pixel: float


def tint(colour: Sequence[float], factor: float) -> Colour:
    """Darkens (factor < 1) or lightens (factor > 1, towards white) a colour in 0..255."""
    if factor <= 1:
        return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
    keep = 2 - factor
    return (255 - (255 - colour[0]) * keep, 255 - (255 - colour[1]) * keep, 255 - (255 - colour[2]) * keep)


def _to_canvas(points: Sequence[Point] | np.ndarray) -> np.ndarray:
    """Unit coordinates to cv2's fixed-point canvas coordinates with 4 fractional bits, int32 [P, 2]."""
    return np.rint(((np.asarray(points, np.float64) + 1) * (CANVAS / 2) - 0.5) * 16).astype(np.int32)


def _fill(canvas: np.ndarray, points: Sequence[Point] | np.ndarray, colour: Colour) -> None:
    cv2.fillPoly(canvas, [_to_canvas(points)], (*colour, 255), cv2.LINE_8, 4)


def _stroke(canvas: np.ndarray, points: Sequence[Point] | np.ndarray, width: float, colour: Colour) -> None:
    """Draws a line through the points; `width` is in canvas pixels."""
    cv2.polylines(canvas, [_to_canvas(points)], False, (*colour, 255), max(1, round(width)), cv2.LINE_8, 4)


def _ellipse(centre: Point, axes: Point, degrees: float = 0.0, start: float = 0.0, stop: float = 360.0) -> np.ndarray:
    """Points [P, 2] on an arc with the given half axes, turned clockwise by `degrees`."""
    angles = np.radians(np.linspace(start, stop, 49))
    turn = np.radians(degrees)
    along, across = axes[0] * np.cos(angles), axes[1] * np.sin(angles)
    return np.stack(
        [
            centre[0] + along * np.cos(turn) - across * np.sin(turn),
            centre[1] + along * np.sin(turn) + across * np.cos(turn),
        ],
        axis=-1,
    )


def _shaded(canvas: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiplies the colours of a uint8 RGBA canvas by a brightness field [CANVAS, CANVAS]."""
    result = canvas.astype(np.float32)
    result[..., :3] *= factor[..., None]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _lambert(x: np.ndarray, y: np.ndarray, look: Look, contrast: float) -> np.ndarray:
    """Brightness of a bulging surface whose normal leans towards (x, y), both in -1..1."""
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    facing = x * look.light[0] + y * look.light[1] + z * look.light[2]
    return (1 - contrast + contrast * np.clip(facing, 0, 1) * 1.25).astype(np.float32)


def draw_ball(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws a beach ball: stripes along the meridians of a shaded sphere. Returns uint8 [CANVAS, CANVAS, 4]."""
    radius = 0.96
    x, y = _X / radius, _Y / radius
    inside = x * x + y * y < 1
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    tilt = rng.uniform(0.5, 1.0)  # radians between the ball's axis and the image plane
    longitude = np.arctan2(x, z * np.cos(tilt) - y * np.sin(tilt))
    latitude = y * np.cos(tilt) + z * np.sin(tilt)
    stripes = int(rng.integers(3, 5)) * 2
    odd = np.floor((longitude / (2 * np.pi) + rng.uniform()) * stripes) % 2 == 1
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    canvas[..., :3] = np.where(odd[..., None], look.main, look.second)
    canvas[latitude > 0.97, :3] = tint(look.main, 0.8)
    canvas[..., 3] = np.where(inside, 255, 0)
    highlight = np.clip(x * look.light[0] + y * look.light[1] + z * look.light[2], 0, 1) ** 24
    return _shaded(canvas, _lambert(x, y, look, 0.45) + 0.25 * highlight)


def draw_fish(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws a fish facing right, with scales, bands, fins and an eye. Returns uint8 [CANVAS, CANVAS, 4]."""
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    fin = tint(look.second, 0.9)
    height = rng.uniform(0.44, 0.58)
    spread = rng.uniform(0.42, 0.58)
    _fill(canvas, [(-0.40, 0.0), (-0.72, -0.8 * spread), (-0.99, -spread), (-0.84, 0.0), (-0.99, spread),
                   (-0.72, 0.8 * spread)], fin)  # fmt: skip
    for ray in np.linspace(-0.8, 0.8, 7):
        _stroke(canvas, [(-0.55, 0.3 * ray * spread), (-0.92, ray * spread)], 2, tint(fin, 0.7))
    _fill(canvas, [(-0.25, -0.7 * height), (-0.1, -height - 0.24), (0.35, -height - 0.12), (0.5, -0.7 * height)], fin)
    _fill(canvas, [(-0.1, 0.8 * height), (-0.15, height + 0.2), (0.2, 0.85 * height)], fin)
    along = np.linspace(0, 1, 41)
    half = height * np.sin(np.pi * along**0.85) ** 0.8 + 0.07 * (1 - along)
    nose = -0.58 + 1.54 * along
    outline = np.concatenate([np.stack([nose, -half], -1), np.stack([nose, half], -1)[::-1]])
    body = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    _fill(body, outline, look.main)
    inside = body[..., 3] > 0
    bands = (np.sin(_X * rng.uniform(9, 13) + 1.5 * _Y**2 + rng.uniform(0, 6)) > 0.45) & (_X < 0.45) & inside
    canvas[inside] = body[inside]
    if rng.uniform() < 0.7:
        canvas[bands, :3] = look.second
    # Scales: overlapping discs in staggered rows, brighter at the free edge.
    u, v = _X * 9, _Y * 9
    v = v + 0.5 * (np.floor(u) % 2)
    scales = 0.80 + 0.4 * np.hypot(u - np.floor(u), v - np.floor(v) - 0.5)
    head = _X > 0.5
    texture = np.where(inside & ~head, np.clip(scales, 0.8, 1.12), 1.0)
    belly = np.where(inside, 1.0 + 0.22 * np.clip(_Y / height, -1, 1), 1.0)
    canvas = _shaded(canvas, texture * belly * _lambert(_X * 0.3, _Y / 0.8, look, 0.35))
    _stroke(canvas, _ellipse((0.36, 0.0), (0.14, 0.7 * height), 0, -70, 70), 4, tint(look.main, 0.5))
    _fill(canvas, _ellipse((0.68, -0.1), (0.085, 0.085)), (240, 240, 235))
    _fill(canvas, _ellipse((0.70, -0.1), (0.05, 0.05)), (20, 20, 25))
    return canvas


def draw_flower(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws petals around a disc on a thin stalk with two leaves. Returns uint8 [CANVAS, CANVAS, 4]."""
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    green = tint((70.0, 125.0, 45.0), rng.uniform(0.75, 1.1))
    head = (0.0, -0.36)
    down = np.linspace(0, 1, 15)
    stalk = np.stack([rng.uniform(-0.25, 0.25) * down**2, head[1] + (0.97 - head[1]) * down], -1)
    width = rng.uniform(4.8, 5.8) * look.pixel
    _stroke(canvas, stalk, width, green)
    for side, where in ((-1, 9), (1, 11)):
        foot = stalk[where]
        centre = (foot[0] + side * 0.30, foot[1] - 0.16)
        _fill(canvas, _ellipse(centre, (0.34, 0.13), -side * 28), tint(green, 1.08))
        _stroke(canvas, [(foot[0], foot[1]), (centre[0] + side * 0.2, centre[1] - 0.1)], 3, tint(green, 0.7))
    petals = int(rng.integers(5, 9))
    first = rng.uniform(0, 360)
    # Petals overlap: neighbours differ in brightness, and each has a crease down its middle.
    for petal in range(petals):
        degrees = first + 360 * petal / petals
        out = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        centre = tuple(np.array(head) + 0.33 * out)
        colour = tint(look.main, 0.88 if petal % 2 else 1.0)
        _fill(canvas, _ellipse(centre, (0.30, 0.95 / petals + 0.03), degrees), colour)
        _stroke(canvas, [tuple(np.array(head) + 0.2 * out), tuple(np.array(head) + 0.52 * out)], 3, tint(colour, 0.75))
    middle = (235.0, 190.0, 50.0) if rng.uniform() < 0.5 else (95.0, 60.0, 35.0)
    _fill(canvas, _ellipse(head, (0.2, 0.2)), middle)
    for seed in range(24):  # a sunflower's spiral: the golden angle
        radius, angle = 0.18 * np.sqrt(seed / 24), seed * 2.39996
        dot = (head[0] + radius * np.cos(angle), head[1] + radius * np.sin(angle))
        _fill(canvas, _ellipse(dot, (0.018, 0.018)), tint(middle, 0.65))
    distance = np.hypot(_X - head[0], _Y - head[1])
    cup = np.where(distance < 0.66, 0.80 + 0.32 * distance, 1.0)
    return _shaded(canvas, cup * _lambert(_X * 0.4, _Y * 0.4, look, 0.3))


def draw_leaf(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws a lobed leaf with veins on a short petiole. Returns uint8 [CANVAS, CANVAS, 4]."""
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    vein = tint(look.main, 1.45) if sum(look.main) < 330 else tint(look.main, 0.6)
    _stroke(canvas, [(0.0, 0.6), (0.03, 0.8), (0.1, 0.98)], rng.uniform(4.2, 5.0) * look.pixel, tint(look.main, 0.75))
    along = np.linspace(0, 1, 113)
    breadth = rng.uniform(0.62, 0.76)
    lobes = int(rng.integers(3, 5))
    depth = rng.uniform(0.2, 0.45)
    half = breadth * np.sin(np.pi * along**1.1) ** 0.75 * (1 - depth * np.cos(np.pi * lobes * along) ** 2)
    y = -0.97 + 1.65 * along
    _fill(canvas, np.concatenate([np.stack([half, y], -1), np.stack([-half, y], -1)[::-1]]), look.main)
    _stroke(canvas, [(0.0, -0.9), (0.0, 0.68)], 0.9 * look.pixel + 3, vein)
    for middle in (np.arange(lobes) + 0.5) / lobes:  # one vein to the tip of each lobe
        reach = 0.8 * breadth * np.sin(np.pi * middle**1.1) ** 0.75
        tip = -0.97 + 1.65 * middle
        for side in (-1, 1):
            _stroke(canvas, [(0.0, min(tip + 0.3, 0.66)), (side * reach, tip)], 0.5 * look.pixel + 2, vein)
    # The two halves are folded along the midrib: one is turned to the light, the other away.
    fold = 1.0 + 0.14 * np.tanh(_X * 30) * np.sign(look.light[0] or 1.0)
    mottled = cv2.resize(rng.normal(1.0, 0.06, (24, 24)).astype(np.float32), (CANVAS, CANVAS))
    return _shaded(canvas, fold * mottled)


def draw_mug(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws a mug with a ring handle and a painted band or dots. Returns uint8 [CANVAS, CANVAS, 4]."""
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    left, right = -0.92, 0.38
    centre, half = (left + right) / 2, (right - left) / 2
    top, bottom = rng.uniform(-0.72, -0.55), rng.uniform(0.62, 0.8)
    thickness = max(5.2 * look.pixel, 0.07 * CANVAS)
    _stroke(canvas, _ellipse((right, (top + bottom) / 2), (0.44, 0.27 * (bottom - top)), 0, -95, 95), thickness,
            tint(look.main, 0.9))  # fmt: skip
    base = _ellipse((centre, bottom), (half * 0.92, 0.14), 0, 0, 180)
    _fill(canvas, np.concatenate([[(left, top), (right, top)], base]), look.main)
    body = (canvas[..., 3] > 0) & (right > _X)
    # The same bulge as the foot: a band painted around a cylinder sags in the middle.
    sag = _Y - 0.14 * np.sqrt(np.clip(1 - ((_X - centre) / half) ** 2, 0, 1))
    level = (sag - top) / (bottom - top)
    if rng.uniform() < 0.5:
        pattern = (np.abs(level - 0.3) < 0.07) | (np.abs(level - 0.62) < 0.07)
    else:
        turn = np.arcsin(np.clip((_X - centre) / half, -1, 1)) * 1.6
        row = np.floor(level * 4)
        pattern = np.hypot((turn + 0.5 * (row % 2)) % 1 - 0.5, level * 4 % 1 - 0.5) < 0.27
    canvas[body & pattern & (level > 0.06) & (level < 0.98), :3] = look.second
    canvas = _shaded(canvas, _lambert((_X - centre) / half * 0.95, np.zeros_like(_Y), look, 0.5))
    _fill(canvas, _ellipse((centre, top), (half, 0.16)), tint(look.main, 1.25))
    drink = (70.0, 42.0, 25.0) if rng.uniform() < 0.6 else tint(look.main, 0.45)
    _fill(canvas, _ellipse((centre, top + 0.015), (half * 0.87, 0.115)), drink)
    return canvas


def draw_umbrella(rng: np.random.Generator, look: Look) -> np.ndarray:
    """Draws an open umbrella: a scalloped canopy of panels over a thin hooked shaft. Returns uint8 RGBA."""
    canvas = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    width = rng.uniform(5.0, 6.0) * look.pixel
    handle = tint(look.second, 0.85)
    hook = rng.choice([-1.0, 1.0]) * 0.17
    _stroke(canvas, [(0.0, -0.3), (0.0, 0.78)], width, handle)
    _stroke(canvas, _ellipse((hook, 0.78), (abs(hook), 0.15), 0, 0, 180), width, handle)
    _stroke(canvas, [(0.0, -0.98), (0.0, -0.6)], 3.2 * look.pixel, handle)
    panels = int(rng.integers(4, 7))
    height = rng.uniform(0.82, 0.95)
    rim = rng.uniform(0.0, 0.1)
    # u runs from -1 at the left rim to 1 at the right one, along the canopy's circles of latitude.
    rise = np.clip((rim - _Y) / height, 0, 1)
    u = np.clip(_X / (0.96 * np.sqrt(np.clip(1 - rise**2, 1e-4, 1))), -1, 1)
    around = np.arcsin(u) / np.pi + 0.5
    dome = (_X / 0.96) ** 2 + (np.minimum(_Y - rim, 0) / height) ** 2 < 1
    scallop = rim - 0.2 * np.abs(np.sin(np.pi * panels * around))
    canopy = dome & (scallop > _Y) & (np.abs(_X) < 0.94)
    odd = np.floor(around * panels) % 2 == 1
    canvas[canopy, :3] = np.where(odd[..., None], look.second, look.main)[canopy]
    canvas[canopy, 3] = 255
    ribs = np.where(canopy, 1 - 0.22 * np.abs(2 * (around * panels % 1) - 1) ** 3, 1.0)
    return _shaded(canvas, ribs * np.where(canopy, _lambert(u * 0.8, -rise * 0.8, look, 0.4), 1.0))


# Label order; background is 0. The name is the class name.
OBJECTS: dict[str, Callable[[np.random.Generator, Look], np.ndarray]] = {
    "ball": draw_ball,
    "fish": draw_fish,
    "flower": draw_flower,
    "leaf": draw_leaf,
    "mug": draw_mug,
    "umbrella": draw_umbrella,
}
