"""Score and belief maps of a class after each of some mean-field updates (Fig. 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.images import visualize

LARGEST_SCORE = 10.0
"""Log-odds beyond this have the same colour."""

_BAR_SIZE = (200, 56)  # as high as the pictures of a panel
_BAR_WIDTH = 18


def find_maps(
    image: np.ndarray, probabilities: np.ndarray, params: CrfParams, label: int, updates: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Refines with several numbers of updates.

    Args:
        image: uint8 [H, W, 3], RGB.
        probabilities: float32 [H, W, K].
        params: of the CRF; its iterations do not matter.
        label: the class, 0..K-1.
        updates: numbers of updates, >= 0.

    Returns:
        For each number of updates the scores float32 [H, W], log-odds of the class against all others, limited to
        `LARGEST_SCORE`, and the beliefs float32 [H, W], its probabilities.
    """
    maps = []
    for count in updates:
        # Nothing is left out, so that early and late maps have the same labels.
        refined = dense_crf(image, probabilities, dataclasses.replace(params, iterations=count), min_probability=0.0)
        belief = refined[..., label]
        others = np.maximum(refined.sum(axis=-1) - belief, 1e-12)
        scores = np.clip(np.log(np.maximum(belief, 1e-12) / others), -LARGEST_SCORE, LARGEST_SCORE)
        maps.append((scores, belief))
    return maps


def draw_maps(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    class_names: Sequence[str],
    updates: Sequence[int],
    label: int | None = None,
    background: int | None = 0,
) -> np.ndarray:
    """Draws the image, and scores (above) and beliefs (below) after some updates.

    Args:
        image: uint8 [H, W, 3], RGB.
        probabilities: float32 [H, W, K].
        params: of the CRF; its iterations do not matter.
        class_names: K names.
        updates: numbers of updates, >= 0.
        label: the class; None for the one with the most pixels before the CRF, the background aside.
        background: the label of the background; None for none.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    if label is None:
        counts = np.bincount(probabilities.argmax(axis=-1).ravel(), minlength=len(class_names))
        others = [one for one in range(len(class_names)) if one != background] or [0]
        best = max(others, key=lambda one: int(counts[one]))
        label = best if counts[best] or background is None else background
    maps = find_maps(image, probabilities, params, label, updates)
    titles = ["image", *("network" if count == 0 else f"update {count}" for count in updates)]
    scores = [_paint((score + LARGEST_SCORE) / (2 * LARGEST_SCORE), cv2.COLORMAP_JET) for score, _ in maps]
    beliefs = [_paint(belief, cv2.COLORMAP_BONE) for _, belief in maps]
    captions = [f"score of {class_names[label]} (log-odds)", f"belief in {class_names[label]} (probability)"]
    bars = [
        _colour_bar(cv2.COLORMAP_JET, f"{-LARGEST_SCORE:g}", "0", f"{LARGEST_SCORE:g}"),
        _colour_bar(cv2.COLORMAP_BONE, "0", "0.5", "1"),
    ]
    return visualize.panel([[image, *scores, bars[0]], [image, *beliefs, bars[1]]], [*titles, ""], captions)


def _paint(ratios: np.ndarray, colours: int) -> np.ndarray:
    """Paints float32 [H, W] in 0..1."""
    bytes_ = np.rint(255 * np.clip(ratios, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(bytes_, colours)[..., ::-1])


def _colour_bar(colours: int, bottom: str, middle: str, top: str) -> np.ndarray:
    """Draws the colours of values from `bottom` to `top`, with these names beside them: uint8 [200, 56, 3], RGB."""
    height, width = _BAR_SIZE
    ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], _BAR_WIDTH, axis=1)
    picture = Image.new("RGB", (width, height), "white")
    picture.paste(Image.fromarray(_paint(ramp, colours)), (0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, _BAR_WIDTH - 1, height - 1), outline=(90, 90, 90))
    font = ImageFont.load_default(size=13)
    for text, y, anchor in ((top, 0, "la"), (middle, height / 2, "lm"), (bottom, height - 1, "ld")):
        draw.text((_BAR_WIDTH + 4, y), text, (30, 30, 30), font, anchor=anchor)
    return np.asarray(picture, np.uint8)
