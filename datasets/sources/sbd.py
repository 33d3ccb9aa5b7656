"""SBD, the Semantic Boundaries Dataset: more labels for images of PASCAL VOC, in its official folders.

    benchmark_RELEASE/dataset/train.txt, val.txt    ids (8,498 and 2,857)
    benchmark_RELEASE/dataset/cls/ID.mat            GTcls.Segmentation: VOC's class indices, without void
    benchmark_RELEASE/dataset/img/ID.jpg

Its images are PASCAL VOC's, and are taken from there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplab_tf.errors import UserError

from ..messages import some
from ..raw import files as raw_files
from ..raw import mat_files
from ..source import Source

ORIGIN = "It is part of benchmark.tgz, SBD's release."


def find_folder(source: Source) -> Path | None:
    """Returns the folder that holds cls/, or None where there is none below --root.

    Raises:
        UserError: --sbd_root names another folder.
    """
    if source.sbd_root:
        named = Path(source.sbd_root)
        for folder in (named / "benchmark_RELEASE" / "dataset", named / "dataset", named):
            if (folder / "cls").is_dir():
                return folder
        raise UserError(
            f"--sbd_root={source.sbd_root}: expected benchmark_RELEASE/dataset/cls below it, found none."
            " Give the folder to which benchmark.tgz was unpacked."
        )
    for below in ("benchmark_RELEASE/dataset", "VOCdevkit/benchmark_RELEASE/dataset"):
        if (Path(source.root) / below / "cls").is_dir():
            return Path(source.root) / below
    return None


def ids(folder: Path) -> list[str]:
    """Returns the ids of SBD's train and val.

    Raises:
        UserError: a list is missing, or an id is in both.
    """
    train = raw_files.read_list(folder / "train.txt", ORIGIN)
    val = raw_files.read_list(folder / "val.txt", ORIGIN)
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(
            f"{folder / 'val.txt'}: expected other ids than in train.txt, got {some(both)} in both."
            " Unpack SBD's release again."
        )
    return train + val


def read_labels(path: Path, num_classes: int) -> np.ndarray:
    """Reads the labels of one image.

    Args:
        path: cls/ID.mat.
        num_classes: K.

    Returns:
        uint8 [H, W], 0..K-1.

    Raises:
        UserError: the file is missing, damaged, or not SBD's.
    """
    truth = mat_files.only_struct(path, mat_files.read_variable(path, "GTcls"))
    values = mat_files.field(path, truth, "Segmentation")
    return mat_files.label_map(path, values, num_classes - 1).astype(np.uint8)
