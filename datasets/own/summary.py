"""One paragraph that says what was understood of a folder, before it is converted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from deeplab_tf.dataset_info import IGNORE_LABEL

from .layout import Layout, LeftOut
from .survey import Totals

_WIDTH = 110
_MOST_NAMES = 3


def paragraph(
    root: Path | None,
    layout: Layout,
    names: Sequence[str],
    classes_from: str,
    totals: Totals,
    splits: Mapping[str, Sequence[str]],
    split_by: str,
    left_out: Sequence[LeftOut],
    notes: Sequence[str],
) -> str:
    """Writes the paragraph.

    Args:
        root: of the folder, which paths are shown below.
        layout: what it was taken for.
        names: of the classes.
        classes_from: the file, flag or files that name them.
        totals: the pixels.
        splits: the ids of each split that is to be written.
        split_by: what says which image is in which split.
        left_out: what is not used.
        notes: what was assumed, a sentence each.
    """
    pairs = sum(bool(item.labels) for item in layout.items)
    said = [
        f"Taken for {layout.name} ({layout.reason}): {_count(layout.num_images, 'image')},"
        f" {_count(layout.num_labels, 'object' if layout.form == 'coco_json' else 'label file')},"
        f" {_count(pairs, 'image')} with labels."
    ]
    for each in left_out:
        if each.paths:
            listed = ", ".join(path.name for path in each.paths[:_MOST_NAMES])
            more = f" and {len(each.paths) - _MOST_NAMES} more" if len(each.paths) > _MOST_NAMES else ""
            said.append(f"Left out: {_count(len(each.paths), 'file')}, {each.reason} ({listed}{more}).")
    if totals.pixels:
        every = max(sum(totals.pixels.values()), 1)
        listed = ", ".join(
            f"{label} {name} {totals.pixels.get(label, 0):,} pixels"
            f" ({totals.pixels.get(label, 0) / every:.1%}) in {totals.images.get(label, 0)}"
            for label, name in enumerate(names)
        )
        said.append(f"Classes by {classes_from}: {listed} images.")
        ignored = totals.pixels.get(IGNORE_LABEL, 0)
        if ignored:
            values = ", ".join(map(str, sorted(totals.ignored)[:8]))
            which = f"value {values}" if totals.ignored else "drawn so"
            said.append(f"Not counted: {ignored:,} pixels ({ignored / every:.1%}), {which}.")
        else:
            said.append("All pixels count.")
    else:
        said.append(f"Classes by {classes_from}: {', '.join(names)}.")
    said += notes
    written = []
    for split, ids in splits.items():
        listed = (
            f" ({', '.join(ids[:_MOST_NAMES])}{', ...' if len(ids) > _MOST_NAMES else ''})" if split == "val" else ""
        )
        written.append(f"{split} {_count(len(ids), 'image')}{listed}")
    said.append(f"Splits {split_by}: {'; '.join(written)}.")
    text = " ".join(said)
    if root is not None:
        text = text.replace(f"{root}/", "")
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
