"""Small folders as people and labelling tools leave them: three classes, background, disc and box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.source import Source
from datasets.sources import folder
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees

HEIGHT, WIDTH = 24, 32
NAMES = ("background", "disc", "box")


def truth(number: int, classes: int = 3) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH]: a disc and a box, elsewhere in each image."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[(rows - 8) ** 2 + (columns - 6 - number) ** 2 < 25] = 1
    if classes > 2:
        labels[12 : 18 + number % 4, 18:28] = 2
    return labels


def save_image(path: Path, number: int, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(raw_trees.photo(HEIGHT, WIDTH, number)).save(path, **options)
    return path


def save_mask(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, labels)
    else:
        Image.fromarray(labels).save(path)
    return path


def make(
    root: Path,
    image: str = "images/img_{:03}.jpg",
    mask: str = "masks/img_{:03}.png",
    count: int = 4,
    change: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
    classes: Sequence[str] | None = NAMES,
    kinds: int = 3,
) -> Path:
    """Writes images, masks (what `change` makes of the truth) and classes.txt."""
    for number in range(count):
        save_image(root / image.format(number), number)
        save_mask(root / mask.format(number), change(truth(number, kinds)))
    if classes is not None:
        raw_trees.write_list(root / "classes.txt", list(classes))
    return root


def read(root: Path | None, **flags: Any) -> tuple[tuple[str, ...], dict[str, np.ndarray], str]:
    """Returns the names, the labels of each image, and the paragraph."""
    source, paragraph = folder.prepare(Source(root=str(root) if root is not None else "", **flags))
    labels = {}
    for split in source.split_names or folder.splits(source):
        for image_id in folder.ids(source, split):
            labels[image_id] = folder.example(source, split, image_id).labels
    return folder.info(source).class_names, labels, " ".join(paragraph.split())


def is_right(root: Path | None, kinds: int = 3, names: Sequence[str] = NAMES, count: int = 4, **flags: Any) -> str:
    """Checks that a folder gives the truth under the right names; returns the paragraph."""
    found, labels, paragraph = read(root, **flags)
    assert found == tuple(names)[: len(found)]
    assert len(labels) == count
    for image_id, stored in labels.items():
        number = int(next(part for part in image_id.replace("__", "_").split("_")[::-1] if part[:1].isdigit())[:3])
        np.testing.assert_array_equal(stored, truth(number, kinds), err_msg=image_id)
    return paragraph


def is_told(root: Path | None, match: str, **flags: Any) -> str:
    """Checks that a folder is refused with these words; returns the message."""
    with pytest.raises(UserError, match=match) as raised:
        read(root, **flags)
    return str(raised.value)
