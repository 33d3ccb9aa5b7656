"""PASCAL VOC 2012 in its official folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets import voc12
from datasets.source import Source
from deeplab_tf.errors import UserError


def voc_folder(voc_root: Path) -> Path:
    return voc_root / "VOCdevkit" / "VOC2012"


def test_the_classes_are_pascals() -> None:
    info = voc12.info(Source())
    assert info.num_classes == 21
    assert (info.class_names[8], info.class_names[15], info.class_names[20]) == ("cat", "person", "tvmonitor")
    assert info.palette[15] == (192, 128, 128)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_the_three_folders(voc_root: Path, below: str) -> None:
    source = Source(root=str(voc_root / below))
    assert voc12.splits(source) == ["train", "trainaug", "val", "trainval", "test"]
    assert voc12.ids(source, "train") == ["2007_000001", "2007_000002"]


def test_palette_masks_give_indices_with_the_void_border(voc_root: Path) -> None:
    example = voc12.example(Source(root=str(voc_root)), "train", "2007_000001")
    assert example.labels is not None
    assert example.labels.shape == (20, 30)
    assert (example.labels[0, 0], example.labels[5, 5], example.labels[10, 10]) == (0, 255, 8)
    assert example.image == (voc_folder(voc_root) / "JPEGImages" / "2007_000001.jpg").read_bytes()


def test_trainaug_takes_pascals_mask_where_there_is_one_and_sbds_elsewhere(voc_root: Path) -> None:
    source = Source(root=str(voc_root))
    classes = {}
    for image_id in voc12.ids(source, "trainaug"):
        labels = voc12.example(source, "trainaug", image_id).labels
        assert labels is not None
        classes[image_id] = set(np.unique(labels)) - {0, 255}
    assert classes == {"2007_000001": {8}, "2007_000002": {8}, "2008_000004": {12}}


def test_test_images_have_no_labels(voc_root: Path) -> None:
    source = Source(root=str(voc_root))
    assert voc12.example(source, "test", voc12.ids(source, "test")[0]).labels is None


def test_lists_in_the_form_of_sbd_are_read(voc_root: Path) -> None:
    path = voc_folder(voc_root) / "ImageSets" / "Segmentation" / "trainaug.txt"
    path.write_text("/JPEGImages/2007_000001.jpg /SegmentationClassAug/2007_000001.png\n2008_000004\n")
    assert voc12.ids(Source(root=str(voc_root)), "trainaug") == ["2007_000001", "2008_000004"]


def test_a_missing_list_is_named_with_its_usual_origin(voc_root: Path) -> None:
    with pytest.raises(UserError, match=r"trainvalaug\.txt: expected this list.*trainaug\.txt followed by val\.txt"):
        voc12.ids(Source(root=str(voc_root)), "trainvalaug")


def test_trainaug_without_its_masks_says_which_folder_is_missing(voc_root: Path) -> None:
    shutil.rmtree(voc_folder(voc_root) / "SegmentationClassAug")
    with pytest.raises(UserError, match=r"SegmentationClassAug: expected SBD's masks"):
        voc12.ids(Source(root=str(voc_root)), "trainaug")


def test_missing_masks_and_images_are_named(voc_root: Path) -> None:
    source = Source(root=str(voc_root))
    (voc_folder(voc_root) / "SegmentationClass" / "2007_000001.png").unlink()
    with pytest.raises(UserError, match=r"SegmentationClass/2007_000001\.png.*no such file"):
        voc12.example(source, "train", "2007_000001")
    (voc_folder(voc_root) / "JPEGImages" / "2007_000002.jpg").unlink()
    with pytest.raises(UserError, match=r"JPEGImages/2007_000002\.jpg.*no such file"):
        voc12.example(source, "train", "2007_000002")


def test_a_wrong_root_or_split_is_refused(tmp_path: Path, voc_root: Path) -> None:
    with pytest.raises(UserError, match="voc12 needs --root"):
        voc12.splits(Source())
    with pytest.raises(UserError, match="no such folder"):
        voc12.splits(Source(root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="expected VOCdevkit/VOC2012/ImageSets/Segmentation below it"):
        voc12.splits(Source(root=str(voc_folder(voc_root) / "JPEGImages")))
    with pytest.raises(UserError, match="'training'"):
        voc12.ids(Source(root=str(voc_root)), "training")
