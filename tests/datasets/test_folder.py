"""A user's own folder of images and masks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import folder
from datasets.source import Source
from deeplab_tf.dataset_info import pascal_palette
from deeplab_tf.errors import UserError


def test_classes_come_from_the_file_and_colours_from_pascal(folder_root: Path) -> None:
    info = folder.info(Source(root=str(folder_root)))
    assert info.class_names == ("ground", "road", "car")
    assert info.palette == pascal_palette(3)


def test_palette_masks_lend_their_colours(folder_root: Path) -> None:
    mask = Image.new("P", (16, 12))
    mask.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
    mask.save(folder_root / "masks" / "img0.png")
    assert folder.info(Source(root=str(folder_root))).palette == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def test_without_split_files_a_fixed_tenth_becomes_val(folder_root: Path) -> None:
    source = Source(root=str(folder_root))
    assert folder.splits(source) == ["train", "val"]
    train, val = folder.ids(source, "train"), folder.ids(source, "val")
    assert (len(train), len(val)) == (9, 1)
    assert sorted(train + val) == [f"img{index}" for index in range(10)]
    assert folder.ids(Source(root=str(folder_root), val_fraction=0.11), "val") == val
    assert len(folder.ids(Source(root=str(folder_root), val_fraction=0.99), "train")) == 1
    with pytest.raises(UserError, match="--val_fraction"):
        folder.ids(Source(root=str(folder_root), val_fraction=1.0), "train")


def test_split_files_decide_and_test_may_go_without_masks(folder_root: Path) -> None:
    (folder_root / "splits").mkdir()
    (folder_root / "splits" / "train.txt").write_text("img3\nimg1\n")
    (folder_root / "splits" / "test.txt").write_text("img2\n")
    (folder_root / "masks" / "img2.png").unlink()
    source = Source(root=str(folder_root))
    assert folder.splits(source) == ["test", "train"]
    assert folder.ids(source, "train") == ["img3", "img1"]
    assert folder.example(source, "test", folder.ids(source, "test")[0]).labels is None
    with pytest.raises(UserError, match=r"splits test, train, got 'val'"):
        folder.ids(source, "val")
    (folder_root / "splits" / "train.txt").write_text("img3.jpg\n")
    with pytest.raises(UserError, match=r"train\.txt: expected stems .*'img3\.jpg'"):
        folder.ids(source, "train")


def test_named_places_hold_the_one_split_that_is_named(folder_root: Path) -> None:
    places = {"image_dir": str(folder_root / "images"), "mask_dir": str(folder_root / "masks")}
    source = Source(**places, classes=("ground", "road"), ignore_label=2, split_names=("train",))
    assert folder.splits(source) == ["train"]
    assert len(folder.ids(source, "train")) == 10
    labels = folder.example(source, "train", "img2").labels
    assert labels is not None
    assert np.unique(labels).tolist() == [255]
    with pytest.raises(UserError, match="--splits=NAME"):
        folder.splits(Source(**places, classes=("ground", "road")))
    with pytest.raises(UserError, match="--classes=a,b,c"):
        folder.info(Source(**places, split_names=("train",)))


def test_an_image_without_a_mask_is_named(folder_root: Path) -> None:
    (folder_root / "masks" / "img4.png").unlink()
    with pytest.raises(UserError, match=r"img4\.PNG: expected its mask at .*masks/img4\.png"):
        folder.ids(Source(root=str(folder_root)), "train")


def test_two_images_of_one_stem_are_refused(folder_root: Path) -> None:
    shutil.copy(folder_root / "images" / "img0.PNG", folder_root / "images" / "img1.png")
    with pytest.raises(UserError, match=r"img1\.png: expected one image for the stem 'img1', found img1\.jpg too"):
        folder.ids(Source(root=str(folder_root)), "train")


def test_other_files_beside_the_images_do_not_matter(folder_root: Path) -> None:
    for name in (".DS_Store", "._img0.jpg", "Thumbs.db", "notes.txt"):
        (folder_root / "images" / name).write_bytes(b"x")
    assert len(folder.ids(Source(root=str(folder_root)), "train")) == 9


def test_missing_parts_are_named(folder_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder needs"):
        folder.ids(Source(), "train")
    with pytest.raises(UserError, match=r"nowhere: expected a folder"):
        folder.splits(Source(root=str(tmp_path / "nowhere")))
    (folder_root / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(UserError, match=r"classes\.txt.*found twice: a"):
        folder.info(Source(root=str(folder_root)))
    (folder_root / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes\.txt.*no such file"):
        folder.info(Source(root=str(folder_root)))
    shutil.rmtree(folder_root / "images")
    (folder_root / "images").mkdir()
    with pytest.raises(UserError, match=r"expected images .*found none"):
        folder.ids(Source(root=str(folder_root)), "train")
