"""Colours for the classes of data sets that have no official ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from deeplab_tf.dataset_info import find_background, pascal_palette

Colour = tuple[int, int, int]

OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
)
"""The palette of Okabe and Ito (2008), without its black; distinct for people with red-green colour blindness too."""

# Colours that a class should not be confused with: the background's, the paper of a legend, and that of ignored pixels.
_TAKEN: tuple[Colour, ...] = ((0, 0, 0), (255, 255, 255), (224, 224, 192))
_CANDIDATE_LEVELS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
# The least lightness of a colour in Oklab, 0..1: darker ones look black over a photograph.
_DARKEST = 0.35

# What people without green or red cones see, in linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
_VISIONS = (
    np.eye(3),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
)
# Linear RGB to Oklab (Ottosson 2020), in which equal distances look about equally large.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def distinct_palette(num_classes: int, background: int | None = None) -> tuple[Colour, ...]:
    """Chooses colours that are easy to distinguish, with red-green colour blindness too.

    The first seven are those of Okabe and Ito. Each further colour is the one, of a grid of 729, that is farthest from
    all colours before it for the eyes that distinguish them least: normal, without green cones, or without red cones.

    Args:
        num_classes: 1 to 255.
        background: the label that becomes black; None for none.

    Returns:
        One (red, green, blue) in 0..255 for each class, all different. A shorter palette is the beginning of a longer
        one.

    Raises:
        ValueError: another number of classes.
    """
    if not 1 <= num_classes <= 255:
        raise ValueError(f"a palette has 1 to 255 colours, got {num_classes}.")
    wanted = num_classes if background is None else num_classes - 1
    chosen = list(OKABE_ITO[:wanted])
    grid = np.stack(np.meshgrid(*[_CANDIDATE_LEVELS] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _as_seen(grid)  # [candidates, visions, 3]
    bright = seen[:, 0, 0] >= _DARKEST
    grid, seen = grid[bright], seen[bright]
    nearest = np.full(len(grid), np.inf)
    for colour in (*_TAKEN, *chosen):
        nearest = np.minimum(nearest, _distances(seen, colour))
    while len(chosen) < wanted:
        red, green, blue = grid[int(np.argmax(nearest))].tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distances(seen, chosen[-1]))
    if background is not None:
        chosen.insert(background, _TAKEN[0])
    return tuple(chosen)


def _as_seen(colours: Iterable[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Returns colours [N, 3] as each kind of eyes sees them, float64 [N, visions, 3] in Oklab."""
    levels = np.asarray(colours, np.float64) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    seen = np.stack([np.clip(linear @ vision.T, 0, 1) for vision in _VISIONS], axis=1)
    return np.cbrt(seen @ _TO_CONES.T) @ _TO_OKLAB.T


def _distances(seen: np.ndarray, colour: Colour) -> np.ndarray:
    """Returns the smallest distance of a colour to each of `seen` [N, visions, 3], float64 [N] in millionths."""
    distances = np.linalg.norm(seen - _as_seen([colour]), axis=-1).min(axis=-1)
    return np.rint(1e6 * distances)  # so that every machine breaks ties in the same way


def _pascal(class_names: Sequence[str]) -> tuple[Colour, ...]:
    return pascal_palette(len(class_names))


def _distinct(class_names: Sequence[str]) -> tuple[Colour, ...]:
    return distinct_palette(len(class_names), find_background(class_names))


PALETTES: dict[str, Callable[[Sequence[str]], tuple[Colour, ...]]] = {"distinct": _distinct, "pascal": _pascal}
"""Palettes for any classes: from their names, in the order of the labels, to one colour each."""
