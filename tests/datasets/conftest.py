"""Small raw data sets, written anew for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import pascal_palette

VOC_LISTS = {
    "train": ["2007_000001", "2007_000002"],
    "val": ["2007_000003"],
    "trainval": ["2007_000001", "2007_000002", "2007_000003"],
    "test": ["2012_000009"],
}


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth uint8 [height, width, 3] picture: JPEG keeps it nearly as it is."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def save_palette_mask(path: Path, labels: np.ndarray) -> None:
    mask = Image.fromarray(labels.astype(np.uint8)).convert("L")
    mask = Image.frombytes("P", mask.size, mask.tobytes())
    mask.putpalette([level for colour in pascal_palette(256) for level in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)


def save_photo(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(height, width, seed)).save(path)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """VOC in miniature: every mask has a void border of 255; 2008_000004 has only an SBD mask.

    SegmentationClass masks hold class 8 (cat), SegmentationClassAug masks class 12 (dog).
    """
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    lists = {**VOC_LISTS, "trainaug": [*VOC_LISTS["train"], "2008_000004"]}
    for name, ids in lists.items():
        path = voc / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image_id}\n" for image_id in ids))
    for seed, image_id in enumerate(sorted({image_id for ids in lists.values() for image_id in ids})):
        save_photo(voc / "JPEGImages" / f"{image_id}.jpg", 20, 30, seed)
        labels = np.zeros((20, 30), np.uint8)
        labels[5:15, 5:15] = 255
        labels[6:14, 6:14] = 8
        if image_id in VOC_LISTS["trainval"]:
            save_palette_mask(voc / "SegmentationClass" / f"{image_id}.png", labels)
        labels[labels == 8] = 12
        if image_id != "2012_000009":
            save_palette_mask(voc / "SegmentationClassAug" / f"{image_id}.png", labels)
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Ten images with grey masks of classes 0..2."""
    root = tmp_path / "mine"
    for index in range(10):
        save_photo(root / "images" / f"img{index}.{'jpg' if index % 2 else 'PNG'}", 12, 16, index)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((12, 16), index % 3, np.uint8)).save(root / "masks" / f"img{index}.png")
    (root / "classes.txt").write_text("ground\nroad\ncar\n")
    return root
