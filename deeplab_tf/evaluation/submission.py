"""Archives that the test servers of PASCAL VOC 2012 and Cityscapes take.

voc12       results/VOC2012/Segmentation/comp6_test_cls/ID.png in a .tgz; pixels are class indices, in VOC's
            palette. comp6 is for training with other data than VOC's, such as ImageNet and SBD, comp5 without.
cityscapes  ID_pred_labelIds.png in a .zip; pixels are the data set's label ids, such as 26 for a car.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from deeplab_tf.dataset_info import CITYSCAPES_LABEL_IDS, DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.results import Result
from deeplab_tf.images import visualize
from deeplab_tf.runtime import files

_NUM_CLASSES = {"voc12": 21, "cityscapes": 19}


def archive_name(info: DatasetInfo, split: str, competition: str = "comp6") -> str:
    """Returns the archive's file name.

    Raises:
        UserError: a data set without a test server, or not with all of its classes.
    """
    if info.name not in _NUM_CLASSES:
        raise UserError(
            f"--submission knows the test servers of {', '.join(_NUM_CLASSES)}; the data set is {info.name}."
        )
    if info.num_classes != _NUM_CLASSES[info.name]:
        raise UserError(
            f"--submission needs all {_NUM_CLASSES[info.name]} classes of {info.name}; there are {info.num_classes}."
        )
    return f"voc12_{split}_{competition}.tgz" if info.name == "voc12" else f"cityscapes_{split}.zip"


def archived(results: Iterable[Result], path: str, info: DatasetInfo, competition: str = "comp6") -> Iterator[Result]:
    """Passes results on, and writes the last prediction of each into an archive.

    The archive gets its name when all results are in it; stopped before, it is removed.

    Args:
        results: of a whole split.
        path: of the archive, in an existing folder.
        info: the data set.
        competition: "comp5" or "comp6", for VOC.

    Yields:
        The results.

    Raises:
        UserError: the folder cannot be written.
    """
    open_archive = _voc12_archive if info.name == "voc12" else _cityscapes_archive
    with files.complete_or_absent(path) as temporary, open_archive(temporary, info, competition) as add:
        for result in results:
            add(os.path.basename(result.image_id), result.predicted[-1])
            yield result


Add = Callable[[str, np.ndarray], None]


@contextlib.contextmanager
def _voc12_archive(path: str, info: DatasetInfo, competition: str) -> Iterator[Add]:
    # PNGs are compressed already.
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:

        def add(name: str, predicted: np.ndarray) -> None:
            encoded = visualize.encode_palette_png(predicted, info.palette)
            member = tarfile.TarInfo(f"results/VOC2012/Segmentation/{competition}_test_cls/{name}.png")
            member.size = len(encoded)
            archive.addfile(member, io.BytesIO(encoded))

        yield add


@contextlib.contextmanager
def _cityscapes_archive(path: str, info: DatasetInfo, competition: str) -> Iterator[Add]:
    del info, competition
    label_ids = np.array(CITYSCAPES_LABEL_IDS, np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        yield lambda name, predicted: archive.writestr(
            f"{name}_pred_labelIds.png", visualize.encode_grey_png(label_ids[predicted])
        )
