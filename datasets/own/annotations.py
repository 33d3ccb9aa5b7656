"""What the readers of annotation files share: JSON with one-line complaints, and the classes that names stand for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError, in_short

from ..messages import some
from .class_file import is_background, is_ignored
from .pairing import nearest


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: expected this annotation file, got: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a whole JSON file, cannot read it ({in_short(error)}). Export it again."
        ) from None


def label_of(name: str, names: Sequence[str], place: str) -> int:
    """Returns the label of a class that an annotation names; 255 for one that does not count.

    Raises:
        UserError: there is no such class.
    """
    plain = name.strip()
    if plain in names:
        return names.index(plain)
    if is_ignored(plain):
        return IGNORE_LABEL
    if is_background(plain) and any(map(is_background, names)):
        return background_of(names)
    near = nearest(plain, list(names))
    hint = f" Is it {near!r}?" if near else ""
    raise UserError(
        f"{place}: expected one of the classes {some(names, 6)}, got {plain!r}.{hint} Correct the annotation, or name"
        " the class in classes.txt."
    )


def background_of(names: Sequence[str]) -> int:
    """Returns the label of what nothing is drawn on: the class that is called background, or 255 without one."""
    return next((label for label, name in enumerate(names) if is_background(name)), IGNORE_LABEL)


def malformed(place: str, tool: str, error: Exception) -> UserError:
    """Returns the complaint about a file that is not as the tool writes it."""
    said = repr(error) if isinstance(error, KeyError) else in_short(error)
    return UserError(f"{place}: expected an annotation as {tool} writes it, cannot read it ({said}). Export it again.")
