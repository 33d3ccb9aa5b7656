"""Roboflow's "Semantic Segmentation Masks".

train/a_jpg.rf.HASH.jpg     train/a_jpg.rf.HASH_mask.png     train/_classes.csv     also valid/ and test/
"""

from __future__ import annotations

import dataclasses

from ..layout import Layout, Place
from ..pairing import fold
from ..tree import IMAGE_SUFFIXES, MASK_SUFFIXES
from .mask_pairs import build, named, unreadable

_ENDING = "_mask"


def recognise(place: Place) -> Layout | None:
    """Looks for _classes.csv beside files that end in _mask.png."""
    if place.is_one_split or place.mask_suffix:
        return None
    tree = place.tree()
    tables = tree.named("_classes.csv")
    folders = {table.folders for table in tables}
    files = [file for file in tree.files if file.folders in folders]
    masks = [file for file in files if file.suffix in MASK_SUFFIXES and fold(file.stem).endswith(_ENDING)]
    if not masks:
        return None
    images = [file for file in files if file.suffix in IMAGE_SUFFIXES and file not in masks]
    layout = build(
        place,
        "Roboflow's semantic segmentation masks",
        0.95,
        f"{len(tables)} _classes.csv beside files that end in {_ENDING}",
        [named(file, file.folders) for file in images],
        [named(file, file.folders)._replace(stem=file.stem[: -len(_ENDING)]) for file in masks],
        class_file=place.class_file or tables[0].path,
        left_out=unreadable(tree.files),
    )
    different = [table.path for table in tables if table.path.read_bytes() != tables[0].path.read_bytes()]
    if different and place.class_file is None:
        problem = (
            f"{different[0]}: expected the classes of {tables[0].path}, got others. The folders are of different"
            " versions of a project: export them again together."
        )
        layout = dataclasses.replace(layout, problems=(problem, *layout.problems))
    return layout
