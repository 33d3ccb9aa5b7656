"""Classes in a YAML or JSON file, in the forms in which tools and people write them.

[background, disc, box]                         names in order
{background: 0, disc: 1}                        the number of each name
{0: background, 1: disc}                        the name of each number
[{name: disc, id: 1, color: [250, 50, 83]}]     a list of descriptions
{names: ...}                                    any of them under "names", "classes", "labels" or "categories"
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from deeplab_tf.errors import UserError, in_short

SUFFIXES = (".yaml", ".yml", ".json")
_BELOW = ("names", "classes", "labels", "categories", "class_names")
_NAME = ("name", "label", "title", "class", "readable")
_NUMBER = ("id", "index", "value", "class_id", "label_id", "trainid")
_COLOUR = ("color", "colour", "rgb")


class Entry(NamedTuple):
    """What a file says of one class; None for what it does not say."""

    name: str
    number: int | None
    colour: str | None


def load(path: Path) -> Any:
    """Reads a YAML or JSON file.

    Raises:
        UserError: it is missing, or damaged.
    """
    import yaml  # takes time to load, and few need it

    try:
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: expected a list of classes, got: {error.strerror or error}.") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise UserError(f"{path}: expected {kind}, cannot read it ({in_short(error)}). Correct it.") from None


def read(path: Path) -> list[Entry]:
    """Reads the classes of a YAML or JSON file.

    Raises:
        UserError: it is missing or damaged, or does not say classes.
    """
    content = load(path)
    while isinstance(content, dict):
        below = next((content[key] for key in _BELOW if isinstance(content.get(key), (list, dict))), None)
        if below is None:
            break
        content = below
    try:
        found = list(_entries(content))
    except (KeyError, TypeError, ValueError):
        found = []
    if not found:
        raise UserError(
            f'{path}: expected the names of the classes, such as {{"names": ["background", "road"]}}, found none.'
            " Or write classes.txt: one class per line, index 0 first."
        )
    return found


def _entries(content: Any) -> Iterator[Entry]:
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, str) and str(key).isdecimal():
                yield Entry(value, int(key), None)
            elif isinstance(value, int) and not isinstance(value, bool):
                yield Entry(str(key), value, None)
            elif isinstance(value, list):
                yield Entry(str(key), None, ",".join(str(int(level)) for level in value))
            else:
                raise ValueError(key)
        return
    for each in content:
        if not isinstance(each, dict):
            if isinstance(each, (list, bool)) or each is None:
                raise ValueError(each)
            yield Entry(str(each), None, None)
            continue
        lowered = {str(key).casefold(): value for key, value in each.items()}
        name = lowered[next((key for key in _NAME if key in lowered), _NAME[0])]
        number = next((int(lowered[key]) for key in _NUMBER if key in lowered), None)
        colour = next((lowered[key] for key in _COLOUR if key in lowered), None)
        yield Entry(str(name), number, ",".join(map(str, colour)) if isinstance(colour, list) else colour)
