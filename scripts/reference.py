"""Writes docs/reference.md: the public names of `deeplab_tf`, from their signatures and docstrings.

    python -m scripts.reference

A test says when the page is out of date.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
GROUPS = {
    "Trained networks": ("list_pretrained", "load_pretrained", "Segmenter", "Prediction"),
    "Training": ("list_experiments", "EXPERIMENTS", "train", "History"),
    "Training with Keras' fit": ("compile_model", "SegmentationLoss", "MeanIoU"),
    "Networks and weights": ("build_model", "load", "load_weights", "restride"),
    "Inference and the dense CRF": ("predict_probabilities", "dense_crf", "CrfParams"),
    "Layers": ("AtrousConv2D", "AtrousDepthwiseConv2D"),
    "The rest": ("UserError", "__version__"),
}
VALUES = {
    "EXPERIMENTS": "`dict[str, Config]`: the settings of every experiment, by its name.",
    "__version__": "`str`: the version of the package.",
}
HEAD = """# Reference

All public names of `deeplab_tf`, as `import deeplab_tf as dl` has them. `python -m scripts.reference` writes this page
from the docstrings; what can be imported and is not here may change at any time.

In shapes, B is the batch, H and W are pixels, h and w cells of the score map, K classes. Images are RGB, 0..255.
"""
_WIDTH = 117
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")


def page() -> str:
    """Returns the text of the page."""
    import deeplab_tf

    named = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "More": tuple(name for name in deeplab_tf.__all__ if name not in named)}
    parts = [HEAD]
    for title, names in groups.items():
        present = [name for name in names if name in deeplab_tf.__all__]
        if present:
            parts.append(f"## {title}\n")
            parts += [_entry(name, getattr(deeplab_tf, name)) for name in present]
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    heading = f"### {name}\n"
    if name in VALUES:
        return f"{heading}\n{VALUES[name]}\n"
    text = f"{heading}\n{_signature(name, value)}\n{_prose(inspect.getdoc(value) or '')}"
    if inspect.isclass(value):
        text += "".join(
            _member(name, member, found) for member, found in vars(value).items() if not _of_keras(value, member)
        )
    return text


def _of_keras(owner: type, name: str) -> bool:
    """Says whether a member of a layer is one that Keras calls, and describes itself."""
    import keras

    return issubclass(owner, keras.layers.Layer) and hasattr(keras.layers.Layer, name)


def _member(owner: str, name: str, found: Any) -> str:
    """Describes a method or property that users call: public and documented."""
    function = found.fget if isinstance(found, property | functools.cached_property) else found
    if isinstance(function, classmethod | staticmethod):
        function = function.__func__
    own = inspect.isfunction(function) and function.__doc__
    if name.startswith("_") or not own:
        return ""
    if isinstance(found, property | functools.cached_property):
        return f"\n**`{owner}.{name}`** {_prose(inspect.getdoc(function) or '')}"
    return f"\n{_signature(f'{owner}.{name}', function)}\n{_prose(inspect.getdoc(function) or '')}"


def _signature(name: str, value: Any) -> str:
    """Writes the call as Python, one argument a line where it is long."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        return f"```text\n{name}\n```\n"
    signature = inspect.signature(value)
    arguments, after_star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not after_star:
            arguments.append("*")
            after_star = True
        after_star |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.name != "self":
            arguments.append(_argument(parameter))
    returned = "" if inspect.isclass(value) else _annotation(signature.return_annotation)
    arrow = f" -> {returned}" if returned else ""
    call = f"{name}({', '.join(arguments)}){arrow}"
    if len(call) > 100:
        call = "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){arrow}"])
    return f"```text\n{call}\n```\n"


def _argument(parameter: inspect.Parameter) -> str:
    """Writes a parameter: name, type and default."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = _annotation(parameter.annotation)
    text = f"{stars}{parameter.name}" + (f": {kind}" if kind else "")
    if parameter.default is parameter.empty:
        return text
    default = json.dumps(parameter.default) if isinstance(parameter.default, str) else repr(parameter.default)
    return f"{text} = {default if len(default) < 60 else '...'}"


def _annotation(kind: Any) -> str:
    if kind is inspect.Signature.empty:
        return ""
    return str(getattr(kind, "__forward_arg__", None) or (kind if isinstance(kind, str) else kind.__name__))


def _prose(docstring: str) -> str:
    """Turns a Google docstring into Markdown: paragraphs, and a list for each section."""
    out: list[str] = []
    for block in docstring.split("\n\n"):
        lines = block.splitlines()
        section = _SECTION.match(lines[0]) if lines else None
        if section:
            out.append(_section(section.group(1), lines[1:]))
        elif lines and lines[0].startswith("    "):
            out.append(block)
        else:
            out.append(_wrapped(" ".join(block.split())))
    return "\n\n".join(out) + "\n"


def _section(title: str, lines: list[str]) -> str:
    """Makes a list of a section's entries; an entry begins where the indentation is that of the first."""
    text = textwrap.dedent("\n".join(lines))
    if title in ("Returns", "Yields"):
        return _wrapped(f"{title}: {' '.join(text.split())}")
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line)
    items = []
    for entry in entries:
        name, colon, rest = entry.partition(":")
        items.append(_wrapped(f"`{name}`{colon}{rest}", "- ", "  "))
    return "\n".join([f"{title}:\n", *items])


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
