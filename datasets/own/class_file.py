"""The file that names a user's classes, in the forms in which people and labelling tools write it.

    background                      one name a line, the mask value 0 first
    2 box                           numbered lines, in any order
    road 128 64 128                 with a colour, before or after the name, also as #804080
    disc:250,50,83::                CVAT's labelmap.txt: name:colour:parts:actions
    Pixel Value, Class              Roboflow's and other tables: the header says what each column is
    {"names": ["road", "sky"]}      JSON and YAML: see `class_document`

Text may be UTF-8 or UTF-16, lines may end as on Windows, and "#" followed by a space starts a comment. A name that says
"ignore" (also "__ignore__", as labelme writes it) is no class: its pixels do not count.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deeplab_tf.dataset_info import IGNORE_LABEL, find_background
from deeplab_tf.errors import UserError

from ..messages import some
from . import class_document

Colour = tuple[int, int, int]

_HINT = "Write one class name per line, index 0 first, or give --classes=a,b,c."
_IGNORED = {"ignore", "ignored"}
_NUMBER = r"\d{1,5}"
_RGB = rf"(?P<red>{_NUMBER})[\s,;]+(?P<green>{_NUMBER})[\s,;]+(?P<blue>{_NUMBER})"
_HEX = r"#(?P<hex>[0-9a-fA-F]{6})"
# A line with a colour behind its name, before it, and a line with a number.
_NAME_RGB = re.compile(rf"(?P<name>.*?)[\s,;:=]+\(?\[?{_RGB}\]?\)?[\s,;:]*")
_RGB_NAME = re.compile(rf"\(?\[?{_RGB}\]?\)?[\s,;:=]+(?P<name>\D.*)")
_NAME_HEX = re.compile(rf"(?P<name>.*?)[\s,;:=]+{_HEX}[\s,;:]*")
_HEX_NAME = re.compile(rf"{_HEX}[\s,;:=]+(?P<name>.*)")
_NUMBERED = re.compile(rf"(?P<number>{_NUMBER})(?:\s*[:,;=.)\t]\s*|\s+)(?P<name>\D.*)")
_LABELMAP = re.compile(r"(?P<name>[^:]*):(?P<rgb>[^:]*):(?P<parts>[^:]*):(?P<actions>[^:]*)")
_COMMENT = re.compile(r"#(?![0-9a-fA-F]{6}\b)|//")
_TRAILING_COMMENT = re.compile(r"\s+#\s.*$")
# What the header of a table may call its columns.
_COLUMNS = {
    "name": {"name", "class", "classname", "label", "labelname", "category", "title", "object"},
    "number": {"pixelvalue", "value", "index", "id", "classid", "labelid", "trainid", "number", "idx", "pixel"},
    "red": {"r", "red"},
    "green": {"g", "green"},
    "blue": {"b", "blue"},
    "colour": {"color", "colour", "rgb", "colorrgb", "hex"},
}


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """What a file, or --classes, says of the classes.

    Attributes:
        names: of the classes; the place of a name is its label.
        numbers: the label, or 255, of each mask value that has a name. In the order of the lines where the file does
            not number them.
        numbered: whether the file says itself which value a class has.
        colours: the label, or 255, of each colour; empty where the file gives none.
        origin: the file, or "--classes", for messages.
    """

    names: tuple[str, ...]
    numbers: Mapping[int, int]
    numbered: bool
    colours: Mapping[Colour, int]
    origin: str

    @property
    def palette(self) -> tuple[Colour, ...] | None:
        """The colour of each class; None where not every class has one."""
        colours = {label: colour for colour, label in reversed(list(self.colours.items())) if label != IGNORE_LABEL}
        found = tuple(colours[label] for label in range(len(self.names)) if label in colours)
        return found if len(found) == len(self.names) else None


@dataclasses.dataclass(frozen=True)
class _Line:
    name: str
    number: int | None = None
    colour: Colour | None = None
    text: str = ""


def is_ignored(name: str) -> bool:
    """Says whether a class of this name is none: its pixels do not count."""
    return name.strip("_ ").casefold() in _IGNORED


def is_background(name: str) -> bool:
    """Says whether this is what tools call the pixels that show nothing of interest."""
    return find_background([name]) is not None


def from_names(names: Sequence[str], origin: str) -> ClassTable:
    """Builds a table of names, the first one for the mask value 0.

    Raises:
        UserError: no names, a name twice, or more than 255.
    """
    return _table([_Line(_clean(name), text=name) for name in names], origin)


def read(path: Path) -> ClassTable:
    """Reads a file of classes.

    Raises:
        UserError: the file is missing or no text, a line is not understood, or the lines contradict each other.
    """
    if path.suffix.lower() in class_document.SUFFIXES and path.exists():
        return _table(_read_document(path), str(path))
    text = _read_text(path)
    entries = [_TRAILING_COMMENT.sub("", line).strip() for line in text.splitlines() if line.strip()]
    lines = _read_csv(path, entries)
    if lines is None:
        # CVAT writes the columns of its labelmap as a comment.
        entries = [entry for entry in entries if not _COMMENT.match(entry)]
        if not entries:
            raise UserError(f"{path}: expected one class per line, the file is empty. {_HINT}")
        lines = _read_lines(path, entries)
    return _table(lines, str(path))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: expected this list, found no such file. {_HINT}") from None
    except OSError as error:
        raise UserError(f"{path}: expected a list of classes, got: {error.strerror or error}. {_HINT}") from None
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected a UTF-8 text file of one class per line: {error}. Save it as UTF-8."
        ) from None
    if "\0" in text:
        raise UserError(f"{path}: expected a UTF-8 text file, found zero bytes, as in UTF-16. Save it as UTF-8.")
    return text


def _read_document(path: Path) -> list[_Line]:
    lines = []
    for entry in class_document.read(path):
        try:
            colour = _colour_of(entry.colour) if entry.colour is not None else None
        except ValueError:
            raise UserError(
                f"{path}: expected a colour of three levels 0 to 255 for {entry.name!r}, got {entry.colour}."
            ) from None
        lines.append(_Line(_clean(entry.name), entry.number, colour, entry.name))
    return lines


def _read_csv(path: Path, entries: Sequence[str]) -> list[_Line] | None:
    """Reads a table whose header names its columns; None where the first line is none."""
    if not entries:
        return None
    header = entries[0].lstrip("#").strip()
    delimiter = next((sign for sign in (",", ";", "\t") if sign in header), None)
    if delimiter is None:
        if path.suffix.lower() == ".csv" and _column(header) == "name":
            return [_Line(_clean(entry), text=entry) for entry in entries[1:]]
        return None
    columns = [_column(cell) for cell in next(csv.reader([header], delimiter=delimiter))]
    if "name" not in columns or len([column for column in columns if column]) < 2:
        return None
    lines = []
    rows = csv.reader(io.StringIO("\n".join(entries[1:])), delimiter=delimiter, skipinitialspace=True)
    for entry, row in zip(entries[1:], rows, strict=False):
        cells = {column: cell.strip() for column, cell in zip(columns, row, strict=False) if column}
        number = cells.get("number")
        colour = cells.get("colour")
        try:
            if not cells.get("name"):
                raise ValueError
            found = _Line(
                _clean(cells["name"]),
                int(number) if number else None,
                _colour_of(colour)
                if colour
                else _checked_colour([int(cells[channel]) for channel in ("red", "green", "blue")])
                if "red" in cells
                else None,
                entry,
            )
        except (ValueError, KeyError):
            raise _not_understood(path, entry, f"as its header {entries[0]!r} says") from None
        lines.append(found)
    if not lines:
        raise UserError(f"{path}: expected one class per line below the header, found none. {_HINT}")
    return lines


def _column(title: str) -> str:
    plain = re.sub(r"[^a-z]", "", title.casefold())
    return next((column for column, titles in _COLUMNS.items() if plain in titles), "")


def _read_lines(path: Path, entries: Sequence[str]) -> list[_Line]:
    """Reads lines without a header. Where most have a colour, or a number, every line must have one."""
    if all(_LABELMAP.fullmatch(entry) for entry in entries):
        return [_labelmap_line(path, entry) for entry in entries]
    coloured = [_coloured_line(entry) for entry in entries]
    if any(coloured):
        coloured = _with_black(entries, coloured)
        for entry, line in zip(entries, coloured, strict=True):
            if line is None or line.colour is None:
                raise UserError(
                    f"{path}: expected a colour for every class, or for none, such as 'road 128 64 128' or 'road"
                    f" #804080' with levels 0 to 255, got {entry!r}."
                )
        return [line for line in coloured if line is not None]
    numbered = [_NUMBERED.fullmatch(entry) for entry in entries]
    if any(numbered) and (all(numbered) or len(entries) > 1):
        missing = [entry for entry, match in zip(entries, numbered, strict=True) if not match]
        if len(missing) * 2 <= len(entries):
            if missing:
                raise _not_understood(path, missing[0], "as a number and a name, like the other lines")
            return [
                _Line(_clean(match["name"]), int(match["number"]), text=entry)
                for entry, match in zip(entries, numbered, strict=True)
                if match
            ]
    for entry in entries:
        if not re.search(r"\w", entry) or len(entry) > 200:
            raise _not_understood(path, entry, "as the name of a class")
        if re.fullmatch(r"[\d\s.,;:]+", entry):
            raise _not_understood(path, entry, "as the name of a class: there are only numbers in it")
    return [_Line(_clean(entry), text=entry) for entry in entries]


def _with_black(entries: Sequence[str], lines: Sequence[_Line | None]) -> list[_Line | None]:
    """Gives black to the background, if it is the only class without a colour and no other class is black."""
    without = [place for place, line in enumerate(lines) if line is None]
    used = {line.colour for line in lines if line is not None}
    if len(without) != 1 or not is_background(_clean(entries[without[0]])) or (0, 0, 0) in used:
        return list(lines)
    entry = entries[without[0]]
    return [_Line(_clean(entry), None, (0, 0, 0), entry) if line is None else line for line in lines]


def _labelmap_line(path: Path, entry: str) -> _Line:
    match = _LABELMAP.fullmatch(entry)
    if match is None:
        raise _not_understood(path, entry, "as name:red,green,blue:parts:actions")
    try:
        colour = _colour_of(match["rgb"]) if match["rgb"].strip() else None
    except ValueError:
        raise _not_understood(path, entry, "as name:red,green,blue:parts:actions") from None
    return _Line(_clean(match["name"]), None, colour, entry)


def _coloured_line(entry: str) -> _Line | None:
    """Returns a line with a colour; without the colour where its levels are none; None where it has no colour."""
    for pattern in (_NAME_HEX, _HEX_NAME, _NAME_RGB, _RGB_NAME):
        match = pattern.fullmatch(entry)
        if match is None:
            continue
        name, number = match["name"].strip(" \t,;:="), None
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            name, number = numbered["name"], int(numbered["number"])
        if not re.search(r"[^\W\d]", name):
            continue  # numbers only: this is no name
        fields = match.groupdict()
        try:
            colour = (
                _colour_of("#" + fields["hex"])
                if fields.get("hex")
                else _checked_colour([int(fields[channel]) for channel in ("red", "green", "blue")])
            )
        except ValueError:
            return _Line(_clean(name), number, None, entry)
        return _Line(_clean(name), number, colour, entry)
    return None


def _colour_of(text: str) -> Colour:
    """Reads "#rrggbb" or three levels.

    Raises:
        ValueError: anything else.
    """
    plain = text.strip()
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", plain):
        digits = plain.removeprefix("#")
        return (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    return _checked_colour([int(level) for level in re.findall(r"-?\d+", plain)])


def _checked_colour(levels: Sequence[int]) -> Colour:
    if len(levels) != 3 or not all(0 <= level <= 255 for level in levels):
        raise ValueError
    return (levels[0], levels[1], levels[2])


def _clean(name: str) -> str:
    """Returns a name without quotes, and "background" for labelme's "_background_"."""
    name = name.strip().strip("\"'").strip()
    return "background" if name.startswith("_") and name.strip("_ ").casefold() == "background" else name


def _table(lines: Sequence[_Line], origin: str) -> ClassTable:
    """Joins the lines to a table."""
    numbered = any(line.number is not None for line in lines)
    if numbered:
        without = [line.text for line in lines if line.number is None]
        if without:
            raise UserError(f"{origin}: expected a number for every class, or for none, got {without[0]!r}.")
        _refuse_repetitions(origin, "number", [line.number for line in lines], lines)
        lines = sorted(lines, key=lambda line: line.number or 0)
    _refuse_repetitions(origin, "colour", [line.colour for line in lines], lines)
    names: list[str] = []
    numbers: dict[int, int] = {}
    colours: dict[Colour, int] = {}
    value = 0
    for place, line in enumerate(lines):
        if is_ignored(line.name):
            label = IGNORE_LABEL
            # labelme numbers "__ignore__" -1, as the first of its list.
            takes_a_value = not (place == 0 and line.name == "__ignore__") and line.colour is None
        else:
            label, takes_a_value = len(names), True
            names.append(line.name)
        if numbered:
            numbers[line.number or 0] = label
        elif takes_a_value:
            numbers[value] = label
            value += 1
        if line.colour is not None:
            colours[line.colour] = label
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"{origin}: expected 1 to 255 class names, each once, found twice: {some(twice)}. Give each class its own"
            " name."
        )
    if not 1 <= len(names) <= 255 or not all(names):
        raise UserError(
            f"{origin}: expected 1 to 255 class names, each once, got {len(names)}: {', '.join(names)[:200]}."
        )
    return ClassTable(tuple(names), numbers, numbered, colours, origin)


def _refuse_repetitions(origin: str, what: str, values: Sequence[object], lines: Sequence[_Line]) -> None:
    seen: set[object] = set()
    for value, line in zip(values, lines, strict=True):
        if value is not None and value in seen:
            raise UserError(f"{origin}: expected every {what} once, got {line.text!r} again. Give each class its own.")
        seen.add(value)


def _not_understood(path: Path, entry: str, wanted: str) -> UserError:
    return UserError(f"{path}: cannot read the line {entry!r:.120} {wanted}. Correct it; '# ' starts a comment.")
