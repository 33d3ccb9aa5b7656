"""PASCAL-Context: every pixel of PASCAL VOC 2010, with the 59 most frequent of its 459 classes and background.

Layout, below --root:

    trainval/ID.mat                 LabelMap, values 1..459 (trainval.tar.gz of its release)
    VOCdevkit/VOC2010/...           images and lists, see `voc2010`

The classes stand in the order of the release's 59_labels.txt. All other labels, and 0, become background.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette

from ..raw import files as raw_files
from ..raw import mat_files
from ..source import Example, Source
from . import voc2010

_NAME = "pascal_context"
_HIGHEST_LABEL = 459
# Each class and its number among the 459. Three have other names in that list: table, cloth and bedclothes.
LABELS = {
    "aeroplane": 2,
    "bicycle": 23,
    "bird": 25,
    "boat": 31,
    "bottle": 34,
    "bus": 45,
    "car": 59,
    "cat": 65,
    "chair": 72,
    "cow": 98,
    "diningtable": 397,
    "dog": 113,
    "horse": 207,
    "motorbike": 258,
    "person": 284,
    "pottedplant": 308,
    "sheep": 347,
    "sofa": 368,
    "train": 416,
    "tvmonitor": 427,
    "bag": 9,
    "bed": 18,
    "bench": 22,
    "book": 33,
    "building": 44,
    "cabinet": 46,
    "ceiling": 68,
    "clothes": 80,
    "computer": 85,
    "cup": 104,
    "door": 115,
    "fence": 144,
    "floor": 158,
    "flower": 159,
    "food": 162,
    "grass": 187,
    "ground": 189,
    "keyboard": 220,
    "light": 232,
    "mountain": 259,
    "mouse": 260,
    "curtain": 105,
    "platform": 296,
    "sign": 355,
    "plate": 295,
    "road": 324,
    "rock": 326,
    "shelves": 349,
    "sidewalk": 354,
    "sky": 360,
    "snow": 366,
    "bedcloth": 19,
    "track": 415,
    "tree": 420,
    "truck": 424,
    "wall": 440,
    "water": 445,
    "window": 454,
    "wood": 458,
}
INFO = DatasetInfo(
    name=_NAME,
    class_names=("background", *LABELS),
    palette=pascal_palette(1 + len(LABELS)),
    split_sizes=(("train", 4998), ("val", 5105)),
)
_NEW_LABEL = np.zeros(_HIGHEST_LABEL + 1, np.uint8)
_NEW_LABEL[list(LABELS.values())] = np.arange(1, 1 + len(LABELS))


def info(source: Source) -> DatasetInfo:
    """Returns background and the 59 classes; they do not depend on the files."""
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
    """Returns the ids of a split in the order of VOC 2010's list.

    Raises:
        UserError: an unknown split, or its list is missing or not a list.
    """
    return voc2010.ids(source, _NAME, split)


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its labels.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    del split
    path = _annotations(source) / f"{image_id}.mat"
    values = mat_files.label_map(path, mat_files.read_variable(path, "LabelMap"), _HIGHEST_LABEL)
    return raw_files.build_example(image_id, voc2010.image_path(source, _NAME, image_id), _NEW_LABEL[values], path)


def _annotations(source: Source) -> Path:
    return voc2010.find_annotations(source, _NAME, "trainval", "pascal_context/trainval", "VOCdevkit/VOC2010/trainval")
