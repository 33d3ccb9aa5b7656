"""Your own data: a folder of images with masks, or as a labelling tool exports it.

    ROOT/images/STEM.jpg        also jpeg, png, bmp, tif, tiff, webp, gif
    ROOT/masks/STEM.png         class indices, palette or grey; or colours
    ROOT/classes.txt            one name a line, index 0 first
    ROOT/splits/NAME.txt        optional: the images of a split, one a line; a split "test" may go without masks

`datasets.own.layouts` has the other layouts. All masks are looked at before the first one is stored, because a single
mask cannot say what its values mean: `prepare` says in a paragraph what was understood, or all that is wrong.

Without split files a share of the images becomes val, by a hash of their content. --image_dir, --mask_dir and --classes
name other places; then all images there form the one split that --splits names.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo
from deeplab_tf.errors import UserError, UserErrors
from deeplab_tf.images.files import SUFFIXES
from deeplab_tf.images.palettes import PALETTES

from ..messages import some
from ..own import class_file as class_files
from ..own import content_split, listing, mask_file, recognition
from ..own.class_file import ClassTable
from ..own.decide import Options, decide
from ..own.faults import mask_problem, picture_notes, picture_problems, unknown_values
from ..own.layout import Item, Layout, LeftOut, Place
from ..own.layouts.mask_pairs import near
from ..own.naming import proposal
from ..own.reading import Reading, labels_of
from ..own.summary import paragraph
from ..own.survey import Seen, Totals, draw_labels, files_of, head_of, label_pixels, survey
from ..raw import files as raw_files
from ..source import Example, Source

_NO_CLASSES = "folder needs the class names: --classes=a,b,c (index 0 first) or --root with classes.txt."
_SPLIT_ORDER = ("train", "val", "test")
_CLASS_FILES = (".txt", ".csv", ".names", ".json", ".yaml", ".yml")
# So many masks say what the classes may be.
_LOOKED_AT = 50


def info(source: Source) -> DatasetInfo:
    """Returns the named classes, with the colours of classes.txt, else the masks' palette, else distinct ones.

    Raises:
        UserError: no classes are named, one is named twice, there are more than 255, or only some have a colour.
    """
    reading = source.reading
    if reading is None:
        layout = _layout(source)
        table = _table(source, layout)
        palette = table.palette or ()
        if not palette:
            own = _first_palette(layout)[: len(table.names)]
            palette = own if len(set(own)) == len(table.names) else PALETTES["distinct"](table.names)
        return DatasetInfo(name="folder", class_names=table.names, palette=palette)
    return DatasetInfo(name="folder", class_names=reading.names, palette=reading.palette)


def splits(source: Source) -> list[str]:
    """Returns the split lists' names, or those that folders have, or the one named split, or train and val.

    Raises:
        UserError: --image_dir or --mask_dir is given without the name of the one split to write.
    """
    layout = _layout(source)
    if layout.lists and (not _place(source).is_one_split or set(source.split_names) <= set(layout.lists)):
        return sorted(layout.lists)
    if _place(source).is_one_split:
        if len(source.split_names) != 1:
            raise UserError(
                "--image_dir and --mask_dir hold one split: name it with --splits=NAME (such as train), got"
                f" {', '.join(source.split_names) or 'no name'}. A second call adds another split to the same --out."
            )
        return list(source.split_names)
    named = {item.split for item in layout.items if item.split}
    return [split for split in _SPLIT_ORDER if split in named] or ["train", "val"]


def ids(source: Source, split: str) -> list[str]:
    """Returns the ids of a split, the stems of its images: in its list's order, or sorted where there is no list.

    Raises:
        UserError: no such split or no images; an image is missing, has no mask, or shares its stem with another.
    """
    items, problems = _items(source, split)
    if problems:
        raise UserErrors(problems)
    return [item.image_id for item in items]


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its labels.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    layout = _layout(source)
    item = _item(layout, image_id)
    reading = source.reading or _lenient_reading(source, layout)
    data = b"" if item.image is not None else recognition.FORMS["labelme"].image_bytes(item.labels[0])
    image_path = item.image if item.image is not None else item.labels[0]
    table = _classes_path(source, layout)
    files = (*files_of(item), *((table,) if table is not None else ()))
    if not item.labels and (layout.form != "class_masks" or _is_unlabelled(split, [item])):
        return Example(image_id, raw_files.read_image(image_path, data, _said_before), None, files)
    labels_path = item.labels[0] if item.labels else image_path
    labels_png = b""
    if layout.form == "masks":
        mask = mask_file.read_mask(labels_path, bool(reading.threshold))
        labels, unknown = labels_of(mask, reading)
        by_colour = mask.coloured or (mask.palette is not None and reading.palette_is_colour)
        problem = mask_problem(
            labels_path, mask_file.measure(mask), unknown, by_colour, reading, _first_palette(layout)
        )
        if problem:
            raise UserError(problem)
        labels_png = mask.grey if labels is mask.values else b""
    else:
        labels = draw_labels(item, layout, reading.names, head_of(item, layout))
    built = raw_files.build_example(
        image_id, image_path, labels, labels_path, image_data=data, frame=reading.mask_frame, say=_said_before
    )
    return built._replace(files=files, labels_png=labels_png if built.labels is labels else b"")


def _said_before(note: str) -> None:
    """Takes what is assumed of an image: `prepare` has counted it."""


def prepare(source: Source) -> tuple[Source, str]:
    """Looks at all images and labels of the wanted splits, and decides what they mean.

    Returns:
        The source with its `reading`, and a paragraph that says what was understood.

    Raises:
        UserErrors: all that is wrong.
    """
    layout = _layout(source)
    problems = list(layout.problems)
    if problems:
        raise UserErrors(problems)
    table = _table(source, layout)
    wanted: dict[str, list[Item]] = {}
    for split in source.split_names or splits(source):
        wanted[split], wrong = _items(source, split)
        problems += wrong
    items = list({item.image_id: item for chosen in wanted.values() for item in chosen}.values())
    unlabelled = {item.image_id for split, chosen in wanted.items() if _is_unlabelled(split, chosen) for item in chosen}
    seen = survey(items, layout, table.names, as_levels=bool(source.threshold))
    problems += [each.problem for each in seen if each.problem]
    reading, notes, totals, wrong = _understand(source, layout, table, seen)
    problems += wrong
    problems += picture_problems(seen, unlabelled, reading)
    if problems:
        raise UserErrors(sorted(set(problems)))
    if layout.form != "masks":
        reading = dataclasses.replace(reading, fingerprint=_fingerprint(items))
    source = dataclasses.replace(source, reading=reading)
    text = paragraph(
        _place(source).root,
        layout,
        reading.names,
        table.origin,
        totals,
        {split: [item.image_id for item in chosen] for split, chosen in wanted.items()},
        _split_by(source, layout),
        [*layout.left_out, *_not_wanted(source, layout, wanted)],
        [*layout.notes, *notes, *picture_notes(seen, reading), *_in_two_splits(wanted)],
    )
    return source, text


def _in_two_splits(wanted: dict[str, list[Item]]) -> list[str]:
    """Says which images of train are in val or test as well, which makes scores there too good."""
    train = {item.image_id for item in wanted.get("train", [])}
    notes = []
    for split in ("val", "test"):
        both = [item.image_id for item in wanted.get(split, []) if item.image_id in train]
        if both:
            count = f"{len(both)} image{'' if len(both) == 1 else 's'}"
            notes.append(f"Both train and {split} have {count} ({some(both, 3)}): scores on {split} will be too good.")
    return notes


def _place(source: Source) -> Place:
    if not source.root and not source.image_dir:
        if source.mask_dir or not source.classes:
            raise UserError(
                "folder needs --root=FOLDER with images/, masks/ and classes.txt, or --image_dir and --mask_dir."
            )
        raise UserError(_NO_CLASSES)
    named = Path(source.classes[0]) if len(source.classes) == 1 else None
    is_file = named is not None and (named.is_file() or named.suffix.lower() in _CLASS_FILES or len(named.parts) > 1)
    return Place(
        root=Path(source.root) if source.root else None,
        image_dir=Path(source.image_dir) if source.image_dir else None,
        mask_dir=Path(source.mask_dir) if source.mask_dir else None,
        mask_suffix=source.mask_suffix,
        class_file=named if is_file else None,
        class_names=() if is_file else source.classes,
    )


def _layout(source: Source) -> Layout:
    return recognition.recognise(_place(source))


def _table(source: Source, layout: Layout) -> ClassTable:
    """Returns the classes that a flag, a file, or else the annotations name; with background where labels are drawn."""
    place = _place(source)
    path = _classes_path(source, layout)
    if place.class_names:
        table = class_files.from_names(place.class_names, "--classes")
    elif path is not None:
        table = class_files.read(path)
    elif layout.class_names:
        table = class_files.from_names(_with_background(layout.class_names), f"the labels of {layout.name}")
    elif layout.form in recognition.FORMS:
        found = recognition.FORMS[layout.form].names_in(layout.items)
        table = class_files.from_names(_with_background(found), f"the labels of {layout.name}, sorted")
    elif place.root is None:
        raise UserError(_NO_CLASSES)
    else:
        labelled = [item for item in layout.items if item.labels][:_LOOKED_AT] if layout.form == "masks" else []
        facts = [each.facts for each in survey(labelled, layout, (), quiet=True) if each.facts is not None]
        raise UserError(
            f"{place.root / 'classes.txt'}: expected this list, found no such file. Write one class name per line,"
            f" index 0 first, or give --classes=a,b,c.{proposal(facts)}"
        )
    if layout.form != "masks" and not any(map(class_files.is_background, table.names)):
        table = class_files.from_names(("background", *table.names), f"{table.origin} and background")
    return table


def _with_background(names: Sequence[str]) -> list[str]:
    counted = [name for name in names if not class_files.is_ignored(name)]
    behind = [name for name in counted if class_files.is_background(name)]
    return [*(behind or ["background"]), *(name for name in counted if name not in behind)]


def _classes_path(source: Source, layout: Layout) -> Path | None:
    """Returns the file that names the classes; None where none does."""
    place = _place(source)
    if place.class_names:
        return None
    return place.class_file or layout.class_file


def _item(layout: Layout, image_id: str) -> Item:
    place = bisect.bisect_left(layout.items, image_id, key=lambda item: item.image_id)
    return layout.items[place]


def _items(source: Source, split: str) -> tuple[list[Item], list[str]]:
    """Returns the images of a split, and what is wrong with them."""
    available = splits(source)
    if split not in available:
        raise UserError(f"expected one of the splits {', '.join(available)}, got {split!r}. Correct --splits.")
    layout, place = _layout(source), _place(source)
    if layout.problems:
        raise UserErrors(layout.problems)
    folder = place.image_dir or (
        place.root / "images" if place.root and (place.root / "images").is_dir() else place.root
    )
    complete = False
    if split in layout.lists:
        items = listing.read(layout.lists[split], layout.items, folder or Path())
    elif place.is_one_split:
        items, complete = list(layout.items), True
    elif any(item.split for item in layout.items):
        items, complete = [item for item in layout.items if item.split == split], True
    else:
        items, complete = list(layout.items), True
    if source.id_file:
        listed = {item.image_id for item in listing.read(Path(source.id_file), layout.items, folder or Path())}
        items, complete = [item for item in items if item.image_id in listed], False
    by_hash = complete or source.id_file
    if by_hash and split not in layout.lists and not place.is_one_split and not any(i.split for i in layout.items):
        items = content_split.choose(items, split, source.val_fraction)
    if not items:
        hint = "Leave it out of --splits." if not source.id_file else "Correct --ids or --splits."
        return [], [f"expected at least one image in split {split!r}, got none. {hint}"]
    problems = []
    if complete:
        problems += [_lone(path, layout, place) for path in layout.lone_labels]
    if layout.form == "masks" and not _is_unlabelled(split, items):
        problems += [_without_mask(item, layout, place) for item in items if not item.labels]
    return items, problems


def _lone(path: Path, layout: Layout, place: Place) -> str:
    folder = place.image_dir or place.root
    if folder is not None and (folder / "images").is_dir():
        folder = folder / "images"
    images = [item.image for item in layout.items if item.image is not None]
    return (
        f"{path}: expected its image in {folder}, found none. Add the image ({' '.join(SUFFIXES)}) or remove the"
        f" mask.{near(path, images)}"
    )


def _without_mask(item: Item, layout: Layout, place: Place) -> str:
    image = item.image or Path(item.image_id)
    folder = place.mask_dir or (place.root / "masks" if place.root else None)
    with_labels = next((each.labels[0].parent for each in layout.items if each.labels), None)
    if place.mask_dir is None and with_labels is not None and (folder is None or not folder.is_dir()):
        folder = with_labels
    lone = list(layout.lone_labels)
    return (
        f"{image}: expected its mask at {(folder or image.parent) / f'{image.stem}.png'}, found none. Add the mask or"
        f" remove the image.{near(image, lone)}"
    )


def _is_unlabelled(split: str, items: Sequence[Item]) -> bool:
    """Says whether these images are test images: for any other split a missing mask is a mistake."""
    return split == "test" and not any(item.labels for item in items)


def _first_palette(layout: Layout) -> tuple[mask_file.Colour, ...]:
    """Returns the palette of the first mask, () where it has none."""
    if layout.form != "masks":
        return ()
    first = layout.first_mask
    if first is None or first.suffix.lower() == ".npy":
        return ()
    try:
        return _palette_of(first, os.stat(first).st_mtime_ns)
    except (UserError, OSError):
        return ()  # reading the examples says what is wrong with the file


@functools.lru_cache(maxsize=8)
def _palette_of(path: Path, changed: int) -> tuple[mask_file.Colour, ...]:
    del changed
    return raw_files.read_palette(path)


class _Understood(NamedTuple):
    reading: Reading
    notes: list[str]
    totals: Totals
    problems: list[str]


def _options(source: Source) -> Options:
    return Options(source.ignore_label, source.values, source.threshold, source.mask_frame)


def _lenient_reading(source: Source, layout: Layout) -> Reading:
    """Decides what masks mean without complaints: reading each says what is wrong with it."""
    table = _table(source, layout)
    seen = survey(layout.items, layout, table.names, True, bool(source.threshold)) if layout.form == "masks" else []
    return _understand(source, layout, table, seen).reading


def _understand(source: Source, layout: Layout, table: ClassTable, seen: Sequence[Seen]) -> _Understood:
    """Decides what the values mean, and counts the pixels."""
    pixels: dict[int, int] = {}
    images: dict[int, int] = {}
    ignored: dict[int, int] = {}
    problems: list[str] = []
    first = _first_palette(layout)
    if layout.form == "masks":
        measured = [(each.item.labels[0], each.facts) for each in seen if each.facts is not None and each.item.labels]
        decision = decide(measured, table, _options(source), first)
        reading, notes = decision.reading, decision.notes
        problems += decision.problems
        blamed = decision.blamed
    else:
        measured = [(each.item.labels[0], each.facts) for each in seen if each.facts is not None and each.item.labels]
        numbers = {label: label for label in range(len(table.names))} | {IGNORE_LABEL: IGNORE_LABEL}
        palette = table.palette or PALETTES["distinct"](table.names)
        reading = Reading(table.names, palette, tuple(numbers.items()), mask_frame=source.mask_frame)
        notes, blamed = [], set()
    for path, facts in measured:
        by_colour = facts.coloured or (facts.palette is not None and reading.palette_is_colour)
        by_palette = by_colour and not facts.coloured
        lookup = reading.table(facts.coloured, facts.palette is not None)
        if reading.threshold:
            lookup = {value: int(value >= reading.threshold) for value in facts.pixels}
        counted = label_pixels(facts, lookup, by_palette)
        for label, count in counted.items():
            pixels[label] = pixels.get(label, 0) + count
            images[label] = images.get(label, 0) + 1
        for value, count in facts.pixels.items():
            if not by_colour and lookup.get(value) == IGNORE_LABEL:
                ignored[value] = ignored.get(value, 0) + count
        if path in blamed or layout.form != "masks":
            continue
        unknown = unknown_values(facts, lookup, by_palette)
        problem = mask_problem(path, facts, unknown, by_colour, reading, first)
        if problem:
            problems.append(problem)
    return _Understood(reading, notes, Totals(pixels, images, ignored if layout.form == "masks" else {}), problems)


def _split_by(source: Source, layout: Layout) -> str:
    if layout.lists and not (_place(source).is_one_split and not set(source.split_names) <= set(layout.lists)):
        return f"by the lists in {next(iter(layout.lists.values())).parent}"
    if _place(source).is_one_split:
        return "by --splits"
    if any(item.split for item in layout.items):
        return "by the names of the folders"
    return f"by a hash of each image's content (--val_fraction={source.val_fraction:g})"


def _not_wanted(source: Source, layout: Layout, wanted: dict[str, list[Item]]) -> list[LeftOut]:
    """Returns the images that are in no split that is written."""
    used = {item.image_id for items in wanted.values() for item in items}
    rest = [item for item in layout.items if item.image_id not in used and item.image is not None]
    reason = "in no split that is written"
    return [LeftOut(reason, tuple(item.image for item in rest if item.image is not None))] if rest else []


def _fingerprint(items: Sequence[Item]) -> str:
    """Returns a text that changes when an annotation file does, for what is drawn from one file for many images."""
    paths = sorted({path for item in items for path in item.labels})
    states = [(str(path), os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths if path.exists()]
    return hashlib.sha256(repr(states).encode(errors="surrogateescape")).hexdigest()[:16]
