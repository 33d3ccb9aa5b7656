"""Text of reports, charts and the local page stands out from what is behind it: WCAG's 4.5:1, in every mode."""

import re
from pathlib import Path

import numpy as np
import pytest

import deeplab_tf
from deeplab_tf.evaluation import charts

PACKAGE = Path(deeplab_tf.__file__).parent
LEAST = 4.5
# The text colours on each background, as the style sheets combine them.
PAIRS = {
    "evaluation/report.css": {
        "card": ("ink", "faint", "second", "good", "warn"),
        "page": ("ink", "faint"),
        "warn-page": ("ink", "warn"),
    },
    "webapp/page.css": {
        "card": ("ink", "hint", "accent"),
        "page": ("ink", "hint", "accent"),
        "problem-card": ("problem",),
    },
    "charts": {"paper": ("ink", "faint")},
}


def modes(name):
    """The variables of a style sheet in each mode: light, dark and, where it has that, print."""
    text = charts._STYLE if name == "charts" else (PACKAGE / name).read_text()
    found = {}
    for rule in re.finditer(r"(@media [^{]*\{\s*)?(?::root|\.chart) \{([^}]*--[^}]*)\}", text):
        media = rule.group(1) or "light"
        mode = next((mode for mode in ("dark", "print") if mode in media), "light")
        variables = {key: value.strip() for key, value in re.findall(r"--([\w-]+):([^;]+)", rule.group(2))}
        found[mode] = {**found.get("light", {}), **variables}
    return found


def rgb(value):
    if not value.startswith("#"):
        return np.array([float(level) for level in value.split(",")]) / 255
    digits = value[1:] if len(value) == 7 else "".join(2 * digit for digit in value[1:])
    return np.array([int(digits[start : start + 2], 16) for start in (0, 2, 4)]) / 255


def luminance(colour):
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(text, background):
    low, high = sorted([luminance(text), luminance(background)])
    return (high + 0.05) / (low + 0.05)


def test_the_contrasts_of_this_file_are_those_of_wcag():
    assert contrast(rgb("#000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("sheet", PAIRS)
def test_text_stands_out_in_every_mode(sheet):
    found = modes(sheet)
    assert {"light", "dark"} <= set(found)
    for mode, variables in found.items():
        for background, texts in PAIRS[sheet].items():
            for text in texts:
                ratio = contrast(rgb(variables[text]), rgb(variables[background]))
                assert ratio >= LEAST, f"{sheet}, {mode}: {text} on {background} has {ratio:.2f}"


def test_the_numbers_of_the_confusion_matrix_stand_out_from_every_shade():
    for mode, variables in modes("evaluation/report.css").items():
        for share in np.linspace(0, 1, 21):
            alpha = share * float(variables["deepest"])
            cell = alpha * rgb(variables["heat"]) + (1 - alpha) * rgb(variables["card"])
            ratio = contrast(rgb(variables["ink"]), cell)
            assert ratio >= LEAST, f"{mode}, share {share:.2f}: {ratio:.2f}"
