"""Which mask belongs to which image, and what is left over."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.own.pairing import Named, fold, pair
from datasets.own.tree import File
from datasets.source import Source
from datasets.sources import folder
from deeplab_tf.errors import UserErrors
from tests.datasets import raw_trees
from tests.datasets.own_data import is_right, is_told, make, read, save_image, save_mask, truth


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/img_{:03}.jpg", "masks/img_{:03}.png"),
        ("images/img_{:03}.JPG", "masks/img_{:03}.PNG"),
        ("Images/img_{:03}.jpg", "Masks/img_{:03}.png"),
        ("images/Img_{:03}.jpg", "masks/img_{:03}.png"),
        ("images/img_{:03}.jpg", "masks/img_{:03}_mask.png"),
        ("images/img_{:03}.jpg", "masks/img_{:03}.jpg.png"),
        ("images/img_{:03}.jpg", "masks/mask_img_{:03}.png"),
        ("images/img_{:03}.jpg", "masks/mask_{:03}.png"),
        ("images/img_{:03}.jpg", "masks/label_{}.png"),
        ("images/a/img_{:03}.jpg", "masks/a/img_{:03}.png"),
        ("images/a/img_{:03}.jpg", "masks/img_{:03}.png"),
        ("a/images/img_{:03}.jpg", "a/masks/img_{:03}.png"),
        ("imgs/img_{:03}.png", "labels/img_{:03}.png"),
        ("img_dir/train/img_{:03}.png", "ann_dir/train/img_{:03}.png"),
        ("training/image_2/img_{:03}.png", "training/semantic/img_{:03}.png"),
        ("raw/img_{:03}.jpg", "seg/img_{:03}.png"),
        ("train/raw/img_{:03}.jpg", "train/seg/img_{:03}.png"),
        ("data/JPEGImages/img_{:03}.jpg", "data/SegmentationClass/img_{:03}.png"),
        ("set/img_{:03}.jpg", "set_masks/img_{:03}.png"),
        ("set_images/img_{:03}.jpg", "set_labels/img_{:03}.png"),
        ("pictures/img_{:03}.jpg", "picturesannot/img_{:03}.png"),
        ("img_{:03}.jpg", "img_{:03}.png"),
        ("img_{:03}.png", "img_{:03}_mask.png"),
        ("images/img_{:03}.jpg", "images/img_{:03}.png"),
        ("images/img_{:03}_leftImg8bit.png", "gtFine/img_{:03}_gtFine_labelIds.png"),
        ("images/img_{:03}.gif", "masks/img_{:03}.png"),
        ("images/img_{:03}.jpg", "masks/img_{:03}.tif"),
        ("images/img_{:03}.jpg", "masks/img_{:03}.bmp"),
        ("images/img_{:03}.jpg", "masks/img_{:03}.npy"),
    ],
)
def test_pairs_are_found_where_they_cannot_be_mistaken(tmp_path: Path, image: str, mask: str) -> None:
    if "leftImg" in image:
        make(tmp_path, image, mask)
        _, labels, _ = read(tmp_path)
        assert len(labels) == 4
        for image_id, stored in labels.items():
            np.testing.assert_array_equal(stored, truth(int(image_id[4:7])))
    else:
        is_right(make(tmp_path, image, mask))


def test_a_longer_number_is_another_image() -> None:
    def names(*stems: str) -> list[Named]:
        return [Named(File(Path(f"{stem}.png"), ()), (), stem) for stem in stems]

    assert pair(names("img_1"), names("img_12")).pairs == ()
    assert pair(names("1_a"), names("21_a")).pairs == ()
    found = pair(names("img_1", "img_12"), names("img_1_mask", "img_12_mask"))
    assert [(image.stem, mask.stem) for image, mask in found.pairs] == [
        ("img_1", "img_1_mask"),
        ("img_12", "img_12_mask"),
    ]


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert fold(unicodedata.normalize("NFC", "Ärger")) == fold(unicodedata.normalize("NFD", "ärger"))


def test_a_mask_of_the_other_frame_is_told_where_the_frame_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    exif = Image.Exif()
    exif[274] = 6
    for each in range(4):
        turned = np.rot90(raw_trees.photo(24, 32, each))
        Image.fromarray(turned).save(tmp_path / "images" / f"img_{each:03}.jpg", exif=exif)
    is_right(tmp_path, mask_frame="upright")
    is_told(tmp_path, "expected a mask of its image's size, 32x24", mask_frame="stored")


def test_letters_with_dots_may_be_composed_or_not(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "images/übung_{:03}.jpg")
    is_right(make(tmp_path, composed, unicodedata.normalize("NFD", "masks/übung_{:03}.png")))


@pytest.mark.parametrize("folders", [("{split}/images", "{split}/masks"), ("images/{split}", "masks/{split}")])
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_folders_called_train_and_val_are_splits(
    tmp_path: Path, folders: tuple[str, str], names: tuple[str, str, str]
) -> None:
    for number, name in enumerate(names):
        image, mask = (each.format(split=name) for each in folders)
        make(tmp_path, f"{image}/img_{number}{{:02}}.jpg", f"{mask}/img_{number}{{:02}}.png", count=number + 1)
    source, paragraph = folder.prepare(Source(root=str(tmp_path)))
    assert [(split, len(folder.ids(source, split))) for split in folder.splits(source)] == [
        ("train", 1),
        ("val", 2),
        ("test", 3),
    ]
    assert "names of the folders" in " ".join(paragraph.split())


def test_the_same_name_in_two_folders_gives_two_images(tmp_path: Path) -> None:
    for part in ("a", "b"):
        make(tmp_path, f"images/{part}/img_{{:03}}.jpg", f"masks/{part}/img_{{:03}}.png", count=2)
    _, labels, _ = read(tmp_path)
    assert sorted(labels) == ["a__img_000", "a__img_001", "b__img_000", "b__img_001"]


def test_what_systems_leave_in_folders_does_not_matter(tmp_path: Path) -> None:
    make(tmp_path)
    for part in ("images", "masks"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._img_000.jpg", ".hidden.png"):
            (tmp_path / part / name).write_bytes(b"x")
        save_mask(tmp_path / "__MACOSX" / part / "img_000.png", truth(0))
    is_right(tmp_path)


def test_a_converted_data_set_below_the_root_is_not_read(tmp_path: Path) -> None:
    make(tmp_path)
    save_image(tmp_path / "out" / "check" / "images" / "sheet.png", 1)
    (tmp_path / "out" / "manifest.json").write_text("{}")
    (tmp_path / "out" / "train-00000-of-00001.tfrecord").write_bytes(b"x")
    is_right(tmp_path)


def test_pictures_of_masks_beside_them_are_left_out_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "JPEGImages/img_{:03}.jpg", "SegmentationClassPNG/img_{:03}.png")
    for number in range(4):
        save_image(tmp_path / "SegmentationClassVisualization" / f"img_{number:03}.jpg", number)
    assert "Left out: 4 files" in is_right(tmp_path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("leftImg8bit/img_{:03}_leftImg8bit.png", "gtFine/img_{:03}_gtFine_labelIds.png"),
        ("images/img_{:03}.jpg", "masks/img_{:03}.png"),
        ("img_{:03}.jpg", "img_{:03}_mask.png"),
    ],
)
def test_pictures_among_the_masks_are_left_out_and_counted(tmp_path: Path, image: str, mask: str) -> None:
    make(tmp_path, image, mask)
    start = (mask.removesuffix("_labelIds.png").removesuffix("_mask.png")).removesuffix(".png")
    for number in range(4):
        for ending in ("color", "instanceIds"):
            save_mask(tmp_path / f"{start.format(number)}_{ending}.png", truth(number) * 100)
    assert "Left out: 8 files, pictures of masks, to look at (img_000" in is_right(tmp_path)


def test_images_that_are_called_like_pictures_are_images(tmp_path: Path) -> None:
    make(tmp_path, "img_{:03}_color.jpg", "img_{:03}_color_mask.png")
    save_image(tmp_path / "img_000.jpg", 0)
    (tmp_path / "img_000_mask.png").write_bytes((tmp_path / "img_000_color_mask.png").read_bytes())
    _, labels, _ = read(tmp_path)
    assert len(labels) == 5


def test_two_folders_of_masks_are_not_mixed(tmp_path: Path) -> None:
    make(tmp_path)
    for number in range(4):
        save_mask(tmp_path / "labels" / f"img_{number:03}.png", truth(0) * 0)
    assert "masks of masks/ are used instead" in is_right(tmp_path)
    _, labels, _ = read(
        tmp_path, image_dir=str(tmp_path / "images"), mask_dir=str(tmp_path / "labels"), split_names=("train",)
    )
    assert not any(stored.any() for stored in labels.values())


def test_two_kinds_of_masks_in_one_folder_have_to_be_told_apart_by_their_endings(tmp_path: Path) -> None:
    make(tmp_path, mask="masks/img_{:03}_mask.png")
    make(tmp_path, mask="masks/img_{:03}_look.png", change=lambda labels: labels * 100)
    is_told(tmp_path, "several masks would fit an image: .*_look or .*_mask.*--mask_suffix")
    assert "Left out: 4 files" in is_right(tmp_path, mask_suffix="_mask")
    is_told(tmp_path, "--mask_suffix=_seg: expected masks whose names end so, found none", mask_suffix="_seg")


def test_an_image_in_a_format_that_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "images" / "phone.heic").write_bytes(b"x")
    assert "Left out: 1 file, in a format that is not read: export JPEG or PNG (phone.heic)" in is_right(tmp_path)


def test_an_image_without_a_mask_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "masks" / "img_002.png").rename(tmp_path / "masks" / "img_0002x.png")
    message = is_told(tmp_path, r"img_002\.jpg: expected its mask at .*img_002\.png, found none")
    assert "The nearest name is img_0002x.png" in message
    assert "img_0002x.png: expected its image" in message


def test_of_many_problems_all_are_told(tmp_path: Path) -> None:
    make(tmp_path, count=30, change=lambda labels: labels + 9)
    with pytest.raises(UserErrors) as raised:
        folder.prepare(Source(root=str(tmp_path), split_names=("train", "val")))
    assert len(raised.value.problems) == 30


def test_one_mask_of_another_size_is_told_with_both_sizes(tmp_path: Path) -> None:
    make(tmp_path)
    save_mask(tmp_path / "masks" / "img_001.png", truth(1)[:, :-2])
    is_told(tmp_path, r"img_001\.png: expected a mask of its image's size, 32x24 .* got 30x24")


@pytest.mark.parametrize("number", [3, 6])
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_masks_of_turned_photographs_are_right_whatever_they_were_drawn_on(
    tmp_path: Path, number: int, drawn_on: str
) -> None:
    make(tmp_path)
    exif = Image.Exif()
    exif[274] = number
    turns = {3: 2, 6: 1}[number]
    for each in range(4):
        upright = raw_trees.photo(24, 32, each)
        Image.fromarray(np.rot90(upright, turns)).save(tmp_path / "images" / f"img_{each:03}.jpg", exif=exif)
        if drawn_on == "stored":
            save_mask(tmp_path / "masks" / f"img_{each:03}.png", np.rot90(truth(each), turns).copy())
    ambiguous = number == 3
    flags = {"mask_frame": "stored"} if drawn_on == "stored" and ambiguous else {}
    paragraph = is_right(tmp_path, **flags)
    assert "4 photographs are turned by their EXIF orientation" in paragraph
    assert ("taken for the upright picture" in paragraph) == (ambiguous and not flags)


def test_nothing_that_can_be_used_is_told_with_what_was_found(tmp_path: Path) -> None:
    is_told(tmp_path, "expected images .*found none .*no files at all")
    save_image(tmp_path / "a.jpg", 0)
    is_told(tmp_path, r"expected masks or annotation files for the 1 images .*found none \(1 \.jpg\)")
