"""A user's own folder of images and masks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source
from datasets.sources import folder
from deeplab_tf.errors import UserError
from deeplab_tf.images.palettes import distinct_palette
from tests.datasets import raw_trees


def test_classes_come_from_the_file_and_get_distinct_colours(folder_root: Path) -> None:
    info = folder.info(Source(root=str(folder_root)))
    assert info.class_names == ("ground", "road", "car")
    assert info.palette == distinct_palette(3)


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
    (folder_root / "splits" / "train.txt").write_text("img3\nimg33.jpg\n")
    with pytest.raises(UserError, match=r"train\.txt: expected stems .*'img33\.jpg'.* nearest name is 'img3'"):
        folder.ids(source, "train")


def test_named_places_hold_the_one_split_that_is_named(folder_root: Path) -> None:
    places = {"image_dir": str(folder_root / "images"), "mask_dir": str(folder_root / "masks")}
    source = Source(**places, classes=("ground", "road"), ignore_label=2, split_names=("train",))
    assert folder.splits(source) == ["train"]
    assert len(folder.ids(source, "train")) == 10
    labels = folder.example(source, "train", "img2").labels
    assert labels is not None
    assert np.unique(labels).tolist() == [0, 255]
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


def test_a_mask_without_an_image_is_named_where_no_list_says_what_belongs_to_the_set(folder_root: Path) -> None:
    (folder_root / "images" / "img4.PNG").unlink()
    with pytest.raises(UserError, match=r"masks/img4\.png: expected its image in .*images"):
        folder.ids(Source(root=str(folder_root)), "train")
    raw_trees.write_list(folder_root / "splits" / "train.txt", ["img3"])
    assert folder.ids(Source(root=str(folder_root)), "train") == ["img3"]


def test_files_added_between_two_calls_are_seen(folder_root: Path) -> None:
    source = Source(root=str(folder_root))
    before = folder.ids(source, "train") + folder.ids(source, "val")
    raw_trees.save_photo(folder_root / "images" / "later.png", 12, 16)
    raw_trees.save_palette_mask(
        folder_root / "masks" / "a_first.png", np.zeros((12, 16)), [(7, 8, 9), (1, 2, 3), (4, 5, 6)]
    )
    raw_trees.save_palette_mask(
        folder_root / "masks" / "later.png", np.zeros((12, 16)), [(7, 8, 9), (1, 2, 3), (4, 5, 6)]
    )
    raw_trees.save_photo(folder_root / "images" / "a_first.png", 12, 16)
    assert sorted(folder.ids(source, "train") + folder.ids(source, "val")) == sorted([*before, "later", "a_first"])
    assert folder.info(source).palette == ((7, 8, 9), (1, 2, 3), (4, 5, 6))


COLOURED = ["road 128 64 128", "traffic light, 250, 170, 30", "ignore 0 0 0", "ignore 255 255 255", "sky 70 130 180"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_of_colours_are_read_by_the_colours_of_the_classes(folder_root: Path, mode: str) -> None:
    raw_trees.write_list(folder_root / "classes.txt", COLOURED)
    colours = np.array([[[128, 64, 128], [250, 170, 30], [0, 0, 0], [70, 130, 180], [255, 255, 255]]], np.uint8)
    image = Image.fromarray(np.tile(colours, (3, 1, 1)))
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(folder_root / "masks" / "img1.png")
    raw_trees.save_photo(folder_root / "images" / "img1.jpg", 3, 5)
    source = Source(root=str(folder_root))
    info = folder.info(source)
    assert info.class_names == ("road", "traffic light", "sky")
    assert info.palette == ((128, 64, 128), (250, 170, 30), (70, 130, 180))
    labels = folder.example(source, "train", "img1").labels
    np.testing.assert_array_equal(labels, np.tile([[0, 1, 255, 2, 255]], (3, 1)))


def test_grey_masks_stay_indices_where_the_classes_have_colours(folder_root: Path) -> None:
    raw_trees.write_list(folder_root / "classes.txt", COLOURED)
    labels = folder.example(Source(root=str(folder_root)), "train", "img5").labels
    assert labels is not None
    assert np.unique(labels).tolist() == [0, 2]


def test_a_colour_without_a_class_is_named(folder_root: Path) -> None:
    raw_trees.write_list(folder_root / "classes.txt", COLOURED)
    colours = np.full((12, 16, 3), (128, 64, 128), np.uint8)
    colours[3, 4] = (128, 64, 127)
    Image.fromarray(colours).save(folder_root / "masks" / "img1.png")
    with pytest.raises(UserError, match=r"img1\.png: expected only the colours of the classes, got \(128, 64, 127\)\."):
        folder.example(Source(root=str(folder_root)), "train", "img1")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["road 128 64 128", "sky"], "a colour for every class, or for none.* got 'sky'"),
        (["road 128 64 128", "sky 1 2 256"], "got 'sky 1 2 256'"),
        (["road 128 64 128", "sky 128 64 128"], "every colour once, got 'sky 128 64 128' again"),
        (["road 128 64 128", "road 1 2 3"], "1 to 255 class names, each once"),
        (["ignore 0 0 0"], "1 to 255 class names"),
    ],
)
def test_a_table_of_colours_with_gaps_or_repetitions_is_refused(
    folder_root: Path, lines: list[str], message: str
) -> None:
    raw_trees.write_list(folder_root / "classes.txt", lines)
    with pytest.raises(UserError, match=rf"classes\.txt: expected .*{message}"):
        folder.info(Source(root=str(folder_root)))


def test_the_classes_may_be_in_another_file(folder_root: Path, tmp_path: Path) -> None:
    table = raw_trees.write_list(tmp_path / "other.txt", COLOURED)
    source = Source(image_dir=str(folder_root / "images"), mask_dir=str(folder_root / "masks"), classes=(str(table),))
    assert folder.info(source).class_names == ("road", "traffic light", "sky")


@pytest.mark.parametrize("name", ["clases.txt", "there/classes"])
def test_a_file_of_classes_that_is_not_there_is_no_class_name(folder_root: Path, tmp_path: Path, name: str) -> None:
    named = (str(tmp_path / name),) if "/" in name else (name,)
    source = Source(image_dir=str(folder_root / "images"), mask_dir=str(folder_root / "masks"), classes=named)
    with pytest.raises(UserError, match=f"{name}: expected this list, found no such file"):
        folder.info(source)


def test_palettes_that_disagree_between_masks_are_refused(folder_root: Path) -> None:
    labels = np.ones((12, 16))
    labels[0] = 0
    raw_trees.save_palette_mask(folder_root / "masks" / "img0.png", labels, [(0, 0, 0), (1, 2, 3), (4, 5, 6)])
    raw_trees.save_palette_mask(folder_root / "masks" / "img1.png", labels, [(0, 0, 0), (1, 2, 3), (9, 9, 9)])
    raw_trees.save_palette_mask(folder_root / "masks" / "img3.png", labels, [(0, 0, 0), (4, 5, 6), (1, 2, 3)])
    source = Source(root=str(folder_root))
    assert folder.example(source, "train", "img1").labels is not None  # only what a mask uses has to agree
    with pytest.raises(UserError, match=r"img3\.png: expected index 1 .* \(1, 2, 3\), got \(4, 5, 6\)"):
        folder.example(source, "train", "img3")


def test_a_list_in_utf_16_is_refused_with_what_to_do(folder_root: Path) -> None:
    (folder_root / "classes.txt").write_bytes("a\nb\n".encode("utf-16-le"))
    with pytest.raises(
        UserError, match=r"classes\.txt: expected a UTF-8 text file, found zero bytes.*Save it as UTF-8"
    ):
        folder.info(Source(root=str(folder_root)))
