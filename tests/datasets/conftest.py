"""Small raw data sets, written anew for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import raw_trees

VOC_LISTS = {
    "train": ["2007_000001", "2007_000002"],
    "val": ["2007_000003"],
    "trainval": ["2007_000001", "2007_000002", "2007_000003"],
    "test": ["2012_000009"],
}


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """VOC in miniature: every mask has a void border of 255; 2008_000004 has only an SBD mask.

    SegmentationClass masks hold class 8 (cat), SegmentationClassAug masks class 12 (dog).
    """
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    lists = {**VOC_LISTS, "trainaug": [*VOC_LISTS["train"], "2008_000004"]}
    for name, ids in lists.items():
        raw_trees.write_list(voc / "ImageSets" / "Segmentation" / f"{name}.txt", ids)
    for seed, image_id in enumerate(sorted({image_id for ids in lists.values() for image_id in ids})):
        raw_trees.save_photo(voc / "JPEGImages" / f"{image_id}.jpg", 20, 30, seed)
        labels = np.zeros((20, 30), np.uint8)
        labels[5:15, 5:15] = 255
        labels[6:14, 6:14] = 8
        if image_id in VOC_LISTS["trainval"]:
            raw_trees.save_palette_mask(voc / "SegmentationClass" / f"{image_id}.png", labels)
        labels[labels == 8] = 12
        if image_id != "2012_000009":
            raw_trees.save_palette_mask(voc / "SegmentationClassAug" / f"{image_id}.png", labels)
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Ten images with grey masks: a row of class 0 above one of the classes 0..2."""
    return Path(raw_trees.make_folder(tmp_path / "mine").source.root)
