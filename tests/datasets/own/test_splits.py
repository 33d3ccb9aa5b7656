"""Which images are in which split: by lists, folders, or a hash of their content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets.convert import convert
from datasets.own import content_split
from datasets.own.layout import Item
from datasets.source import Source
from datasets.sources import folder
from datasets.stored.manifest import read_manifest
from tests.datasets import raw_trees
from tests.datasets.own_data import is_told, make, read, save_image


def sides(root: Path, val_fraction: float = 0.3) -> dict[str, str]:
    source = Source(root=str(root), val_fraction=val_fraction)
    return {image_id: split for split in ("train", "val") for image_id in folder.ids(source, split)}


def test_an_image_stays_where_it_is_when_others_are_added_or_it_is_renamed(tmp_path: Path) -> None:
    make(tmp_path, count=30)
    before = sides(tmp_path)
    assert 4 <= list(before.values()).count("val") <= 16
    make(tmp_path, count=60)
    after = sides(tmp_path)
    assert {image_id: after[image_id] for image_id in before} == before
    for part, ending in (("images", "jpg"), ("masks", "png")):
        (tmp_path / part / f"img_007.{ending}").rename(tmp_path / part / f"zebra.{ending}")
    assert sides(tmp_path)["zebra"] == before["img_007"]


def test_copies_of_an_image_are_on_one_side(tmp_path: Path) -> None:
    make(tmp_path, count=20)
    for number in range(20):
        for part, ending in (("images", "jpg"), ("masks", "png")):
            shutil.copy(tmp_path / part / f"img_{number:03}.{ending}", tmp_path / part / f"copy_{number:03}.{ending}")
    found = sides(tmp_path)
    assert all(found[f"img_{number:03}"] == found[f"copy_{number:03}"] for number in range(20))


def test_the_share_of_val_is_about_the_one_that_is_wanted(tmp_path: Path) -> None:
    items = []
    for number in range(1000):
        path = tmp_path / f"{number}"
        path.write_bytes(f"image {number}".encode())
        items.append(Item(str(number), path, ()))
    assert 70 < len(content_split.choose(items, "val", 0.1)) < 130
    assert len(content_split.choose(items, "train", 0.1)) + len(content_split.choose(items, "val", 0.1)) == 1000


@pytest.mark.parametrize(
    "lines",
    [
        ["img_001", "img_003"],
        ["img_001.jpg", "img_003.jpg"],
        ["images/img_001.jpg", "./images/img_003.jpg"],
        ["/data/there/images/img_001.jpg", "C:\\data\\images\\img_003.jpg"],
        ["img_001  1", "img_003 -1"],
        ["images/img_001.jpg masks/img_001.png", "images/img_003.jpg masks/img_003.png"],
        ["img_001,1", "img_003,0"],
    ],
)
def test_lists_are_read_in_every_form_and_only_listed_images_are_needed(tmp_path: Path, lines: list[str]) -> None:
    make(tmp_path, count=5)
    (tmp_path / "masks" / "img_000.png").unlink()
    (tmp_path / "images" / "img_002.jpg").unlink()
    listed = raw_trees.write_list(tmp_path / "splits" / "train.txt", lines)
    names, labels, paragraph = read(tmp_path)
    assert list(labels) == ["img_001", "img_003"]
    assert "in no split that is written" in paragraph
    shutil.rmtree(tmp_path / "splits")
    raw_trees.write_list(listed, lines)
    places = {"image_dir": str(tmp_path / "images"), "mask_dir": str(tmp_path / "masks")}
    _, labels, _ = read(tmp_path, **places, split_names=("train",))
    assert list(labels) == ["img_001", "img_003"]
    moved = raw_trees.write_list(tmp_path / "mine.txt", lines)
    shutil.rmtree(tmp_path / "splits")
    _, labels, _ = read(None, **places, classes=names, split_names=("train",), id_file=str(moved))
    assert sorted(labels) == ["img_001", "img_003"]


def test_names_with_spaces_and_dots_are_found(tmp_path: Path) -> None:
    make(tmp_path, "images/my img.v2 {:03}.jpg", "masks/my img.v2 {:03}.png")
    raw_trees.write_list(tmp_path / "splits" / "train.txt", ["my img.v2 001", "my img.v2 002.jpg"])
    assert list(read(tmp_path)[1]) == ["my img.v2 001", "my img.v2 002"]


def test_a_list_that_names_what_is_not_there_is_told(tmp_path: Path) -> None:
    make(tmp_path)
    raw_trees.write_list(tmp_path / "splits" / "train.txt", ["img_001", "img_01", "x"])
    is_told(tmp_path, r"none for 'img_01' and 1 more of its 3 entries\. The nearest name is 'img_001'")
    raw_trees.write_list(tmp_path / "splits" / "train.txt", ["img_001", "img_001.jpg"])
    is_told(tmp_path, "found twice: img_001.jpg")


def test_a_dry_run_says_what_was_understood_and_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path / "in")
    said: list[str] = []
    assert (
        convert("folder", Source(root=str(tmp_path / "in")), str(tmp_path / "out"), say=said.append, dry_run=True) == []
    )
    assert len(said) == 1
    assert not (tmp_path / "out").exists()


def test_names_with_commas_can_be_kept(tmp_path: Path) -> None:
    make(tmp_path / "in", classes=("background", "disc, round", "box;square"))
    for keep in (("background", "disc", "round"), ("background", "disc, round"), ("background", "disc", " round")):
        convert("folder", Source(root=str(tmp_path / "in")), str(tmp_path / "out" / "-".join(keep)), keep_classes=keep)
        info = read_manifest(tmp_path / "out" / "-".join(keep)).info
        assert info.class_names == ("background", "disc, round")


def test_an_annotation_file_that_changes_is_read_again(tmp_path: Path) -> None:
    make(tmp_path)
    source, _ = folder.prepare(Source(root=str(tmp_path)))
    save_image(tmp_path / "images" / "img_000.jpg", 9)
    again, _ = folder.prepare(Source(root=str(tmp_path)))
    assert source.reading == again.reading


def test_lists_beside_the_folders_are_lists_if_they_name_images(tmp_path: Path) -> None:
    make(tmp_path)
    raw_trees.write_list(tmp_path / "train.txt", ["img_002", "img_003"])
    raw_trees.write_list(tmp_path / "valid.txt", ["images/img_001.jpg masks/img_001.png"])
    source, paragraph = folder.prepare(Source(root=str(tmp_path)))
    assert folder.ids(source, "train") == ["img_002", "img_003"]
    assert folder.ids(source, "val") == ["img_001"]
    assert "by the lists in" in paragraph
    raw_trees.write_list(tmp_path / "train.txt", ["what I did on Monday"])
    raw_trees.write_list(tmp_path / "valid.txt", ["and on Tuesday"])
    _, paragraph = folder.prepare(Source(root=str(tmp_path)))
    assert "by a hash of each image's content" in paragraph


def test_an_image_of_train_that_is_in_val_too_is_said(tmp_path: Path) -> None:
    make(tmp_path)
    raw_trees.write_list(tmp_path / "splits" / "train.txt", ["img_001", "img_002"])
    raw_trees.write_list(tmp_path / "splits" / "val.txt", ["img_002", "img_003"])
    _, paragraph = folder.prepare(Source(root=str(tmp_path)))
    assert "Both train and val have 1 image (img_002): scores on val will be too good." in " ".join(paragraph.split())
