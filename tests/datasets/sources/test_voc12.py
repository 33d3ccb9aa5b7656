"""PASCAL VOC 2012 in its official folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source
from datasets.sources import voc12
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees


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


def test_trainvalaug_without_a_list_is_trainaug_and_val(voc_root: Path) -> None:
    source = Source(root=str(voc_root))
    assert voc12.ids(source, "trainvalaug") == ["2007_000001", "2007_000002", "2008_000004", "2007_000003"]
    labels = voc12.example(source, "trainvalaug", "2007_000003").labels
    assert labels is not None
    assert set(np.unique(labels)) == {0, 8, 255}


def test_a_missing_list_is_named_with_its_usual_origin(voc_root: Path) -> None:
    lists = voc_folder(voc_root) / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").unlink()
    (lists / "val.txt").unlink()
    with pytest.raises(UserError, match=r"trainaug\.txt: expected this list.*made from SBD.*--sbd_root"):
        voc12.ids(Source(root=str(voc_root)), "trainaug")
    with pytest.raises(UserError, match=r"val\.txt: expected this list.*VOCtrainval_11-May-2012\.tar"):
        voc12.ids(Source(root=str(voc_root)), "val")


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


def test_the_official_sizes_travel_with_the_classes() -> None:
    sizes = dict(voc12.info(Source()).split_sizes)
    assert sizes["trainaug"] == 10582
    assert sizes["trainvalaug"] - sizes["trainaug"] == sizes["val"] == sizes["trainval"] - sizes["train"]


def test_with_sbd_trainaug_is_train_and_all_of_sbd_without_val(tmp_path: Path) -> None:
    raw_trees.make_voc_with_sbd(tmp_path)
    source = Source(root=str(tmp_path))
    assert voc12.splits(source) == ["train", "trainaug", "val"]
    assert voc12.ids(source, "trainaug") == ["2007_000001", "2007_000002", "2008_000004", "2008_000005"]
    assert voc12.ids(source, "trainvalaug") == [*voc12.ids(source, "trainaug"), "2007_000003"]


def test_sbds_labels_are_read_where_pascal_has_none(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path)
    # VOC's mask has class 8, SBD's 12 for the same image.
    of_both = voc12.example(tree.source, "trainaug", "2007_000002").labels
    np.testing.assert_array_equal(of_both, raw_trees.box(8))
    example = voc12.example(tree.source, "trainaug", "2008_000004")
    np.testing.assert_array_equal(example.labels, raw_trees.box(12))
    assert example.labels is not None
    assert example.labels.dtype == np.uint8
    assert example.files == (tree.image, tree.labels)


def test_sbd_may_be_elsewhere_and_bring_its_own_images(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path / "voc")
    (tmp_path / "sbd").mkdir()
    moved = shutil.move(tmp_path / "voc" / "benchmark_RELEASE", tmp_path / "sbd")
    assert "trainaug" not in voc12.splits(Source(root=tree.source.root))
    for named in (tmp_path / "sbd", Path(moved), Path(moved) / "dataset"):
        assert "trainaug" in voc12.splits(Source(root=tree.source.root, sbd_root=str(named)))
    source = Source(root=tree.source.root, sbd_root=str(tmp_path / "sbd"))
    own = Path(moved) / "dataset" / "img" / tree.image.name
    own.parent.mkdir()
    shutil.move(tree.image, own)
    assert voc12.example(source, "trainaug", "2008_000004").files[0] == own
    with pytest.raises(UserError, match=r"--sbd_root=.*: expected benchmark_RELEASE/dataset/cls below it"):
        voc12.splits(Source(root=tree.source.root, sbd_root=str(tmp_path / "voc")))


def test_masks_made_from_sbd_win_over_its_mat_files(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path)
    made = voc_folder(tmp_path) / "SegmentationClassAug" / "2008_000004.png"
    raw_trees.save_grey_mask(made, raw_trees.box(3))
    labels = voc12.example(tree.source, "trainaug", "2008_000004").labels
    np.testing.assert_array_equal(labels, raw_trees.box(3))
    # The other image of SBD has no such mask.
    np.testing.assert_array_equal(voc12.example(tree.source, "trainaug", "2008_000005").labels, raw_trees.box(12))


def test_sbd_does_not_stand_in_for_a_missing_mask_of_pascals(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path)
    (voc_folder(tmp_path) / "SegmentationClass" / "2007_000002.png").unlink()
    with pytest.raises(UserError, match=r"SegmentationClass/2007_000002\.png: expected this mask, found no such file"):
        voc12.example(tree.source, "trainaug", "2007_000002")


def test_an_id_in_both_lists_of_sbd_is_refused(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path)
    assert tree.ids is not None
    raw_trees.write_list(tree.ids, ["2008_000004", "2008_000005"])
    with pytest.raises(UserError, match=r"val\.txt: expected other ids than in train\.txt, got 2008_000005 in both"):
        voc12.ids(tree.source, "trainaug")


def test_a_mask_whose_palette_was_sorted_anew_is_refused(voc_root: Path) -> None:
    path = voc_folder(voc_root) / "SegmentationClass" / "2007_000001.png"
    with Image.open(path) as mask:
        mask.convert("RGB").quantize(3).save(path)  # the same picture; its indices are 0, 1, 2 by frequency
    with pytest.raises(UserError, match=r"2007_000001\.png: expected index . of its palette .* reordered"):
        voc12.example(Source(root=str(voc_root)), "train", "2007_000001")
