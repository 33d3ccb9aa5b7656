"""CamVid's folders, as SegNet's tutorial and CVAT's export have them.

train/a.png         trainannot/a.png        default/ and defaultannot/ in CVAT
label_colors.txt    optional: "r g b name"
"""

from __future__ import annotations

from ..layout import Layout, Place, find_class_file
from ..tree import IMAGE_SUFFIXES, MASK_SUFFIXES
from .mask_pairs import build, named, unreadable


def recognise(place: Place) -> Layout | None:
    """Looks for folders NAME and NAMEannot."""
    if place.is_one_split:
        return None
    tree = place.tree()
    folders = {file.folders for file in tree.files}
    pairs = {
        folder: (*folder[:-1], folder[-1] + "annot")
        for folder in folders
        if folder and (*folder[:-1], folder[-1] + "annot") in folders
    }
    if not pairs:
        return None
    masks_of = {annotations: images for images, annotations in pairs.items()}
    return build(
        place,
        "CamVid's folders",
        0.9,
        " and ".join(f"{images[-1]}/ beside {annotations[-1]}/" for images, annotations in sorted(pairs.items())[:2]),
        [named(file, file.folders) for file in tree.files if file.folders in pairs and file.suffix in IMAGE_SUFFIXES],
        [
            named(file, masks_of[file.folders])
            for file in tree.files
            if file.folders in masks_of and file.suffix in MASK_SUFFIXES
        ],
        class_file=place.class_file or find_class_file(tree),
        left_out=unreadable(tree.files),
    )
