"""Decides what the values of masks mean, from all masks together: a single mask cannot say whether 255 is a class."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deeplab_tf.dataset_info import IGNORE_LABEL, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images.palettes import PALETTES

from ..messages import some
from .class_file import ClassTable, is_background
from .mask_file import Colour, Facts, unpacked
from .reading import Reading

# A mask with more different values than this, most of them between the two that it holds most, has soft edges.
_SOFT_VALUES = 8
# A photograph, or colours with soft edges, has more colours than this.
_MOST_COLOURS = 40
# With more classes than two, so large a share of masks of nothing but 0 and 255 is no chance.
_BINARY_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Options:
    """What the flags say of the values of masks.

    Attributes:
        ignore_label: the value that does not count; None where no flag says so. 255 never counts, unless `values` has
            it.
        values: the mask value of each class, in the order of the classes; empty for 0, 1, 2, ...
        threshold: levels from here on are the second of two classes; 0 for none.
        mask_frame: see `Reading`.
    """

    ignore_label: int | None = None
    values: tuple[int, ...] = ()
    threshold: int = 0
    mask_frame: str = "auto"


class Decision(NamedTuple):
    """What was decided.

    Attributes:
        reading: what masks mean; where there are problems, the nearest to it.
        problems: what has to be mended, a line each, for all masks that have it.
        blamed: masks that a problem is about: nothing more need be said of them.
        notes: what was assumed, a sentence each.
    """

    reading: Reading
    problems: list[str]
    blamed: set[Path]
    notes: list[str]


_Masks = Sequence[tuple[Path, Facts]]


def decide(masks: _Masks, table: ClassTable, options: Options, palette: Sequence[Colour] = ()) -> Decision:
    """Looks at the values of all masks.

    Args:
        masks: each file, and what was measured in it.
        table: the classes.
        options: the flags.
        palette: the palette of the first mask; () where it has none.

    Raises:
        UserError: flags contradict each other or the classes.
    """
    count = len(table.names)
    values = _given_values(table, options)
    plain = Reading(
        names=table.names,
        palette=_palette(table, palette),
        values=tuple(sorted(values.items())),
        colours=tuple(table.colours.items()),
        threshold=options.threshold,
        mask_frame=options.mask_frame,
    )
    if options.threshold:
        return _thresholded(masks, plain)
    grey = [each for each in masks if not each[1].coloured and each[1].palette is None]
    paletted = [each for each in masks if each[1].palette is not None]
    coloured = [each for each in masks if each[1].coloured]
    reading = plain
    if table.colours:
        reading = dataclasses.replace(
            plain,
            palette_is_colour=_palettes_are_colours(paletted, plain),
            grey_is_colour=_grey_is_colour(grey, plain),
        )
    problems: list[str] = []
    blamed: set[Path] = set()
    notes: list[str] = []

    def blame(which: _Masks, text: str) -> None:
        problems.append(f"{which[0][0]}: {text}")
        blamed.update(path for path, _ in which)

    if paletted and not table.colours and not options.values:
        order = _reordered(paletted, table)
        if order:
            blame(paletted, order)
            paletted = []
    if coloured and not table.colours:
        blame(coloured, _colours_without_classes(coloured, masks, table))
    indexed = [] if reading.grey_is_colour else list(grey)
    indexed += [] if reading.palette_is_colour else paletted
    soft = [each for each in indexed if _is_soft(each[1], values)]
    if soft:
        blame(soft, _soft(soft, masks, count))
        indexed = [each for each in indexed if each[0] not in blamed]
    if indexed:
        union = _union(indexed)
        shifted = None if options.values else _shifted(union, table, options, notes)
        if isinstance(shifted, str):
            blame([each for each in indexed if 0 in each[1].pixels], shifted)
        elif shifted is not None:
            values = shifted
        elif not options.values:
            cause = _cause(indexed, union, table, options)
            if cause is not None:
                blame(*cause)
    reading = dataclasses.replace(reading, values=tuple(sorted(values.items())))
    return Decision(reading, problems, blamed, notes)


def complaint(path: Path, unknown: Sequence[int], by_colour: bool, reading: Reading) -> str:
    """Says that a mask holds values, or colours as one number, that have no meaning."""
    if by_colour:
        found = ["an index without a colour" if key < 0 else str(unpacked(key)) for key in unknown]
        known = dict(reading.colours)
        if all(key >= 0 and unpacked(key)[::-1] in known for key in unknown):
            return (
                f"{path}: expected only the colours of the classes, got {some(found)}: their red and blue are swapped,"
                " as OpenCV writes an RGB array. Swap them in the masks, or in the list of classes."
            )
        return (
            f"{path}: expected only the colours of the classes, got {some(found)}. Give each a class in"
            " classes.txt, or a line 'ignore' if it does not count; soft edges come from resizing or from JPEG:"
            " export the mask again without either."
        )
    classes = sorted(value for value, label in reading.values if label != IGNORE_LABEL)
    ignored = sorted(value for value, label in reading.values if label == IGNORE_LABEL)
    is_range = classes == list(range(classes[0], classes[-1] + 1))
    said = f"{classes[0]}..{classes[-1]}" if is_range else some(classes)
    return (
        f"{path}: expected class indices {said} or the ignore value {' or '.join(map(str, ignored))}, got"
        f" {some(unknown)}. Name every class, or say which value to leave out (folder: --classes, --ignore_label)."
    )


def palette_complaint(path: Path, found: Mapping[int, Colour], expected: Sequence[Colour]) -> str:
    """Says that an index has another colour than in the first mask; "" where none has."""
    for index, colour in found.items():
        if index < len(expected) and colour not in (expected[index], (index, index, index)):
            return (
                f"{path}: expected index {index} of its palette to be the colour {expected[index]}, got {colour}:"
                " the palette was reordered, so its indices mean other classes than in other masks. Export the mask"
                " again with the original palette, or as an 8-bit grey PNG of class indices."
            )
    return ""


def _reordered(masks: _Masks, table: ClassTable) -> str:
    """Says that palettes have PASCAL VOC's colours of these classes in another order, "" where they do not."""
    standard = {colour: index for index, colour in enumerate(pascal_palette(len(table.names)))}
    used = {index: colour for _, facts in masks for index, colour in (facts.palette or {}).items()}
    moved = {index: colour for index, colour in used.items() if standard.get(colour, index) != index}
    if len(used) < 2 or not moved or not set(used.values()) <= set(standard):
        return ""
    index, colour = next(iter(sorted(moved.items())))
    place = standard[colour]
    lines = "; ".join(f"{table.names[place]} {' '.join(map(str, colour))}" for colour, place in standard.items())
    return (
        f"its palette was reordered: index {index} has the colour {colour}, which is PASCAL VOC's for index {place}, so"
        f" the indices say other classes than the colours. So {_are(masks, masks)}. If the colours are right, write"
        f" them into {table.origin}: {lines}. If the indices are right, save the masks as 8-bit grey PNGs."
    )


def _palette(table: ClassTable, palette: Sequence[Colour]) -> tuple[Colour, ...]:
    own = tuple(palette[: len(table.names)])
    if table.palette is not None:
        return table.palette
    return own if len(set(own)) == len(table.names) else PALETTES["distinct"](table.names)


def _given_values(table: ClassTable, options: Options) -> dict[int, int]:
    """Returns the label of each value by the class file and the flags."""
    count = len(table.names)
    values = dict(table.numbers)
    if options.values:
        if len(options.values) != count or len(set(options.values)) != count:
            raise UserError(
                f"--values: expected the mask value of each of the {count} classes ({some(table.names)}), each once,"
                f" got {','.join(map(str, options.values))}."
            )
        values = {value: label for label, value in enumerate(options.values)}
        if options.ignore_label in values:
            raise UserError(f"--ignore_label={options.ignore_label} is one of --values too. Leave it out of one.")
    if options.ignore_label is not None:
        values[options.ignore_label] = IGNORE_LABEL
    values.setdefault(IGNORE_LABEL, IGNORE_LABEL)
    return values


def _thresholded(masks: _Masks, reading: Reading) -> Decision:
    if len(reading.names) != 2:
        raise UserError(
            f"--threshold: expected two classes, got {len(reading.names)}: {some(reading.names)}. Name two in"
            " classes.txt."
        )
    wrong = [path for path, facts in masks if facts.coloured]
    problems = [f"{wrong[0]}: --threshold: expected grey masks, got colours in {len(wrong)} masks."] if wrong else []
    note = f"Mask levels from {reading.threshold} on are {reading.names[1]}, the others {reading.names[0]}."
    return Decision(reading, problems, set(wrong), [note])


def _palettes_are_colours(masks: _Masks, reading: Reading) -> bool:
    """Says whether the colours of palette masks count: where they are those of the classes."""
    colours = {colour for colour, _ in reading.colours}
    used = {colour for _, facts in masks for colour in (facts.palette or {}).values()}
    if used <= colours:
        return True
    indices = {value for _, facts in masks for value in facts.pixels}
    return not (indices <= set(dict(reading.values)) and not (used - {(0, 0, 0)}) & colours)


def _grey_is_colour(masks: _Masks, reading: Reading) -> bool:
    """Says whether grey levels are the grey colours of classes, and not class indices."""
    greys = {red: label for (red, green, blue), label in reading.colours if red == green == blue}
    union = _union(masks)
    if not union or not union <= set(greys):
        return False
    values = dict(reading.values)
    return not union <= set(values) or (max(union) >= len(reading.names) and greys[max(union)] != IGNORE_LABEL)


def _union(masks: _Masks) -> set[int]:
    return {value for _, facts in masks for value in facts.pixels}


def _is_soft(facts: Facts, values: Mapping[int, int]) -> bool:
    """Says whether a mask has levels between its own, as smoothing leaves them."""
    unknown = [value for value in facts.pixels if value not in values]
    return facts.distinct > _SOFT_VALUES and len(unknown) > _SOFT_VALUES and len(unknown) * 2 > facts.distinct


def _soft(soft: _Masks, masks: _Masks, count: int) -> str:
    worst = max(soft, key=lambda each: each[1].distinct)[1]
    two = count == 2
    mend = (
        "Convert with --threshold=128, which makes levels from 128 on the second class, or store hard labels (0 and 1)."
        if two
        else "Store hard labels, the class index of each pixel, without smoothing; resize masks by nearest neighbour."
    )
    return (
        f"this is a soft mask, with {worst.distinct} different levels where {count} classes have {count}: its edges are"
        f" smoothed, or it holds probabilities. So {_are(soft, masks)}. {mend}"
    )


def _are(which: _Masks, masks: _Masks) -> str:
    if len(which) == 1:
        return "is this one mask" if len(masks) > 1 else "is the only mask"
    names = some([path.name for path, _ in which], 3)
    return f"are {len(which)} of {len(masks)} masks ({names})"


def _colours_without_classes(coloured: _Masks, masks: _Masks, table: ClassTable) -> str:
    pixels: collections.Counter[int] = collections.Counter()
    for _, facts in coloured:
        pixels.update(facts.pixels)
    if max(facts.distinct for _, facts in coloured) > _MOST_COLOURS:
        return (
            f"expected a mask of class indices (palette or grey PNG), got {max(f.distinct for _, f in coloured)}"
            " colours:"
            f" a photograph, or colours with soft edges. So {_are(coloured, masks)}. Export masks without smoothing and"
            " without JPEG, or name the folder of masks with --mask_dir."
        )
    found = [unpacked(colour) for colour, _ in pixels.most_common()]
    hint = ""
    known = {colour: name for name, colour in zip(table.names, pascal_palette(len(table.names)), strict=True)}
    if set(found) <= set(known) | {(224, 224, 192)}:
        lines = "; ".join(f"{name} {' '.join(map(str, colour))}" for colour, name in known.items())
        hint = f" They look like PASCAL VOC's; then the lines are: {lines}."
    return (
        "expected a mask of class indices (palette or grey PNG), got colours without a class:"
        f" {some(found, 6)}. So {_are(coloured, masks)}. Give every class its colour in {table.origin}, a line each,"
        f" such as '{table.names[-1]} {' '.join(map(str, found[-1]))}'.{hint}"
    )


def _shifted(union: set[int], table: ClassTable, options: Options, notes: list[str]) -> dict[int, int] | str | None:
    """Returns the labels where the classes start at another value than the file says, or what is unclear."""
    count = len(table.names)
    if table.numbered and 0 not in table.numbers and 0 in union and options.ignore_label != 0:
        if set(table.numbers) == set(range(1, count + 1)) and count not in union and is_background(table.names[0]):
            notes.append(f"{table.origin} numbers its lines from 1, the masks start at 0: line 1 is the value 0.")
            return {value - 1: label for value, label in table.numbers.items()} | {IGNORE_LABEL: IGNORE_LABEL}
        return (
            f"the mask value 0 has no class: {table.origin} starts at {min(table.numbers)}. Add a line '0"
            " background', or convert with --ignore_label=0 if these pixels do not count."
        )
    if options.ignore_label == 0 and not table.numbered and (count in union or not is_background(table.names[0])):
        notes.append(
            f"The value 0 does not count (--ignore_label=0), so the classes are the values 1 to {count}: 1 is"
            f" {table.names[0]}."
        )
        return {value + 1: label for value, label in table.numbers.items()} | {0: IGNORE_LABEL, 255: IGNORE_LABEL}
    return None


def _cause(masks: _Masks, union: set[int], table: ClassTable, options: Options) -> tuple[_Masks, str] | None:
    """Finds the one mistake behind many wrong values: the masks that have it, and what to say."""
    count = len(table.names)
    rest = union - {IGNORE_LABEL}
    numbers = dict(table.numbers)
    binary = [each for each in masks if set(each[1].pixels) <= {0, 255} and 255 in each[1].pixels]
    mixed = [each for each in masks if 255 in each[1].pixels and set(each[1].pixels) - {0, 255}]
    enough = count <= 2 or len(binary) == len(masks) or len(binary) >= max(2, _BINARY_SHARE * len(masks))
    if binary and not mixed and enough and options.ignore_label is None and numbers.get(255, 255) == IGNORE_LABEL:
        name = table.names[1] if count > 1 else "a class"
        values = "--values=0,255" if count == 2 and rest <= {0} else ""
        instead = f"write 1 instead of 255{' in all masks' if not values else ''}" + (
            f", or convert with {values}" if values else ""
        )
        return binary, (
            f"holds nothing but 0 and 255, and 255 means pixels that do not count: {name} would be lost. So"
            f" {_are(binary, masks)}. If 255 is {name}, {instead}; if 255 really does not count, say"
            " --ignore_label=255."
        )
    if rest <= set(numbers) or not rest:
        return None
    wrong = [each for each in masks if set(each[1].pixels) - set(numbers) - {IGNORE_LABEL, options.ignore_label}]
    if not wrong:
        return None
    if not table.numbered and rest <= set(range(1, count + 1)):
        listed = ",".join(str(value) for value in range(1, count + 1))
        return wrong, (
            f"the class indices start at 1 (values {_span(rest)} for {count} classes), and 0 is {table.names[0]}. So"
            f" {_are(wrong, masks)}. Convert with --values={listed}, which says that 1 is {table.names[0]}; or, if 0"
            f" is a class that never occurs, name it first in {table.origin}."
        )
    if not table.numbered and count >= 2 and rest <= set(range(count + 1)):
        return wrong, (
            f"expected class indices 0..{count - 1}, got {count}, one more than the {count} classes from 0 on. So"
            f" {_are(wrong, masks)}. Is 0 a class without a name, such as background? Name it first in"
            f" {table.origin}; or say --ignore_label=0 if 0 does not count and 1 is {table.names[0]}."
        )
    for found in (sorted(rest), sorted(union)):
        steps = {second - first for first, second in itertools.pairwise(found)}
        if len(found) == count >= 2 and min(steps, default=0) > 1 and max(steps) - min(steps) <= 1:
            return masks, (
                f"holds the values {some(found)}: class indices that were stretched to be seen. So"
                f" {_are(masks, masks)}. Convert with --values={','.join(map(str, found))}, the value of each class in"
                f" the order of {table.origin}."
            )
    return None


def _span(values: set[int]) -> str:
    return f"{min(values)}..{max(values)}" if len(values) > 1 else str(min(values))
