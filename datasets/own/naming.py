"""What the masks hold, for somebody who has not named the classes yet."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from ..messages import some
from .mask_file import Facts, unpacked

_MOST = 40


def proposal(masks: Sequence[Facts]) -> str:
    """Says which values or colours some masks hold, and what to write into classes.txt; "" where there is nothing.

    Args:
        masks: what was measured in some masks.
    """
    counts: collections.Counter[int] = collections.Counter()
    for facts in masks:
        counts.update(facts.pixels)
    coloured = [facts for facts in masks if facts.coloured]
    if not counts or len(counts) > _MOST or 0 < len(coloured) < len(masks):
        return ""
    seen = f"The {len(masks)} masks that were looked at hold" if len(masks) > 1 else "Its mask holds"
    if coloured:
        colours = [unpacked(number) for number, _ in counts.most_common()]
        lines = "; ".join(f"NAME {' '.join(map(str, colour))}" for colour in colours[:8])
        rest = "; ..." if len(colours) > 8 else ""
        return f" {seen} {len(colours)} colours. Write a line for each, with its name: {lines}{rest}."
    values = sorted(counts)
    if values == [0, 255]:
        return (
            f" {seen} nothing but 0 and 255. If 255 is a class, write two lines, 'background 0 0 0' and 'NAME 255 255"
            " 255'."
        )
    if len(values) == 256 or max(values) > 255:
        return ""
    return f" {seen} the values {some(values, 12)}: one line for each, such as '{values[-1] % 255} NAME'."
