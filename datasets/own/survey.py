"""Reads all masks or annotations of a data set once, and the heads of its images, before anything is written."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

from ..raw import files as raw_files
from . import mask_file
from .annotations import background_of
from .layout import Item, Layout
from .mask_file import Facts
from .recognition import FORMS


class Seen(NamedTuple):
    """What was seen of one image.

    Attributes:
        item: it.
        head: of its file; None where that cannot be read.
        facts: of its mask, or, for labels that were drawn, of the labels; None where there are none or they cannot be
            read.
        problem: what is wrong with a file, or "".
    """

    item: Item
    head: raw_files.Head | None
    facts: Facts | None
    problem: str = ""


def survey(
    items: Sequence[Item], layout: Layout, names: Sequence[str], quiet: bool = False, as_levels: bool = False
) -> list[Seen]:
    """Looks at all images and their labels, on all cores.

    Args:
        items: the images.
        layout: where they come from.
        names: of the classes; needed where labels are drawn.
        quiet: shows no progress.
        as_levels: see `mask_file.read_mask`.

    Returns:
        What was seen, in the order of the items.
    """

    def look(item: Item) -> Seen:
        head = None
        try:
            head = head_of(item, layout)
            facts = _facts(item, layout, names, head, as_levels)
        except UserError as error:
            return Seen(item, head, None, str(error))
        return Seen(item, head, facts)

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            return list(
                tqdm(pool.map(look, items), "looking", len(items), unit="image", disable=True if quiet else None)
            )
        finally:
            pool.shutdown(cancel_futures=True)


def head_of(item: Item, layout: Layout) -> raw_files.Head:
    """Returns what the head of an image says.

    Raises:
        UserError: there is no such image.
    """
    if item.image is None:
        return raw_files.read_head(item.labels[0], FORMS["labelme"].image_bytes(item.labels[0]))
    return raw_files.read_head(item.image)


def draw_labels(item: Item, layout: Layout, names: Sequence[str], head: raw_files.Head) -> np.ndarray:
    """Draws the labels of an image whose label files are no masks of class indices.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: a file is damaged, or names a class that there is not.
    """
    if layout.form == "class_masks":
        return _join_masks(item, names, head)
    return FORMS[layout.form].draw(item, names, (head.width, head.height))


def _facts(item: Item, layout: Layout, names: Sequence[str], head: raw_files.Head, as_levels: bool) -> Facts | None:
    if not item.labels and layout.form == "masks":
        return None
    if layout.form == "masks":
        return mask_file.measure(mask_file.read_mask(item.labels[0], as_levels))
    return mask_file.measure(mask_file.Mask(draw_labels(item, layout, names, head), False))


def _join_masks(item: Item, names: Sequence[str], head: raw_files.Head) -> np.ndarray:
    """Joins masks that show one class each; where two overlap, the smaller one is in front."""
    background = background_of(names)
    labels: np.ndarray | None = None
    regions = []
    for path, name in zip(item.labels, item.classes, strict=True):
        mask = mask_file.read_mask(path)
        values = [value for value in np.unique(mask.values).tolist() if value]
        if mask.coloured or len(values) > 1:
            soft = "soft edges: store hard masks" if len(values) > 8 else "export one mask for each class"
            raise UserError(
                f"{path}: expected a mask of the class {name!r} alone, 0 outside and one other value inside, got"
                f" {len(values) + 1} values ({soft})."
            )
        if name not in names:
            raise UserError(
                f"{path}: expected one of the classes {', '.join(names)[:200]}, got {name!r}. Name it there."
            )
        inside = mask.values != 0
        if labels is None:
            labels = np.full(inside.shape, background, np.uint8)
        if inside.shape != labels.shape:
            raise UserError(
                f"{path}: expected masks of one size, got {list(inside.shape)} and {list(labels.shape)} (height x"
                " width)."
            )
        regions.append((int(np.count_nonzero(inside)), names.index(name), inside))
    if labels is None:
        return np.full((head.height, head.width), background, np.uint8)
    for _, label, inside in sorted(regions, key=lambda region: (-region[0], region[1])):
        labels[inside] = label
    return labels


def label_pixels(facts: Facts, table: dict[int, int], by_palette: bool) -> dict[int, int]:
    """Returns the pixels of each label in a mask; values without a meaning are left out.

    Args:
        facts: of the mask.
        table: the label of each value, or of each colour as one number.
        by_palette: whether the colours of its palette count.
    """
    pixels: dict[int, int] = {}
    for value, count in facts.pixels.items():
        key = value
        if by_palette:
            colour = (facts.palette or {}).get(value)
            key = -1 if colour is None else mask_file.packed(colour)
        if key in table:
            pixels[table[key]] = pixels.get(table[key], 0) + count
    return pixels


@dataclasses.dataclass(frozen=True)
class Totals:
    """The pixels of a data set.

    Attributes:
        pixels: of each label, 255 for those that do not count.
        images: in how many images each label occurs.
        ignored: the pixels of each mask value that does not count.
    """

    pixels: dict[int, int]
    images: dict[int, int]
    ignored: dict[int, int]

    @property
    def ignored_share(self) -> float:
        """The share of pixels that do not count, 0..1."""
        return self.pixels.get(IGNORE_LABEL, 0) / max(sum(self.pixels.values()), 1)


def files_of(item: Item) -> tuple[Path, ...]:
    """Returns the files that an image and its labels are read from."""
    return ((item.image,) if item.image is not None else ()) + item.labels
