"""Cityscapes in its official folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.source import Source
from datasets.sources import cityscapes
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees

# Label ids of the benchmark in the order of their train ids; all other ids do not count.
EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


@pytest.fixture
def tree(tmp_path: Path) -> raw_trees.Tree:
    return raw_trees.make_cityscapes(tmp_path)


def test_the_classes_are_the_19_of_the_benchmark() -> None:
    info = cityscapes.info(Source())
    assert info.num_classes == 19
    assert (info.class_names[0], info.class_names[11], info.class_names[18]) == ("road", "person", "bicycle")
    assert (info.palette[0], info.palette[18]) == ((128, 64, 128), (119, 11, 32))
    sizes = dict(info.split_sizes)
    assert (sizes["train"], sizes["val"], sizes["test"], sizes["train_extra"]) == (2975, 500, 1525, 19998)


def test_label_ids_become_train_ids_and_the_rest_void(tree: raw_trees.Tree) -> None:
    label_ids = np.arange(600).reshape(20, 30) % 34
    raw_trees.save_grey_mask(tree.labels, label_ids)
    labels = cityscapes.example(tree.source, "train", "ulm_000001_000019").labels
    assert labels is not None
    for label_id in range(34):
        expected = EVALUATED.index(label_id) if label_id in EVALUATED else 255
        assert set(labels[label_ids == label_id]) == {expected}, label_id


def test_the_splits_are_those_whose_folders_are_there(tree: raw_trees.Tree) -> None:
    root = Path(tree.source.root)
    assert cityscapes.splits(tree.source) == ["train", "val", "test", "train_extra"]
    shutil.copytree(root / "gtFine" / "train", root / "gtCoarse" / "train")
    assert "train_coarse" in cityscapes.splits(tree.source)
    shutil.rmtree(root / "gtFine")
    assert cityscapes.splits(tree.source) == ["test", "train_coarse", "train_extra"]
    assert cityscapes.ids(tree.source, "train_extra") == ["ulm_000001_000019", "ulm_000002_000019"]


def test_coarse_labels_belong_to_the_same_images(tree: raw_trees.Tree) -> None:
    example = cityscapes.example(tree.source, "train_extra", "ulm_000002_000019")
    assert [path.name for path in example.files] == [
        "ulm_000002_000019_leftImg8bit.png",
        "ulm_000002_000019_gtCoarse_labelIds.png",
    ]
    assert example.labels is not None
    assert np.unique(example.labels).tolist() == [0, 255]


def test_test_images_have_no_labels(tree: raw_trees.Tree) -> None:
    assert cityscapes.example(tree.source, "test", "ulm_000001_000019").labels is None


def test_an_image_without_labels_and_labels_without_an_image_are_named(tree: raw_trees.Tree) -> None:
    tree.labels.unlink()
    with pytest.raises(UserError, match=r"ulm_000001_000019_leftImg8bit\.png: expected its labels at .*labelIds\.png"):
        cityscapes.ids(tree.source, "train")
    raw_trees.save_grey_mask(tree.labels, raw_trees.box(7))
    tree.image.unlink()
    with pytest.raises(
        UserError, match=r"ulm_000001_000019_gtFine_labelIds\.png: expected its image at .*Img8bit\.png"
    ):
        cityscapes.ids(tree.source, "train")


def test_an_image_in_the_folder_of_another_city_is_named(tree: raw_trees.Tree) -> None:
    raw_trees.save_photo(tree.image.parent.parent / "bonn" / tree.image.name)
    with pytest.raises(UserError, match=r"bonn/ulm_000001.*: expected it in the folder of its city, ulm"):
        cityscapes.ids(tree.source, "train")


def test_train_ids_in_place_of_label_ids_are_refused(tree: raw_trees.Tree) -> None:
    raw_trees.save_grey_mask(tree.labels, raw_trees.box(255))
    with pytest.raises(UserError, match=r"expected label ids 0\.\.33, got 255 as in the files named labelTrainIds"):
        cityscapes.example(tree.source, "train", "ulm_000001_000019")


def test_other_files_do_not_matter(tree: raw_trees.Tree) -> None:
    before = cityscapes.ids(tree.source, "train")
    for name in ("._ulm_000001_000019_leftImg8bit.png", "Thumbs.db", "ulm_000009_000019_rightImg8bit.png"):
        (tree.image.parent / name).write_bytes(b"x")
    (tree.labels.parent / "ulm_000001_000019_gtFine_color.png").write_bytes(b"x")
    assert cityscapes.ids(tree.source, "train") == before


def test_missing_parts_are_named(tmp_path: Path, tree: raw_trees.Tree) -> None:
    with pytest.raises(UserError, match="cityscapes needs --root"):
        cityscapes.splits(Source())
    with pytest.raises(UserError, match="nowhere: expected the folder that holds leftImg8bit"):
        cityscapes.splits(Source(root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"expected leftImg8bit/train and gtFine/train below it"):
        cityscapes.splits(Source(root=str(tmp_path / "gtFine")))
    with pytest.raises(UserError, match="train_extra, got 'demo'"):
        cityscapes.ids(tree.source, "demo")
    shutil.rmtree(tree.image.parent)
    with pytest.raises(UserError, match=r"leftImg8bit/train: expected images CITY/ID_leftImg8bit\.png, found none"):
        cityscapes.ids(tree.source, "train")
