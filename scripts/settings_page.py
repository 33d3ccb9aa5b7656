"""Writes docs/settings.md: every setting with its type, default, range and meaning, from the code.

  python -m scripts.settings_page

Names, types, defaults and meanings are those of the dataclasses in `deeplab_tf/config.py`. Ranges are found by trying
values, so that the page says what --set takes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

from deeplab_tf.config import SECTIONS, Config
from deeplab_tf.runtime import files
from deeplab_tf.runtime.command_line import run

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_INTRODUCTION = """# Settings

Every setting of a training and of a network: `--set=section.field=value`, for example
`--set=train.iterations=2000`. Lists have commas: `--set=model.scales=1,0.75,0.5`; an empty value is the empty list.
`train.py` takes all of them, `eval.py`, `predict.py` and `export.py` those that do not say how the network was
trained. `config.json` in a workdir holds them all, and `train.py --config=FILE` reads such a file or a part of it.

The defaults are those of the code. An experiment sets some of its own
([`deeplab_tf/experiments.py`](../deeplab_tf/experiments.py), `python train.py --list_experiments`).

This page is written by `python -m scripts.settings_page`.
"""
_TITLES = {
    "model": "The network",
    "train": "The training loop",
    "optimizer": "The solver",
    "crf": "The dense CRF",
    "inference": "How the network is run on images",
}


def page() -> str:
    """Returns the page."""
    hints = typing.get_type_hints(Config)
    parts = [_INTRODUCTION]
    for section in SECTIONS:
        kind = hints[section]
        meanings = _meanings(kind)
        types_of = typing.get_type_hints(kind)
        parts.append(f"## {_TITLES[section]}\n")
        parts.append("| setting | type | default | range | meaning |\n|---|---|---|---|---|")
        for field in dataclasses.fields(kind):
            cells = (
                f"`{section}.{field.name}`",
                _type_name(types_of[field.name]),
                _shown(field.default),
                range_of(kind(), field.name, types_of[field.name]),
                meanings[field.name],
            )
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def range_of(section: Any, name: str, kind: Any) -> str:
    """Finds out which values a field takes; "" where the meaning has to say it, as for lists.

    Args:
        section: such as `TrainConfig()`.
        name: of the field.
        kind: its type.
    """
    if kind is bool:
        return "true, false"
    refused = _refusal(section, name, "?" if kind is str else -12345)
    if choices := re.search(r"must be one of (.*); got", refused):
        return choices[1]
    if kind not in (int, float):
        return ""

    def takes(value: float) -> bool:
        return not _refusal(section, name, kind(value))

    least = next((value for value in (-1, 0, 1) if takes(value)), None)
    if least == -1:
        return ""
    if least == 1 and kind is float:
        return "above 0"
    if takes(1000):
        return f"at least {least}"
    return "0 to 1" if takes(1) else "at least 0, below 1"


def _refusal(section: Any, name: str, value: Any) -> str:
    """Returns why a value is refused; "" where it is not."""
    try:
        dataclasses.replace(section, **{name: value})
    except (ValueError, TypeError) as error:
        return str(error)
    return ""


def _meanings(kind: type) -> dict[str, str]:
    """Reads the Attributes of a docstring, each as one line."""
    text = inspect.getdoc(kind) or ""
    attributes = text.split("Attributes:\n", 1)[1]
    found = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(meaning.split()).replace("|", "\\|") for name, meaning in found}


def _type_name(kind: Any) -> str:
    if isinstance(kind, types.GenericAlias):
        return f"list of {_type_name(typing.get_args(kind)[0])}s"
    return {int: "whole number", float: "number", bool: "switch", str: "name"}[kind]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(f'{item:g}' for item in value)}`" if value else "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> None:
    """Writes the page."""
    files.write_text(str(PAGE), page())
    print(PAGE)


if __name__ == "__main__":
    run(main, needs_tensorflow=False)
