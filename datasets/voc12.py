"""PASCAL VOC 2012 segmentation in its official folders, and the augmented training set (SBD).

Layout, below --root (which may also be VOCdevkit or VOC2012 itself):

    VOCdevkit/VOC2012/ImageSets/Segmentation/{train,trainaug,val,trainval,trainvalaug,test}.txt
    VOCdevkit/VOC2012/JPEGImages/ID.jpg
    VOCdevkit/VOC2012/SegmentationClass/ID.png       PASCAL's own masks
    VOCdevkit/VOC2012/SegmentationClassAug/ID.png    SBD's masks as palette PNGs, for trainaug and trainvalaug
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from datasets import raw_files
from datasets.source import Example, Source
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

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
INFO = DatasetInfo(name="voc12", class_names=CLASS_NAMES, palette=pascal_palette(len(CLASS_NAMES)))

_LIST_ORIGIN = {
    "train": "It is part of VOCtrainval_11-May-2012.tar.",
    "val": "It is part of VOCtrainval_11-May-2012.tar.",
    "trainval": "It is part of VOCtrainval_11-May-2012.tar.",
    "test": "It is part of the VOC 2012 test archive of the PASCAL evaluation server.",
    "trainaug": (
        "trainaug is not PASCAL's own: its list (10582 ids: train, and SBD without val) and its masks,"
        " SegmentationClassAug, are made from SBD. Without them, leave trainaug out of --splits."
    ),
    "trainvalaug": (
        "trainvalaug is not PASCAL's own: its list is trainaug.txt followed by val.txt (12031 ids). Without"
        " SegmentationClassAug, leave trainvalaug out of --splits."
    ),
}
_SPLITS = ("train", "trainaug", "val", "trainval", "trainvalaug", "test")
_AUGMENTED_SPLITS = ("trainaug", "trainvalaug")


def info(source: Source) -> DatasetInfo:
    """Returns the 21 classes; they do not depend on the files."""
    del source
    return INFO


def splits(source: Source) -> list[str]:
    """Returns the splits whose list files exist.

    Raises:
        UserError: no VOC 2012 folder below the root, or no list file in it.
    """
    folder = _lists(source)
    found = [split for split in _SPLITS if (folder / f"{split}.txt").is_file()]
    if not found:
        raise UserError(f"{folder}: expected lists such as train.txt and val.txt, found none. {_LIST_ORIGIN['train']}")
    return found


def ids(source: Source, split: str) -> list[str]:
    """Returns the ids of a split in the order of its list.

    A line is an id, or, as in SBD's lists, "/JPEGImages/ID.jpg /SegmentationClassAug/ID.png".

    Raises:
        UserError: an unknown split, or its list is missing or not a list.
    """
    if split not in _SPLITS:
        raise UserError(f"voc12 has the splits {', '.join(_SPLITS)}, got {split!r}. Correct --splits.")
    lines = raw_files.read_list(_lists(source) / f"{split}.txt", _LIST_ORIGIN[split])
    masks = _root(source) / "SegmentationClassAug"
    if split in _AUGMENTED_SPLITS and not masks.is_dir():
        raise UserError(f"{masks}: expected SBD's masks for {split}, found no such folder. {_LIST_ORIGIN['trainaug']}")
    return [PurePosixPath(line.split()[0]).stem for line in lines]


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its mask.

    Where an image of an augmented split has two masks, PASCAL's wins: it is drawn finer and marks void borders.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    root = _root(source)
    image_path = root / "JPEGImages" / f"{image_id}.jpg"
    if split == "test":
        return raw_files.read_example(image_id, image_path, None, INFO.num_classes)
    mask_path = root / "SegmentationClass" / f"{image_id}.png"
    if split in _AUGMENTED_SPLITS and not mask_path.is_file():
        mask_path = root / "SegmentationClassAug" / f"{image_id}.png"
    return raw_files.read_example(image_id, image_path, mask_path, INFO.num_classes)


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


def _lists(source: Source) -> Path:
    return _root(source) / "ImageSets" / "Segmentation"
