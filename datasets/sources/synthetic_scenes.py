"""The places that the synthetic data set puts its objects in: textured, shaded, without a hard edge to learn."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float], octaves: int) -> np.ndarray:
    """Sums smooth random fields, each with half the amplitude and half the cell size of the one before.

    Args:
        rng: the source of randomness.
        height: rows.
        width: columns.
        cell: (vertical, horizontal) size in pixels of the coarsest bumps; unequal sizes give grain.
        octaves: how many fields.

    Returns:
        float32 [height, width], mean about 0, standard deviation about 1.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = max(2, round(height / cell[0] * 2**octave) + 1)
        columns = max(2, round(width / cell[1] * 2**octave) + 1)
        field = rng.standard_normal((min(rows, height), min(columns, width)), np.float32)
        total += 0.5**octave * cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / max(float(total.std()), 1e-6)


def _rgb(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)


def _textured(base: tuple[float, float, float], field: np.ndarray, tone: tuple[float, float, float]) -> np.ndarray:
    """A colour moved along `tone` (levels per unit of `field`), float32 [H, W, 3]."""
    return _rgb(*base) + field[..., None] * _rgb(*tone)


def _sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = _rgb(95, 150, 215) * (1 - down) + _rgb(190, 212, 232) * down
    clouds = np.clip(noise(rng, height, width, (35, 90), 4) - 0.2, 0, 1.6)[..., None] / 1.6
    return sky * (1 - 0.75 * clouds) + 240 * 0.75 * clouds


def _below_horizon(far: np.ndarray, near: np.ndarray, horizon: np.ndarray) -> np.ndarray:
    """Joins two scenes [H, W, 3] along a horizon, row numbers [W], softened over about 2 pixels."""
    rows = np.arange(far.shape[0], dtype=np.float32)[:, None]
    near_share = np.clip((rows - horizon[None]) / 2 + 0.5, 0, 1)[..., None]
    return far * (1 - near_share) + near * near_share


def _meadow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    patches = noise(rng, height, width, (50, 80), 3)
    blades = noise(rng, height, width, (7, 2.5), 2)
    grass = _textured((98, 132, 62), patches, (12, 9, 6)) + blades[..., None] * _rgb(5, 6, 3.5)
    rows = height * rng.uniform(0.15, 0.5) + 0.03 * height * noise(rng, 1, width, (1, 60), 3)[0]
    return _below_horizon(_sky(rng, height, width), grass, rows)


def _beach(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    sand = _textured((205, 180, 138), noise(rng, height, width, (20, 70), 4), (9, 9, 9))
    waves = _textured((60, 125, 150), noise(rng, height, width, (4, 45), 2), (8, 11, 12))
    shore = height * rng.uniform(0.3, 0.55) + 0.03 * height * noise(rng, 1, width, (1, 50), 2)[0]
    sea_and_sand = _below_horizon(waves, sand, shore)
    return _below_horizon(_sky(rng, height, width), sea_and_sand, np.full(width, height * rng.uniform(0.05, 0.25)))


def _planks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    base = ((150.0, 105.0, 66.0), (186.0, 148.0, 104.0), (108.0, 76.0, 54.0))[int(rng.integers(3))]
    grain = noise(rng, height, width, (9, 90), 3) + 0.5 * noise(rng, height, width, (3, 60), 1)
    wood = _textured(base, grain, (9, 8, 6))
    plank = rng.uniform(32, 60)
    position = (np.arange(height) + rng.uniform(0, plank)) / plank
    wood *= (1 + 0.07 * rng.standard_normal(16))[np.floor(position).astype(int) % 16, None, None].astype(np.float32)
    wood[position % 1 < 1.6 / plank] *= 0.55
    return wood


def _room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    paint = rng.uniform(120, 215, 3)
    paint = paint.mean() + 0.45 * (paint - paint.mean())
    wall = _textured((paint[0], paint[1], paint[2]), noise(rng, height, width, (60, 60), 5), (6, 6, 6))
    rug = rng.uniform(70, 140, 3)
    carpet = _textured((rug[0], rug[1], rug[2]), noise(rng, height, width, (3, 3), 2), (5, 5, 5))
    return _below_horizon(wall, carpet, np.full(width, height * rng.uniform(0.55, 0.85)))


def _stone(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    speckle = noise(rng, height, width, (4, 4), 2)
    base = rng.uniform(95, 150)
    return _textured((base, base * 0.98, base * 0.93), noise(rng, height, width, (45, 45), 5), (11, 11, 12)) + (
        speckle[..., None] * 4
    )


SCENES: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (_meadow, _beach, _planks, _room, _stone)


def draw_scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws one place at random, without its lighting.

    Args:
        rng: the source of randomness.
        height: rows.
        width: columns.

    Returns:
        float32 [height, width, 3] RGB, about 0..255 (not clipped).
    """
    return SCENES[int(rng.integers(len(SCENES)))](rng, height, width)
