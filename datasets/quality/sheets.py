"""Pictures of a data set: how its classes are spread, and images beside their labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.images import visualize
from deeplab_tf.runtime import files

from .statistics import SplitStatistics

_PAIRS_A_ROW = 3
_HEIGHT = 160  # of a picture, in pixels
_SHORT_ID = 24


def save_histogram(path: Path, info: DatasetInfo, splits: Sequence[SplitStatistics]) -> None:
    """Draws the share of each class in the labelled pixels, and in how many images it is.

    Args:
        path: a PNG to be.
        info: the classes.
        splits: one or two splits with labels, beside each other.

    Raises:
        UserError: the file cannot be written.
    """
    classes = np.arange(info.num_classes)
    colours = np.array(info.palette) / 255
    height = 0.8 / len(splits)
    figure = Figure(figsize=(11, 1.6 + 0.28 * info.num_classes), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for number, split in enumerate(splits):
        places = classes + (number - (len(splits) - 1) / 2) * height
        strength = 1 if number == 0 else 0.4  # the second one is paler
        for axis, shares in zip(axes, (split.class_shares, split.class_images / split.count), strict=True):
            axis.barh(places, 100 * shares, height, color=colours, alpha=strength, edgecolor="black", linewidth=0.5)
    axes[0].set(title="share of the labelled pixels, %", yticks=classes)
    seen = [share for split in splits for share in split.class_shares if share > 0]
    if seen:
        axes[0].set(xscale="log", xlim=(50 * min(seen), 100))
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[0].set_yticklabels(info.class_names)
    axes[0].invert_yaxis()
    axes[1].set(title="images in which it occurs, %", xlim=(0, 100))
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
    order = [f"{split.name} ({split.count} images)" for split in splits]
    figure.suptitle(", below it, paler: ".join(order), fontsize="medium")
    files.write_atomically(str(path), lambda temporary: figure.savefig(temporary, dpi=100))


def save_sheet(path: Path, info: DatasetInfo, examples: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Sets images beside their labels, three pairs a row, with the names of the classes that occur below.

    Args:
        path: a JPEG to be.
        info: the classes.
        examples: (caption, uint8 [H, W, 3] RGB, integer [H, W] labels), at least one; taken one at a time.

    Raises:
        UserError: the file cannot be written.
    """
    pictures, captions = [], []
    present: set[int] = set()
    for caption, image, labels in examples:
        present.update(np.unique(labels).tolist())
        width = max(1, round(image.shape[1] * _HEIGHT / image.shape[0]))
        small = cv2.resize(labels.astype(np.uint8), (width, _HEIGHT), interpolation=cv2.INTER_NEAREST)
        pictures.append(
            (
                cv2.resize(image, (width, _HEIGHT), interpolation=cv2.INTER_AREA),
                visualize.colourize(small, info.palette),
            )
        )
        captions.append(_shortened(caption))
    columns = min(_PAIRS_A_ROW, len(pictures))
    blank = np.full((_HEIGHT, 1, 3), 255, np.uint8)
    pictures += [(blank, blank)] * (-len(pictures) % columns)
    starts = range(0, len(pictures), columns)
    named = sorted(present - {info.ignore_label})
    ignored = info.ignore_label in present
    sheet = visualize.panel(
        [[picture for pair in pictures[start : start + columns] for picture in pair] for start in starts],
        ["image", "labels"] * columns,
        ["   |   ".join(captions[start : start + columns]) for start in starts],
        class_names=[info.class_names[label] for label in named] + ["ignored"] * ignored,
        palette=[info.palette[label] for label in named] + [visualize.BORDER_COLOUR] * ignored,
        height=_HEIGHT,
    )
    visualize.save_image(path, sheet)


def choose(split: SplitStatistics, count: int) -> list[int]:
    """Chooses images to look at: for each class, rare ones first, one that shows much of it; the rest evenly spread.

    Args:
        split: a split with labels.
        count: how many, at most.

    Returns:
        Places in `split.ids`, ascending.
    """
    chosen: dict[int, None] = {}
    shares = split.pixels / np.maximum(split.pixels.sum(axis=1, keepdims=True), 1)  # [N, K + 1]
    for label in np.argsort(split.class_images, kind="stable"):
        if len(chosen) < count and split.class_images[label] and not split.pixels[list(chosen), label].any():
            chosen[int(np.argmax(shares[:, label]))] = None
    others = [place for place in range(split.count) if place not in chosen]
    missing = min(count - len(chosen), len(others))
    spread = [others[len(others) * number // missing] for number in range(missing)]
    return sorted([*chosen, *spread])


def _shortened(caption: str) -> str:
    return caption if len(caption) <= _SHORT_ID else f"{caption[: _SHORT_ID // 2 - 1]}..{caption[1 - _SHORT_ID // 2 :]}"
