"""A generated data set for the demo and the tests: six kinds of things in front of five kinds of places.

Nothing is downloaded. Images are 185 to 249 pixels a side and hold two or three objects of different classes that
may overlap, cast soft shadows and run out of the picture. Every colour is shared by classes: shape and texture tell
them apart. Labels are exact, with a border of the ignore label about two pixels wide, as in PASCAL VOC.

An example is a pure function of its split and id, so any subset, in any order or process, gives the same
pixels. (The JPEG bytes also depend on the version of OpenCV.)
"""

from __future__ import annotations

import itertools
import math
import zlib
from typing import NamedTuple

import cv2
import numpy as np

from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images.palettes import PALETTES

from ..source import Example, Source
from .synthetic_objects import CANVAS, OBJECTS, Colour, Look
from .synthetic_scenes import draw_scene

CLASS_NAMES = ("background", *OBJECTS)
NUM_IMAGES = {"train": 240, "val": 40}
MIN_SIDE, MAX_SIDE = 185, 249

# Objects are drawn this many times larger than they appear, for smooth edges and exact coverage.
_SUPERSAMPLING = 3
# How many of the images hold three objects; the others hold two.
_SHARE_OF_THREE = 0.3
# Coprime to the 15 pairs of classes, so that neighbours differ in both.
_PAIR_STEP = 4
# Parts of objects narrower than this keep their label up to the edge; the border lies outside them.
_THIN_PIXELS = 7
# How far an object may be turned from upright, in degrees, where it would look odd upside down.
_MAX_TURN = {"fish": 40.0, "flower": 30.0, "mug": 25.0, "umbrella": 40.0}
# Longest extent relative to the others: evens out how many pixels each class covers.
_RELATIVE_SIZE = {"ball": 0.86, "fish": 1.05, "flower": 1.18, "leaf": 1.12, "mug": 0.92, "umbrella": 1.22}
_RED, _ORANGE, _YELLOW, _GREEN = (205, 50, 45), (230, 125, 35), (235, 195, 60), (75, 150, 65)
_TEAL, _BLUE, _PURPLE, _PINK = (45, 150, 160), (50, 90, 185), (130, 70, 160), (225, 120, 160)
_WHITE, _DARK = (235, 232, 225), (60, 55, 60)
# (main, second) colours of each class. Every colour occurs in two classes or more: a hint, not the answer.
_COLOURS: dict[str, tuple[tuple[Colour, ...], tuple[Colour, ...]]] = {
    "ball": ((_RED, _BLUE, _GREEN), (_WHITE, _YELLOW)),
    "fish": ((_ORANGE, _TEAL, _YELLOW), (_WHITE, _BLUE, _RED)),
    "flower": ((_PINK, _RED, _YELLOW, _PURPLE), (_WHITE,)),
    "leaf": ((_GREEN, _ORANGE, _YELLOW), (_DARK,)),
    "mug": ((_WHITE, _BLUE, _TEAL), (_RED, _DARK, _ORANGE)),
    "umbrella": ((_PURPLE, _DARK, _PINK, _RED), (_TEAL, _WHITE, _YELLOW)),
}


class _Placement(NamedTuple):
    """Where an object goes: centre and longest extent in pixels, turn in degrees, mirrored left to right or not."""

    x: float
    y: float
    size: float
    degrees: float
    mirrored: bool


def info(source: Source) -> DatasetInfo:
    """Returns the classes; nothing in `source` matters."""
    del source
    return DatasetInfo(name="synthetic", class_names=CLASS_NAMES, palette=PALETTES["distinct"](CLASS_NAMES))


def splits(source: Source) -> list[str]:
    """Returns the splits that are written by default: train and val."""
    del source
    return list(NUM_IMAGES)


def ids(source: Source, split: str) -> list[str]:
    """Returns the image ids of a split, such as "train_0007".

    Raises:
        UserError: there is no such split.
    """
    del source
    if split not in NUM_IMAGES:
        raise UserError(f"--splits: expected {' or '.join(NUM_IMAGES)}, which synthetic has, got {split!r}.")
    return [f"{split}_{number:04d}" for number in range(NUM_IMAGES[split])]


def example(source: Source, split: str, image_id: str) -> Example:
    """Draws one example; any id gives one, listed or not.

    Args:
        source: not used.
        split: with `image_id`, the seed.
        image_id: with `split`, the seed.

    Returns:
        The id, a JPEG of 185..249 pixels a side and its labels, uint8 [H, W]: 0..6 or 255 (border).
    """
    del source
    rng = np.random.default_rng(zlib.crc32(f"{split}/{image_id}".encode()))
    height, width = _image_size(rng)
    image = draw_scene(rng, height, width)  # [H, W, 3]
    labels = np.zeros((height, width), np.uint8)
    light = _light(rng)
    chosen = _choose_classes(rng, image_id)
    for index, place in zip(chosen, _placements(rng, height, width, chosen), strict=True):
        name = list(OBJECTS)[index]
        look = Look(*_colours(rng, name, image, place), _turned(light, place), CANVAS / place.size)
        colour, coverage = _place(OBJECTS[name](rng, look), place, height, width)
        image = _composed(_with_shadow(rng, image, coverage, light, place.size), colour, coverage)
        labels[coverage > 0.5] = index + 1
    encoded = _photograph(rng, image)
    return Example(image_id, encoded, _with_border(labels))


def _choose_classes(rng: np.random.Generator, image_id: str) -> list[int]:
    """Indices of two or three different objects. Pairs come in turn with the ids: no class is rare in a split."""
    number = int("0" + "".join(filter(str.isdigit, image_id)))
    pairs = list(itertools.combinations(range(len(OBJECTS)), 2))
    pair = pairs[number * _PAIR_STEP % len(pairs)]
    rest = [index for index in range(len(OBJECTS)) if index not in pair]
    third = [int(rng.choice(rest))] if rng.random() < _SHARE_OF_THREE else []
    return [int(index) for index in rng.permutation([*pair, *third])]


def _image_size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width, different and no multiples of 8: the sizes that expose a swap or a rounding."""
    sides = [side for side in range(MIN_SIDE, MAX_SIDE + 1) if side % 8]
    height, width = rng.choice(sides, 2, replace=False)
    return int(height), int(width)


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    """Unit vector to the light: from above, left or right, in front of the scene."""
    x, y, z = rng.uniform(-0.6, 0.6), rng.uniform(-0.7, -0.35), rng.uniform(0.6, 0.9)
    norm = math.sqrt(x * x + y * y + z * z)
    return (x / norm, y / norm, z / norm)


def _turned(light: tuple[float, float, float], place: _Placement) -> tuple[float, float, float]:
    """The light as the object sees it, in the frame in which it is drawn."""
    cos, sin = math.cos(math.radians(place.degrees)), math.sin(math.radians(place.degrees))
    x, y = cos * light[0] + sin * light[1], -sin * light[0] + cos * light[1]
    return (-x if place.mirrored else x, y, light[2])


def _placements(rng: np.random.Generator, height: int, width: int, chosen: list[int]) -> list[_Placement]:
    """Spreads the chosen objects: they may overlap, but none hides most of another one."""
    places: list[_Placement] = []
    largest = {2: 176.0, 3: 150.0}[len(chosen)]
    for index in chosen:
        name = list(OBJECTS)[index]
        size = min(rng.uniform(0.66, 1.0) * largest * _RELATIVE_SIZE[name], 0.95 * min(height, width))
        best, best_gap = (width / 2, height / 2), -np.inf
        for _ in range(25):
            margin = 0.38 * size  # up to a tenth or so of the object is cut off
            x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
            gap = min((math.hypot(x - p.x, y - p.y) / (size + p.size) for p in places), default=1.0)
            if gap > best_gap:
                best, best_gap = (x, y), gap
            if gap > 0.42:  # circles of diameter `size` touch at 0.5
                break
        turn = _MAX_TURN.get(name, 180.0)
        places.append(_Placement(*best, size, rng.uniform(-turn, turn), bool(rng.uniform() < 0.5)))
    return places


def _colours(rng: np.random.Generator, name: str, image: np.ndarray, place: _Placement) -> tuple[Colour, Colour]:
    """Draws a main and a second colour of the class that stand out from what the object will cover."""
    half = int(0.45 * place.size)
    x, y = int(place.x), int(place.y)
    behind = image[max(0, y - half) : y + half, max(0, x - half) : x + half]
    # Quadrant means: behind an object there may be grass on one side and sky on the other.
    means = cv2.resize(behind, (2, 2), interpolation=cv2.INTER_AREA).reshape(4, 3)
    main, second = (_contrasting(rng, colours, means) for colours in _COLOURS[name])
    return main, second


def _contrasting(rng: np.random.Generator, colours: tuple[Colour, ...], means: np.ndarray) -> Colour:
    """A random one of the colours, varied a little, if possible one that is far from all the means [M, 3]."""
    varied = np.clip(np.asarray(colours) + rng.normal(0, 12, (len(colours), 3)), 15, 245)
    contrast = np.linalg.norm(varied[:, None] - means[None], axis=-1).min(-1)
    far = np.flatnonzero(contrast >= 75)
    chosen = varied[rng.choice(far) if far.size else contrast.argmax()]
    return (float(chosen[0]), float(chosen[1]), float(chosen[2]))


def _place(drawing: np.ndarray, place: _Placement, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales, turns and moves a drawing into the image.

    Returns:
        Premultiplied colour float32 [H, W, 3] and coverage float32 [H, W] in 0..1.
    """
    scale = place.size / CANVAS * _SUPERSAMPLING
    cos, sin = scale * math.cos(math.radians(place.degrees)), scale * math.sin(math.radians(place.degrees))
    flip = -1.0 if place.mirrored else 1.0
    matrix = np.array([[flip * cos, -sin, 0.0], [flip * sin, cos, 0.0]])
    centre = np.array([place.x, place.y]) * _SUPERSAMPLING
    matrix[:, 2] = centre - matrix[:, :2] @ np.full(2, (CANVAS - 1) / 2)
    premultiplied = np.where(drawing[..., 3:] > 0, drawing, np.uint8(0))
    large = cv2.warpAffine(premultiplied, matrix, (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small[..., :3], small[..., 3] / 255


def _with_shadow(
    rng: np.random.Generator, image: np.ndarray, coverage: np.ndarray, light: tuple[float, float, float], size: float
) -> np.ndarray:
    """Darkens what lies away from the light, softly."""
    reach = rng.uniform(0.06, 0.12) * size
    move = np.array([[1.0, 0.0, -light[0] * reach * 1.5], [0.0, 1.0, -light[1] * reach]])
    shadow = cv2.warpAffine(coverage, move, coverage.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.05 * size)
    return image * (1 - rng.uniform(0.25, 0.45) * shadow[..., None])


def _composed(image: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    return image * (1 - coverage[..., None]) + colour


def _photograph(rng: np.random.Generator, image: np.ndarray) -> bytes:
    """Light falling off across the scene, a lens, a sensor and JPEG, from float RGB [H, W, 3] to bytes."""
    height, width = image.shape[:2]
    angle, fall = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.16)
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    exposure = 1 + fall * (math.cos(angle) * x + math.sin(angle) * y) - 0.05 * (x * x + y * y)
    image = image * exposure[..., None] * rng.uniform(0.92, 1.08)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.6))
    image = image + rng.uniform(1.0, 2.5) * rng.standard_normal(image.shape, np.float32)
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes()


def _with_border(labels: np.ndarray) -> np.ndarray:
    """Gives one pixel on each side of every contour the ignore label; thin parts keep their whole width."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    border = cv2.dilate(labels, cross) != cv2.erode(labels, cross)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_THIN_PIXELS, _THIN_PIXELS))
    for label in np.unique(labels[labels > 0]):
        member = (labels == label).astype(np.uint8)
        # The image's edge does not make a part thin.
        thick = cv2.morphologyEx(member, cv2.MORPH_OPEN, disc, borderType=cv2.BORDER_REPLICATE)
        border &= (member == 0) | (thick > 0)
    return np.where(border, np.uint8(IGNORE_LABEL), labels)
