"""PASCAL VOC 2012 segmentation in its official folders, and the augmented training set (SBD).

Layout, below --root (which may also be VOCdevkit or VOC2012 itself):

    VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val,trainval,test}.txt
    VOCdevkit/VOC2012/JPEGImages/ID.jpg
    VOCdevkit/VOC2012/SegmentationClass/ID.png              PASCAL's own masks

and for trainaug and trainvalaug SBD, as it is released or as palette PNGs with their list:

    benchmark_RELEASE/dataset/{train.txt,val.txt,cls/ID.mat}
    VOCdevkit/VOC2012/SegmentationClassAug/ID.png
    VOCdevkit/VOC2012/ImageSets/Segmentation/{trainaug,trainvalaug}.txt

trainaug is VOC's train and all of SBD without VOC's val, 10,582 images. Where PASCAL labels an image too its mask
wins: it is drawn finer, and marks void borders.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

from ..own import class_file
from ..raw import files as raw_files
from ..source import Example, Source
from . import sbd

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
SPLIT_SIZES = {"train": 1464, "trainaug": 10582, "val": 1449, "trainval": 2913, "trainvalaug": 12031, "test": 1456}
INFO = DatasetInfo(
    name="voc12",
    class_names=CLASS_NAMES,
    palette=pascal_palette(len(CLASS_NAMES)),
    split_sizes=tuple(SPLIT_SIZES.items()),
)

_ALL_COLOURS = pascal_palette(256)
_TRAINVAL = "It is part of VOCtrainval_11-May-2012.tar."
_AUGMENTED = (
    "It is made from SBD: unpack SBD's benchmark.tgz below --root (benchmark_RELEASE) or name its place by --sbd_root,"
    " or bring this list, and masks in SegmentationClassAug. Without SBD, leave trainaug and trainvalaug out of"
    " --splits."
)
_LIST_ORIGIN = {
    "train": _TRAINVAL,
    "val": _TRAINVAL,
    "trainval": _TRAINVAL,
    "test": "It is part of the VOC 2012 test archive of the PASCAL evaluation server.",
    "trainaug": _AUGMENTED,
    "trainvalaug": _AUGMENTED,
}
# Files of classes that labelling tools write.
_OWN_CLASSES = ("class_names.txt", "labelmap.txt", "classes.txt")
_AUGMENTED_SPLITS = ("trainaug", "trainvalaug")


def resolve(source: Source) -> tuple[str, Source]:
    """Returns the data set that reads these folders: "folder" where a file beside them names other classes.

    Tools export users' own classes in VOC's folders. Their index 1 is not an aeroplane.

    Raises:
        UserError: no VOC 2012 folder below the root, or the file of classes is none.
    """
    root = _root(source)
    for name in _OWN_CLASSES:
        path = root / name
        if path.is_file() and class_file.read(path).names != CLASS_NAMES:
            return "folder", dataclasses.replace(source, root=str(root))
    return "voc12", source


def info(source: Source) -> DatasetInfo:
    """Returns the 21 classes; they do not depend on the files."""
    del source
    return INFO


def splits(source: Source) -> list[str]:
    """Returns the splits whose list files exist, and trainaug where SBD is there.

    trainvalaug, which only a submission to the test server wants, has to be named where it has no list.

    Raises:
        UserError: no VOC 2012 folder below the root, or no list file in it.
    """
    folder = _lists(source)
    found = [split for split in SPLIT_SIZES if (folder / f"{split}.txt").is_file()]
    if not found:
        raise UserError(f"{folder}: expected lists such as train.txt and val.txt, found none. {_TRAINVAL}")
    if sbd.find_folder(source) is not None:
        found.append("trainaug")
    return [split for split in SPLIT_SIZES if split in found]


def ids(source: Source, split: str) -> list[str]:
    """Returns the ids of a split in the order of its list.

    Raises:
        UserError: an unknown split, or its list is missing or not a list.
    """
    if split not in SPLIT_SIZES:
        raise UserError(f"voc12 has the splits {', '.join(SPLIT_SIZES)}, got {split!r}. Correct --splits.")
    path = _lists(source) / f"{split}.txt"
    if split not in _AUGMENTED_SPLITS:
        return raw_files.read_ids(path, _LIST_ORIGIN[split])
    sbd_folder = sbd.find_folder(source)
    masks = _root(source) / "SegmentationClassAug"
    if sbd_folder is None and not masks.is_dir():
        raise UserError(f"{masks}: expected SBD's masks for {split}, found no such folder. {_AUGMENTED}")
    if path.is_file():
        return raw_files.read_ids(path, _LIST_ORIGIN[split])
    if split == "trainvalaug":
        return ids(source, "trainaug") + ids(source, "val")
    if sbd_folder is None:
        return raw_files.read_ids(path, _LIST_ORIGIN[split])
    train, val = ids(source, "train"), ids(source, "val")
    own = {*train, *val}
    return train + [image_id for image_id in sbd.ids(sbd_folder) if image_id not in own]


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its labels.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    root = _root(source)
    image_path = root / f"JPEGImages/{image_id}.jpg"
    mask_path = root / f"SegmentationClass/{image_id}.png"
    if split == "test":
        return raw_files.read_example(image_id, image_path, None, INFO.num_classes)
    made_path = root / f"SegmentationClassAug/{image_id}.png"
    if split in _AUGMENTED_SPLITS and not mask_path.is_file():
        sbd_folder = sbd.find_folder(source)
        if made_path.is_file() or sbd_folder is None:
            mask_path = made_path
        elif image_id not in _ids_with_own_mask(source):
            labels_path = sbd_folder / "cls" / f"{image_id}.mat"
            if not image_path.is_file():
                image_path = sbd_folder / "img" / f"{image_id}.jpg"
            labels = sbd.read_labels(labels_path, INFO.num_classes)
            return raw_files.build_example(image_id, image_path, labels, labels_path)
    return raw_files.read_example(image_id, image_path, mask_path, INFO.num_classes, palette=_ALL_COLOURS)


@functools.lru_cache(maxsize=8)  # `example` calls it each time
def _root(source: Source) -> Path:
    """Returns the VOC2012 folder."""
    if not source.root:
        raise UserError("voc12 needs --root=FOLDER, the folder that holds VOCdevkit.")
    root = Path(source.root)
    for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    if not root.is_dir():
        raise UserError(f"--root={source.root}: expected the folder that holds VOCdevkit, found no such folder.")
    raise UserError(
        f"--root={source.root}: expected VOCdevkit/VOC2012/ImageSets/Segmentation below it, found none."
        " Give the folder that holds VOCdevkit, as VOCtrainval_11-May-2012.tar unpacks it."
    )


@functools.lru_cache(maxsize=8)  # `example` calls it each time
def _ids_with_own_mask(source: Source) -> frozenset[str]:
    """Returns the ids of VOC's train and val: a mask of theirs that is missing is not to be had from SBD."""
    lists = [_lists(source) / f"{split}.txt" for split in ("train", "val")]
    return frozenset(image_id for path in lists if path.is_file() for image_id in raw_files.read_ids(path, ""))


def _lists(source: Source) -> Path:
    return _root(source) / "ImageSets" / "Segmentation"
