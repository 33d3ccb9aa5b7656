"""PASCAL-Person-Part, merged from the parts of PASCAL-Part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.source import Source
from datasets.sources import person_part
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees

# The parts of a person in PASCAL-Part, and the class of each.
CLASS_OF_PART = {
    **dict.fromkeys("head leye reye lear rear lebrow rebrow nose mouth hair".split(), "head"),
    **dict.fromkeys(("torso", "neck"), "torso"),
    **dict.fromkeys(("luarm", "ruarm"), "upper arms"),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), "lower arms"),
    **dict.fromkeys(("luleg", "ruleg"), "upper legs"),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), "lower legs"),
}


@pytest.fixture
def tree(tmp_path: Path) -> raw_trees.Tree:
    return raw_trees.make_person_part(tmp_path)


def labels_of(tree: raw_trees.Tree) -> np.ndarray:
    labels = person_part.example(tree.source, "train", "2008_000001").labels
    assert labels is not None
    return labels


def test_the_classes_are_background_and_six_parts() -> None:
    info = person_part.info(Source())
    assert info.class_names == (
        "background",
        "head",
        "torso",
        "upper arms",
        "lower arms",
        "upper legs",
        "lower legs",
    )
    assert dict(info.split_sizes) == {"train": 1716, "val": 1817}


def test_each_of_the_24_parts_becomes_its_class(tree: raw_trees.Tree) -> None:
    assert len(CLASS_OF_PART) == 24
    for part, name in CLASS_OF_PART.items():
        raw_trees.save_parts(tree.labels, ("person", {part: raw_trees.box(1)}))
        expected = raw_trees.box(person_part.CLASS_NAMES.index(name))
        np.testing.assert_array_equal(labels_of(tree), expected)


def test_other_objects_and_people_without_parts_are_background(tree: raw_trees.Tree) -> None:
    dog, head = raw_trees.box(1, slice(0, 20), slice(0, 15)), raw_trees.box(1, slice(0, 5), slice(15, 30))
    raw_trees.save_parts(tree.labels, ("dog", {"head": dog}), ("person", {}), ("person", {"hair": head}))
    np.testing.assert_array_equal(labels_of(tree), head)


def test_what_comes_later_in_the_file_is_in_front(tree: raw_trees.Tree) -> None:
    torso, arm = raw_trees.box(1, slice(0, 20), slice(0, 30)), raw_trees.box(1)
    raw_trees.save_parts(tree.labels, ("person", {"torso": torso}), ("person", {"lhand": arm}))
    np.testing.assert_array_equal(labels_of(tree), np.where(arm == 1, 4, 2))


def test_images_without_people_are_left_out(tree: raw_trees.Tree) -> None:
    raw_trees.save_parts(tree.labels, ("dog", {"head": raw_trees.box(1)}), ("person", {}))
    assert person_part.splits(tree.source) == ["train", "val"]
    assert person_part.ids(tree.source, "train") == ["2008_000002"]
    with pytest.raises(UserError, match=r"2008_000001\.mat: expected parts of a person, found none"):
        labels_of(tree)


def test_the_released_lists_decide_where_they_are(tree: raw_trees.Tree) -> None:
    folder = Path(tree.source.root) / "pascal_person_part" / "pascal_person_part_trainval_list"
    raw_trees.write_list(folder / "train.txt", ["/JPEGImages/2008_000002.jpg /pascal_person_part_gt/2008_000002.png"])
    assert person_part.ids(tree.source, "train") == ["2008_000002"]
    assert person_part.ids(tree.source, "val") == ["2008_000003"]


def test_an_unknown_part_and_parts_of_two_sizes_are_refused(tree: raw_trees.Tree) -> None:
    raw_trees.save_parts(tree.labels, ("person", {"tail": raw_trees.box(1)}))
    with pytest.raises(UserError, match=r"2008_000001\.mat: expected parts of a person .*got 'tail'"):
        labels_of(tree)
    raw_trees.save_parts(tree.labels, ("person", {"head": raw_trees.box(1), "hair": np.ones((4, 4), np.uint8)}))
    with pytest.raises(UserError, match=r"2008_000001\.mat: expected parts of one size, got \[4, 4\] and \[20, 30\]"):
        labels_of(tree)
