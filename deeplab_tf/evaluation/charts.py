"""Line charts as SVG: sharp at every size, readable in light and dark, and in an HTML page as in a file."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT = 480, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 34, 46

# Colours come from the page where it has them; a file by itself follows the reader's light or dark setting.
_STYLE = """
.chart { --ink: #1d2433; --faint: #5d677a; --grid: #d9dee7; --paper: #ffffff; --first: #7d8ba3; --second: #2563eb; }
@media (prefers-color-scheme: dark) {
  .chart { --ink: #e7ebf3; --faint: #a3adbf; --grid: #343c4c; --paper: #161b25; --first: #8e9bb3; --second: #6ea0ff; }
}
@media print {
  .chart { --ink: #1d2433; --faint: #5d677a; --grid: #d9dee7; --paper: #ffffff; --first: #7d8ba3; --second: #2563eb; }
}
.chart text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--faint); }
.chart .grid { stroke: var(--grid); } .chart path { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.chart .line0 { stroke: var(--first); } .chart .line1 { stroke: var(--second); } .chart .key { stroke-width: 3; }
.chart .paper { fill: var(--paper); } .chart .strong { fill: var(--ink); }
"""


class Line(NamedTuple):
    """A line of a chart: its name, and a y or None for each x."""

    name: str
    values: Sequence[float | None]


def line_chart(xs: Sequence[float], lines: Sequence[Line], x_title: str, y_title: str) -> str:
    """Draws one or two lines over a grid.

    Args:
        xs: increasing.
        lines: one y per x each; a None leaves a gap.
        x_title: of the x axis.
        y_title: of the y axis.

    Returns:
        An <svg> element, which is also a complete file.
    """
    known = [y for line in lines for y in line.values if y is not None] or [0.0]
    step = _nice_step(max(known) - min(known))
    bottom = step * (min(known) // step)
    top = max(bottom + step, step * -(-max(known) // step))

    def place_x(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (x - xs[0]) / ((xs[-1] - xs[0]) or 1)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - bottom) / (top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{html.escape(y_title)} by {html.escape(x_title)}"><style>{_STYLE}</style>',
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
    ]
    for number in range(round((top - bottom) / step) + 1):
        value = bottom + number * step
        down = place_y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{down:.1f}" x2="{_WIDTH - _RIGHT}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{value:g}</text>')
    for tick in _ticks(xs):
        down = place_y(bottom) + 18
        parts.append(f'<text x="{place_x(tick):.1f}" y="{down:.1f}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x_title)}</text>')
    parts.append(f'<text class="strong" x="8" y="18">{html.escape(y_title)}</text>')
    # The key, from the right.
    across = float(_WIDTH - _RIGHT)
    for number, line in reversed(list(enumerate(lines))):
        across -= 7.5 * len(line.name)
        parts.append(f'<text x="{across:.0f}" y="18">{html.escape(line.name)}</text>')
        parts.append(f'<path class="key line{number}" d="M{across - 28:.0f},14 h20"/>')
        across -= 46
    for number, line in enumerate(lines):
        points, pen = [], "M"
        for x, y in zip(xs, line.values, strict=True):
            if y is not None:
                points.append(f"{pen}{place_x(x):.1f},{place_y(y):.1f}")
            pen = "M" if y is None else "L"
        parts.append(f'<path class="line{number}" d="{" ".join(points)}"/>')
    return "".join([*parts, "</svg>"])


def _nice_step(span: float) -> float:
    """1, 2 or 5 times a power of ten that divides a span into four to ten parts or so."""
    least = max(span, 1e-6) / 8
    power = 10.0
    while power > least:
        power /= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _ticks(xs: Sequence[float]) -> list[float]:
    """Some of the xs if they are whole numbers, otherwise the round numbers between the first and the last."""
    if all(x == round(x) for x in xs):
        step = max(1, round(len(xs) / 8))
        return [x for x in xs if x == xs[0] or x % step == 0]
    round_step = _nice_step(xs[-1] - xs[0])
    return [number * round_step for number in range(math.ceil(xs[0] / round_step), int(xs[-1] // round_step) + 1)]
