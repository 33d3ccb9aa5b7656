"""PASCAL-Context in its official folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.source import Source
from datasets.sources import pascal_context
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees


def test_the_classes_are_background_and_the_59_in_the_order_of_the_release() -> None:
    info = pascal_context.info(Source())
    assert info.num_classes == 60
    assert info.class_names[:4] == ("background", "aeroplane", "bicycle", "bird")
    assert (info.class_names[11], info.class_names[28], info.class_names[52]) == ("diningtable", "clothes", "bedcloth")
    assert info.class_names[-2:] == ("window", "wood")
    assert dict(info.split_sizes) == {"train": 4998, "val": 5105}


def test_no_two_classes_share_a_label() -> None:
    labels = list(pascal_context.LABELS.values())
    assert len(set(labels)) == 59
    assert (min(labels), max(labels)) == (2, 458)
    # The list of 459 is sorted by name, and so are these but for the three that have other names there.
    renamed = {"diningtable": "table", "clothes": "cloth", "bedcloth": "bedclothes"}
    by_label = sorted(pascal_context.LABELS, key=lambda name: pascal_context.LABELS[name])
    assert [renamed.get(name, name) for name in by_label] == sorted(renamed.get(name, name) for name in by_label)


def test_labels_become_their_class_and_all_others_background(tmp_path: Path) -> None:
    tree = raw_trees.make_context(tmp_path)
    assert pascal_context.splits(tree.source) == ["train", "val"]
    assert pascal_context.ids(tree.source, "train") == ["2008_000001", "2008_000002"]
    example = pascal_context.example(tree.source, "train", "2008_000001")
    assert example.labels is not None
    assert example.labels.dtype == np.uint8
    names = [pascal_context.INFO.class_names[label] for label in example.labels[[0, 10, 10], [0, 0, 20]]]
    assert names == ["background", "diningtable", "tree"]
    assert example.files == (tree.image, tree.labels)


def test_every_one_of_the_459_labels_has_a_place(tmp_path: Path) -> None:
    tree = raw_trees.make_context(tmp_path)
    label_map = np.arange(600).reshape(20, 30) % 460
    raw_trees.save_context(tree.labels, label_map)
    labels = pascal_context.example(tree.source, "train", "2008_000001").labels
    assert labels is not None
    for name, label in pascal_context.LABELS.items():
        assert set(labels[label_map == label]) == {pascal_context.INFO.class_names.index(name)}
    assert set(labels[~np.isin(label_map, list(pascal_context.LABELS.values()))]) == {0}


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pascal_context needs --root"):
        pascal_context.splits(Source())
    with pytest.raises(UserError, match=r"expected VOCdevkit/VOC2010/ImageSets/Main below it"):
        pascal_context.splits(Source(root=str(tmp_path)))
    raw_trees.make_voc2010(tmp_path)
    with pytest.raises(UserError, match=r"\.mat files of pascal_context in trainval .*trainval\.tar\.gz"):
        pascal_context.splits(Source(root=str(tmp_path)))
    with pytest.raises(UserError, match=r"the splits train, val, got 'test'"):
        pascal_context.ids(Source(root=str(tmp_path)), "test")
