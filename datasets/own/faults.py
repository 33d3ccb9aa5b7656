"""What is wrong or odd with images and their masks, once it is decided what the masks mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

from ..messages import some
from ..raw import files as raw_files
from . import mask_file
from .decide import complaint, palette_complaint
from .reading import Reading
from .survey import Seen, label_pixels

# Images of 16 bits of which none reaches this level hold fewer bits.
_FULL_RANGE = 1 << 14


def unknown_values(facts: mask_file.Facts, lookup: dict[int, int], by_palette: bool) -> list[int]:
    """Returns the values of a mask, or its colours as numbers, that have no meaning.

    Args:
        facts: of the mask.
        lookup: the label of each value, or of each colour as one number.
        by_palette: whether the colours of its palette count.
    """
    keys = list(facts.pixels)
    if by_palette:
        colours = facts.palette or {}
        keys = [mask_file.packed(colours[index]) if index in colours else -1 for index in keys]
    return [key for key in keys if key not in lookup]


def mask_problem(
    path: Path,
    facts: mask_file.Facts,
    unknown: Sequence[int],
    by_colour: bool,
    reading: Reading,
    first_palette: Sequence[mask_file.Colour],
) -> str:
    """Says what is wrong with the values of one mask, "" where nothing is."""
    if facts.palette is not None and not by_colour and not reading.threshold:
        problem = palette_complaint(path, facts.palette, first_palette)
        if problem:
            return problem
    if unknown and not reading.threshold:
        if facts.coloured and not reading.colours:
            return (
                f"{path}: expected a mask of class indices (palette or grey PNG), got colours, such as"
                f" {mask_file.unpacked(unknown[0])}. Replace each colour by the index of its class and save the mask"
                " as an 8-bit grey PNG (folder: or give every class its colour in classes.txt)."
            )
        return complaint(path, unknown, by_colour, reading)
    return ""


def picture_problems(seen: Sequence[Seen], unlabelled: set[str], reading: Reading) -> list[str]:
    """Says which labels have another size than their image, are missing or do not count at all, and dark images."""
    problems = []
    deep: list[tuple[Path, int]] = []
    for each in seen:
        head, facts, image = each.head, each.facts, each.item.image
        if head is not None and head.deep and image is not None and not each.problem:
            try:
                deep.append((image, raw_files.read_levels(image)))
            except UserError as error:
                problems.append(str(error))
        if head is None or facts is None or each.item.image_id in unlabelled:
            continue
        upright = (head.width, head.height)
        stored = (head.height, head.width) if head.orientation >= 5 else upright
        allowed = {"upright": {upright}, "stored": {stored}}.get(reading.mask_frame, {upright, stored})
        if (facts.width, facts.height) not in allowed:
            labels = each.item.labels[0] if each.item.labels else image
            problems.append(
                f"{labels}: expected a mask of its image's size, {head.width}x{head.height} (width x height) as in"
                f" {image}, got {facts.width}x{facts.height}. Export both at one size; resize masks by nearest"
                " neighbour."
            )
        by_colour = facts.coloured or (facts.palette is not None and reading.palette_is_colour)
        lookup = reading.table(facts.coloured, facts.palette is not None)
        counted = label_pixels(facts, lookup, by_colour and not facts.coloured)
        if set(counted) == {IGNORE_LABEL} and not unknown_values(facts, lookup, by_colour and not facts.coloured):
            labels = each.item.labels[0] if each.item.labels else image
            if not reading.threshold:
                problems.append(
                    f"{labels}: expected a mask with at least one labelled pixel, all of them are ignored (255)."
                    " Nothing can be learned from it: leave the image out. In a mask of 0 and 255, write 1 instead of"
                    " 255."
                )
    most = max((level for _, level in deep), default=_FULL_RANGE)
    if most < _FULL_RANGE:
        bits = max(most.bit_length(), 1)
        problems.append(
            f"{deep[0][0]}: 16-bit images that use {bits} bits only, in all {len(deep)} of them (the largest level is"
            f" {most} of 65535): read as 16 bits they are nearly black, and each image has a"
            f" range of its own. Save them with 8 bits (level divided by {2 ** max(bits - 8, 0)}), and the images to"
            " predict on as well."
        )
    return problems


def picture_notes(seen: Sequence[Seen], reading: Reading) -> list[str]:
    """Says what is assumed of the pictures: how they are turned, and that the first of several pages is taken."""
    notes = []
    paged = [str(each.item.image) for each in seen if each.head is not None and each.head.has_more]
    if paged:
        notes.append(f"Files of several pages or frames, of which the first is taken: {len(paged)} ({some(paged)}).")
    return notes + _orientation_notes(seen, reading)


def _orientation_notes(seen: Sequence[Seen], reading: Reading) -> list[str]:
    turned = [each for each in seen if each.head is not None and each.head.orientation != 1]
    if not turned:
        return []
    both = [
        each
        for each in turned
        if each.head is not None and (each.head.orientation < 5 or each.head.width == each.head.height)
    ]
    stored = [
        each
        for each in turned
        if each.head is not None
        and each.facts is not None
        and each.head.orientation >= 5
        and each.head.width != each.head.height
        and (each.facts.width, each.facts.height) != (each.head.width, each.head.height)
    ]
    notes = [f"{len(turned)} photographs are turned by their EXIF orientation and are stored upright."]
    if stored:
        notes.append(f"{len(stored)} masks fit the pixels as the file has them, and are turned with the photographs.")
    if both and reading.mask_frame == "auto":
        notes.append(
            f"For {len(both)} of them the size does not say on what the masks were drawn: taken for the upright picture"
            " (--mask_frame=stored says otherwise)."
        )
    return notes
