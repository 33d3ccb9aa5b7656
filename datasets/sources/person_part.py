"""PASCAL-Person-Part: six parts of the people in PASCAL VOC 2010, merged from the 24 of PASCAL-Part.

Layout, below --root:

    Annotations_Part/ID.mat         anno.objects.parts (trainval.tar.gz of PASCAL-Part)
    VOCdevkit/VOC2010/...           images and lists, see `voc2010`
    pascal_person_part/pascal_person_part_trainval_list/{train,val}.txt    optional: 1,716 and 1,817 ids

Without these lists the images are those of VOC 2010's train and val in which a part of a person is annotated; to
find them each .mat file is read. What belongs to no part of a person is background, other objects included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

from ..raw import files as raw_files
from ..raw import mat_files
from ..source import Example, Source
from . import voc2010

_NAME = "person_part"
CLASS_NAMES = ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")
INFO = DatasetInfo(
    name=_NAME,
    class_names=CLASS_NAMES,
    palette=pascal_palette(len(CLASS_NAMES)),
    split_sizes=(("train", 1716), ("val", 1817)),
)
# The parts of a person in PASCAL-Part that make each class; l and r are left and right, then lower and upper.
_MERGED = {
    "head": ("head", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth", "hair"),
    "torso": ("torso", "neck"),
    "upper arms": ("luarm", "ruarm"),
    "lower arms": ("llarm", "rlarm", "lhand", "rhand"),
    "upper legs": ("luleg", "ruleg"),
    "lower legs": ("llleg", "rlleg", "lfoot", "rfoot"),
}
PARTS = {part: CLASS_NAMES.index(name) for name, parts in _MERGED.items() for part in parts}


def info(source: Source) -> DatasetInfo:
    """Returns background and the six parts; they do not depend on the files."""
    del source
    return INFO


def splits(source: Source) -> list[str]:
    """Returns train and val.

    Raises:
        UserError: the annotations or VOC 2010 are not there.
    """
    voc2010.find_folder(source, _NAME)
    _annotations(source)
    return list(voc2010.SPLITS)


def ids(source: Source, split: str) -> list[str]:
    """Returns the ids of the images of a split that show people, in the order of the list.

    Raises:
        UserError: an unknown split, its list is missing or not a list, or a .mat file is missing or damaged.
    """
    candidates = voc2010.ids(source, _NAME, split)
    listed = Path(source.root) / "pascal_person_part" / "pascal_person_part_trainval_list" / f"{split}.txt"
    if listed.is_file():
        return raw_files.read_ids(listed, "")
    folder = _annotations(source)
    progress = tqdm(candidates, desc=f"{split}: looking for people", unit="file", disable=None)
    return [image_id for image_id in progress if any(True for _ in _parts(folder / f"{image_id}.mat"))]


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and paints the parts of its people, in the order of the file.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    del split
    path = _annotations(source) / f"{image_id}.mat"
    labels: np.ndarray | None = None
    for name, mask in _parts(path):
        if labels is None:
            labels = np.zeros(mask.shape, np.uint8)
        if mask.shape != labels.shape:
            raise UserError(
                f"{path}: expected parts of one size, got {list(mask.shape)} and {list(labels.shape)} (height x width)."
                " Copy the file again or leave its id out."
            )
        labels[mask] = PARTS[name]
    if labels is None:
        raise UserError(f"{path}: expected parts of a person, found none. Leave its id out of the list.")
    return raw_files.build_example(image_id, voc2010.image_path(source, _NAME, image_id), labels, path)


def _parts(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Gives the name and the mask, bool [H, W], of each part of each person in a file."""
    annotation = mat_files.only_struct(path, mat_files.read_variable(path, "anno"))
    for found in mat_files.field(path, annotation, "objects").ravel():
        if _text(mat_files.field(path, found, "class")) != "person":
            continue
        for part in mat_files.field(path, found, "parts").ravel():
            name = _text(mat_files.field(path, part, "part_name"))
            if name not in PARTS:
                raise UserError(f"{path}: expected parts of a person ({', '.join(PARTS)}), got {name!r}.")
            yield name, mat_files.label_map(path, mat_files.field(path, part, "mask"), 1) == 1


def _text(value: np.ndarray) -> str:
    """Returns a string of MATLAB's, an array of one string, or "" for one without characters."""
    return str(value.ravel()[0]) if value.size else ""


def _annotations(source: Source) -> Path:
    return voc2010.find_annotations(
        source, _NAME, "Annotations_Part", "trainval/Annotations_Part", "VOCdevkit/VOC2010/Annotations_Part"
    )
