"""Cityscapes in its official folders: 19 classes of street scenes, with fine and coarse labels.

Layout, below --root:

    leftImg8bit/{train,val,test,train_extra}/CITY/ID_leftImg8bit.png
    gtFine/{train,val}/CITY/ID_gtFine_labelIds.png                        splits train, val; test has none
    gtCoarse/{train,val,train_extra}/CITY/ID_gtCoarse_labelIds.png        splits train_coarse, val_coarse, train_extra

The files named labelIds hold 34 labels; those that do not count in the benchmark are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplab_tf.dataset_info import CITYSCAPES_LABEL_IDS, IGNORE_LABEL, DatasetInfo
from deeplab_tf.errors import UserError

from ..raw import files as raw_files
from ..source import Example, Source

# Number in the labelIds files, name and colour of each class.
_NAMES_AND_COLOURS = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
CLASSES = tuple(
    (label_id, name, colour) for label_id, (name, colour) in zip(CITYSCAPES_LABEL_IDS, _NAMES_AND_COLOURS, strict=True)
)
# Folder of the images and kind of labels ("" for none) of each split, and its size.
_SPLITS = {
    "train": ("train", "gtFine", 2975),
    "val": ("val", "gtFine", 500),
    "test": ("test", "", 1525),
    "train_coarse": ("train", "gtCoarse", 2975),
    "val_coarse": ("val", "gtCoarse", 500),
    "train_extra": ("train_extra", "gtCoarse", 19998),
}
INFO = DatasetInfo(
    name="cityscapes",
    class_names=tuple(name for _, name, _ in CLASSES),
    palette=tuple(colour for _, _, colour in CLASSES),
    split_sizes=tuple((split, size) for split, (_, _, size) in _SPLITS.items()),
)
_NUM_LABEL_IDS = 34
_TRAIN_ID = np.full(_NUM_LABEL_IDS, IGNORE_LABEL, np.uint8)
_TRAIN_ID[[label_id for label_id, _, _ in CLASSES]] = np.arange(len(CLASSES))
_IMAGE_END = "_leftImg8bit.png"


def info(source: Source) -> DatasetInfo:
    """Returns the 19 classes; they do not depend on the files."""
    del source
    return INFO


def splits(source: Source) -> list[str]:
    """Returns the splits whose folders exist, of images and, except for test, of labels.

    Raises:
        UserError: the root is missing or has none of them.
    """
    root = _root(source)
    found = [
        split
        for split, (folder, kind, _) in _SPLITS.items()
        if (root / "leftImg8bit" / folder).is_dir() and (not kind or (root / kind / folder).is_dir())
    ]
    if not found:
        raise UserError(
            f"--root={source.root}: expected leftImg8bit/train and gtFine/train below it, found neither."
            " Give the folder to which leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip were unpacked."
        )
    return found


def ids(source: Source, split: str) -> list[str]:
    """Returns the ids of a split, such as "ulm_000000_000019", sorted by city and name.

    Raises:
        UserError: an unknown split, no images, a file in another city's folder, an image without labels, or labels
            without an image.
    """
    if split not in _SPLITS:
        raise UserError(f"cityscapes has the splits {', '.join(_SPLITS)}, got {split!r}. Correct --splits.")
    folder, kind, _ = _SPLITS[split]
    images = _ids_in(_root(source) / "leftImg8bit" / folder, _IMAGE_END)
    if not images:
        raise UserError(
            f"{_root(source) / 'leftImg8bit' / folder}: expected images CITY/ID{_IMAGE_END}, found none."
            " Unpack leftImg8bit there."
        )
    if kind:
        labelled = set(_ids_in(_root(source) / kind / folder, _labels_end(kind)))
        for image_id in images:
            if image_id not in labelled:
                raise UserError(
                    f"{_image_path(source, split, image_id)}: expected its labels at"
                    f" {_labels_path(source, split, image_id)}, found none. Unpack {kind} again, or remove the image."
                )
        for image_id in sorted(labelled - set(images)):
            raise UserError(
                f"{_labels_path(source, split, image_id)}: expected its image at"
                f" {_image_path(source, split, image_id)}, found none. Unpack leftImg8bit again, or remove the labels."
            )
    return images


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its labels.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    image_path = _image_path(source, split, image_id)
    if not _SPLITS[split][1]:
        return raw_files.read_example(image_id, image_path, None, len(CLASSES))
    path = _labels_path(source, split, image_id)
    label_ids = raw_files.read_mask(path, _NUM_LABEL_IDS)
    if (label_ids == IGNORE_LABEL).any():
        raise UserError(
            f"{path}: expected label ids 0..{_NUM_LABEL_IDS - 1}, got 255 as in the files named labelTrainIds."
            " Unpack the official labelIds files again."
        )
    return raw_files.build_example(image_id, image_path, _TRAIN_ID[label_ids], path)


def _ids_in(folder: Path, end: str) -> list[str]:
    """Returns the ids of the files CITY/ID + end of a folder, sorted by city and name."""
    found = []
    for path in sorted(folder.glob(f"*/*{end}")):
        if path.name.startswith("."):
            continue  # such as ._ulm_000000_000019_leftImg8bit.png
        if _city(path.name) != path.parent.name:
            raise UserError(f"{path}: expected it in the folder of its city, {_city(path.name)}. Move or remove it.")
        found.append(path.name.removesuffix(end))
    return found


def _image_path(source: Source, split: str, image_id: str) -> Path:
    return _root(source) / "leftImg8bit" / _SPLITS[split][0] / _city(image_id) / f"{image_id}{_IMAGE_END}"


def _labels_path(source: Source, split: str, image_id: str) -> Path:
    folder, kind, _ = _SPLITS[split]
    return _root(source) / kind / folder / _city(image_id) / f"{image_id}{_labels_end(kind)}"


def _labels_end(kind: str) -> str:
    return f"_{kind}_labelIds.png"


def _city(name: str) -> str:
    """Returns what an id, or a file's name, begins with."""
    return name.split("_")[0]


def _root(source: Source) -> Path:
    if not source.root:
        raise UserError("cityscapes needs --root=FOLDER, the folder that holds leftImg8bit and gtFine.")
    root = Path(source.root)
    if not root.is_dir():
        raise UserError(f"--root={source.root}: expected the folder that holds leftImg8bit, found no such folder.")
    return root
