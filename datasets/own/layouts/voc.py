"""PASCAL VOC's folders with classes of one's own: CVAT's "Segmentation mask 1.1", labelme's VOC export, and by hand.

JPEGImages/a.jpg
SegmentationClass/a.png               or SegmentationClassPNG/
ImageSets/Segmentation/train.txt      optional
labelmap.txt, class_names.txt or classes.txt
"""

from __future__ import annotations

import dataclasses

from ..layout import Layout, LeftOut, Place, find_class_file, lists_in, split_lists
from ..tree import IMAGE_SUFFIXES, MASK_SUFFIXES, File
from .mask_pairs import build, named, unreadable

_MASK_FOLDERS = ("segmentationclass", "segmentationclasspng", "segmentationclassnpy", "segmentationclassraw")


def recognise(place: Place) -> Layout | None:
    """Looks for JPEGImages beside SegmentationClass."""
    if place.is_one_split:
        return None
    tree = place.tree()

    def inside(file: File, *names: str) -> bool:
        return any(folder.casefold() in names for folder in file.folders)

    images = [file for file in tree.files if inside(file, "jpegimages") and file.suffix in IMAGE_SUFFIXES]
    by_folder = {
        name: [file for file in tree.files if inside(file, name) and file.suffix in MASK_SUFFIXES]
        for name in _MASK_FOLDERS
    }
    masks = next((files for files in by_folder.values() if files), [])
    has_masks = any(inside(file, *_MASK_FOLDERS) for file in tree.files)
    if not has_masks or not (images or masks):
        return None
    class_file = place.class_file or find_class_file(tree)
    problems: tuple[str, ...] = ()
    if not images:
        problems = (
            f"{tree.root}: expected the images in JPEGImages, found none. In CVAT, tick 'Save images' when you"
            " export, or name their folder with --image_dir.",
        )
    lists = {name: path for name, path in lists_in(tree.files, "segmentation").items() if path.stat().st_size}
    notes = []
    if list(lists) == ["default"] or list(map(str.casefold, lists)) == ["default"]:
        notes.append("ImageSets/Segmentation/default.txt, CVAT's list of all images, names no split.")
        lists = {}
    is_cvat = class_file is not None and class_file.name == "labelmap.txt"
    looked = tuple(
        file.path
        for file in tree.files
        if inside(file, "segmentationobject", "segmentationclassvisualization", "segmentationobjectvisualization")
    )

    def place_of(file: File, *names: str) -> tuple[str, ...]:
        # What is around the two folders, such as VOCdevkit/VOC2012, is the same for both.
        cut = next(depth for depth, folder in enumerate(file.folders) if folder.casefold() in names)
        return file.folders[:cut] + file.folders[cut + 1 :]

    layout = build(
        place,
        "CVAT's 'Segmentation mask 1.1'" if is_cvat else "PASCAL VOC's folders with classes of your own",
        0.95,
        "JPEGImages/ beside SegmentationClass/" + (" and labelmap.txt" if is_cvat else ""),
        [named(file, place_of(file, "jpegimages")) for file in images],
        [named(file, place_of(file, *_MASK_FOLDERS)) for file in masks],
        class_file=class_file,
        lists=lists or split_lists(tree.files),
        notes=notes,
        left_out=(*((LeftOut("not masks of classes", looked),) if looked else ()), *unreadable(tree.files)),
    )
    if problems:
        layout = dataclasses.replace(layout, problems=(*problems, *layout.problems), confidence=0.95)
    return layout
