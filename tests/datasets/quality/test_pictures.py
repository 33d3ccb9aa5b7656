"""Pictures beside their labels: turned labels, dark images, and pictures that were compressed anew."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.check import check
from datasets.quality import pictures
from datasets.quality.trained_before import TRAINED_FILE
from datasets.source import Example
from datasets.stored.manifest import read_manifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees
from tests.datasets.converted import write_examples

INFO = DatasetInfo("tiny", ("background", "disc", "box"), pascal_palette(3))
SIDE = 96


def scene(number: int, height: int = SIDE, width: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of a disc and a box, not in the middle, and its labels."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    y, x = rng.integers(20, 32, 2)
    labels[(rows - y) ** 2 + (columns - x) ** 2 < 150] = 1
    top, left = rng.integers(50, 60, 2)
    labels[top : top + 24, left - 30 : left - 10] = 2
    image = raw_trees.photo(height, width, number) // 3
    image[labels == 1] += np.array([120, 20, 0], np.uint8)
    image[labels == 2] += np.array([0, 100, 120], np.uint8)
    return image, labels


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned by 180 degrees": lambda labels: np.rot90(labels, 2),
    "turned by 90 degrees": lambda labels: np.rot90(labels, 3),
    "turned by 270 degrees": np.rot90,
    "transposed": np.transpose,
    "transposed over the other diagonal": lambda labels: np.rot90(labels, 2).T,
}


@pytest.mark.parametrize("turn", TURNS)
def test_the_turn_that_sets_labels_right_is_found(turn: str) -> None:
    image, labels = scene(3)
    found = pictures.look(image, np.ascontiguousarray(TURNS[turn](labels)))
    assert found.turn == turn
    assert found.gain > pictures.MARGIN
    assert pictures.look(image, labels).gain == 0


def test_labels_without_edges_and_pictures_without_contrast_say_nothing() -> None:
    image, labels = scene(0)
    assert pictures.look(image, labels * 0).turn == ""
    assert pictures.look(image * 0 + 7, labels) == pictures.Look(7, b"", "", 0.0)


def test_fingerprints_know_a_picture_that_was_compressed_and_resized_anew() -> None:
    prints = []
    for number in range(30):
        image, _ = scene(number)
        small = Image.open(io.BytesIO(encoded(image, "JPEG", quality=75))).resize((64, 64))
        prints.append([pictures.look(each, None).fingerprint for each in (image, np.asarray(small))])
    first, again = (np.frombuffer(b"".join(column), np.uint8).reshape(-1, 32) for column in zip(*prints, strict=True))
    apart = np.stack([pictures.distances(each, first) for each in again])  # [30, 30]
    assert np.argmin(apart, axis=1).tolist() == list(range(30))
    assert np.count_nonzero(np.diag(apart) <= pictures.NEAR) == 30
    assert apart[~np.eye(30, dtype=bool)].min() > pictures.NEAR


def write(
    folder: Path, change: Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], count: int = 12
) -> str:
    def examples(first: int, number: int) -> Iterator[Example]:
        for each in range(first, first + number):
            image, labels = change(each, *scene(each))
            yield Example(f"id{each}", encoded(image), np.ascontiguousarray(labels))

    write_examples(examples(0, count), INFO, "train", folder, 1)
    write_examples(examples(100, 4), INFO, "val", folder, 1)
    return str(folder)


def texts(data_dir: str, out: Path, **more: Any) -> str:
    return "\n".join(finding.text for finding in check(data_dir, str(out), crop_size=65, **more))


def test_a_sound_data_set_has_none_of_these_findings(tmp_path: Path) -> None:
    said = texts(write(tmp_path / "data", lambda _, image, labels: (image, labels)), tmp_path / "out")
    for word in ("turned or mirrored", "nearly black", "look like images", "two exports"):
        assert word not in said


def test_turned_labels_are_said_with_the_images(tmp_path: Path) -> None:
    data_dir = write(tmp_path / "data", lambda n, image, labels: (image, np.rot90(labels, 2) if n < 4 else labels))
    said = texts(data_dir, tmp_path / "out")
    assert "the labels of 4 of 12 images fit the edges of the image better when they are turned or mirrored" in said
    assert "turned by 180 degrees in 4" in said and "--mask_frame=stored" in said
    assert (tmp_path / "out" / "suspicious.jpg").is_file()


def test_images_that_are_dark_by_a_factor_are_said(tmp_path: Path) -> None:
    said = texts(write(tmp_path / "data", lambda _, image, labels: (image // 16, labels)), tmp_path / "out")
    assert "12 of 12 images are nearly black" in said and "by a factor of 16" in said


def test_two_exports_of_which_one_has_255_for_a_class_are_said(tmp_path: Path) -> None:
    def mixed(number: int, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = np.where(labels == 2, 0, labels)
        return image, np.where(labels == 1, 255 if number % 2 else 1, 0).astype(np.uint8)

    said = texts(write(tmp_path / "data", mixed), tmp_path / "out")
    assert "6 of 12 masks hold ignored pixels (255) and no disc" in said
    assert "Write its index, 1, into these masks" in said


def test_pictures_of_val_that_were_compressed_anew_are_found_in_train(tmp_path: Path) -> None:
    def again(number: int, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if number == 101:
            image, labels = scene(5)
            image = np.asarray(Image.open(io.BytesIO(encoded(image, "JPEG", quality=60))))
        return image, labels

    said = texts(write(tmp_path / "data", again), tmp_path / "out")
    assert "1 of the 4 images of val look like images of train (id101 like id5)" in said


def test_images_that_a_workdir_was_trained_on_are_found_in_val(tmp_path: Path) -> None:
    data_dir = write(tmp_path / "data", lambda _, image, labels: (image, labels))
    hashes = read_manifest(data_dir).split("val").image_hashes()
    assert hashes is not None
    content = {"now": {"ids": ["x"], "hashes": ["0" * 32]}, "before": {"ids": ["y"], "hashes": [hashes[2]]}}
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / TRAINED_FILE
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    said = texts(data_dir, tmp_path / "out", workdir=str(tmp_path / "run"))
    assert "1 of the 4 images of val are among those that" in said and "(id102)" in said
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"trained_images\.json\.gz: expected the list of images"):
        texts(data_dir, tmp_path / "out", workdir=str(tmp_path / "run"))
    path.unlink()
    with pytest.raises(UserError, match="found none"):
        texts(data_dir, tmp_path / "out", workdir=str(tmp_path / "run"))
