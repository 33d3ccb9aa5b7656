"""What the layouts with one mask an image share: images and masks are paired, and what is left over is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..layout import Item, Layout, LeftOut, Place, ids_of, split_of
from ..pairing import Named, fold, nearest, pair
from ..tree import UNREADABLE_SUFFIXES, File


def named(file: File, place: Sequence[str]) -> Named:
    """Returns a file with the place that it is compared by."""
    return Named(file, tuple(place), file.stem)


def with_suffix(masks: Sequence[Named], suffix: str) -> tuple[list[Named], list[Named]]:
    """Takes --mask_suffix off the names of masks; returns also the files whose names do not end so."""
    ending = fold(Path(suffix).stem if Path(suffix).suffix else suffix)
    kept, others = [], []
    for mask in masks:
        if ending and fold(mask.stem).endswith(ending):
            kept.append(mask._replace(stem=mask.stem[: len(mask.stem) - len(ending)]))
        else:
            others.append(mask)
    return kept, others


def build(
    place: Place,
    name: str,
    confidence: float,
    reason: str,
    images: Sequence[Named],
    masks: Sequence[Named],
    **more: Any,
) -> Layout:
    """Pairs images with masks.

    Args:
        place: where they are.
        name: of the layout.
        confidence: where there are pairs.
        reason: see `Layout`.
        images: what may be an image.
        masks: what may be a mask.
        **more: further fields of the layout.

    Returns:
        The layout. Images without a mask are in it without labels; masks without an image are in `lone_labels`.
    """
    problems: list[str] = []
    left_out = list(more.pop("left_out", ()))
    notes = list(more.pop("notes", ()))
    if place.mask_suffix:
        kept, others = with_suffix(masks, place.mask_suffix)
        if not kept:
            problems.append(
                f"--mask_suffix={place.mask_suffix}: expected masks whose names end so, found none among {len(masks)},"
                f" such as {masks[0].file.name}."
                if masks
                else f"--mask_suffix={place.mask_suffix}: expected masks whose names end so, found no masks at all."
            )
        elif others:
            left_out.append(
                LeftOut(f"their names do not end in {place.mask_suffix}", tuple(each.file.path for each in others))
            )
        masks = kept
    images, twice = _without_twins(images)
    problems += twice
    found = pair(images, masks)
    if found.doubt:
        problems.append(f"{found.masks[0].file.path}: {found.doubt}.")
    if found.rule:
        notes.append(f"Names: {found.rule}.")
    labels = {image.file.path: mask.file.path for image, mask in found.pairs}
    listed = [*(image for image, _ in found.pairs), *found.images]
    ids = ids_of([(image.place, image.file.stem) for image in listed])
    items = [
        Item(
            image_id,
            image.file.path,
            (labels[image.file.path],) if image.file.path in labels else (),
            split_of((*image.place, *image.file.folders)),
        )
        for image_id, image in zip(ids, listed, strict=True)
    ]
    return Layout(
        name=name,
        confidence=confidence if found.pairs else confidence / 8,
        reason=reason,
        items=tuple(sorted(items)),
        left_out=tuple(left_out),
        notes=tuple(notes),
        problems=tuple(problems),
        lone_labels=tuple(mask.file.path for mask in found.masks),
        num_images=len(images),
        num_labels=len(masks),
        **more,
    )


def unreadable(files: Sequence[File]) -> tuple[LeftOut, ...]:
    """Returns the pictures in formats that are not read."""
    paths = tuple(file.path for file in files if file.suffix in UNREADABLE_SUFFIXES)
    return (LeftOut("in a format that is not read: export JPEG or PNG", paths),) if paths else ()


def _without_twins(images: Sequence[Named]) -> tuple[list[Named], list[str]]:
    """Returns the images, of two that have one name the first, and a complaint about the others."""
    first: dict[tuple[tuple[str, ...], str], Named] = {}
    problems = []
    for image in images:
        other = first.setdefault((image.place, image.stem), image)
        if other is not image:
            problems.append(
                f"{image.file.path}: expected one image for the stem {image.stem!r}, found {other.file.name} too."
                " Remove or rename one."
            )
    return list(first.values()), problems


def near(path: Path, others: Sequence[Path]) -> str:
    """Returns a sentence with the name that looks most like a file's, "" where none does."""
    found = nearest(path.stem, [other.stem for other in others])
    names = [other.name for other in others if other.stem == found]
    return f" The nearest name is {names[0]}." if found else ""
