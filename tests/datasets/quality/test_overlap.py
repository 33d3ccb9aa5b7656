"""Images that two splits share are found by id and by content."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.quality.overlap import image_hash, shared_images
from datasets.source import Example
from datasets.stored.manifest import SplitManifest, read_manifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from tests.datasets.converted import write_examples

INFO = DatasetInfo("tiny", ("background", "cat"), pascal_palette(2))


def write(folder: Path, split: str, images: Mapping[str, bytes]) -> SplitManifest:
    labels = np.zeros((2, 3), np.uint8)
    examples = [Example(image_id, image, labels) for image_id, image in images.items()]
    write_examples(examples, INFO, split, folder, num_shards=min(2, len(examples)))
    return read_manifest(folder).split(split)


def test_splits_without_a_common_image_share_nothing(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"a": b"1", "b": b"2"})
    val = write(tmp_path, "val", {"c": b"3"})
    assert shared_images(train, val) == ((), ())
    assert shared_images(train, val).images() == ()


def test_a_shared_id_is_found_whatever_its_content(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"a": b"1", "b": b"2"})
    val = write(tmp_path, "val", {"c": b"3", "b": b"4", "a": b"1"})
    assert shared_images(train, val).ids == ("b", "a")
    assert shared_images(train, val).contents == (("a", "a"),)
    assert shared_images(train, val).images() == ("b", "a")


def test_a_shared_content_is_found_under_another_id_and_in_another_folder(tmp_path: Path) -> None:
    train = write(tmp_path / "one", "train", {"a": b"1", "b": b"2", "c": b"2"})
    val = write(tmp_path / "two", "val", {"x": b"2", "y": b"3", "z": b"2"})
    shared = shared_images(train, val)
    assert shared.ids == ()
    assert shared.contents == (("b", "x"), ("b", "z"))  # each image of val once
    assert shared.images() == ("x", "z")


def test_records_that_are_left_out_share_nothing(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"a": b"1", "b": b"2", "c": b"3"})
    val = write(tmp_path, "val", {"b": b"2", "z": b"3"})
    assert shared_images(train.without([1]), val) == ((), (("c", "z"),))


def test_contents_are_unknown_where_a_manifest_has_no_hashes(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"a": b"1", "b": b"2"})
    val = write(tmp_path, "val", {"b": b"2"})
    old = dataclasses.replace(train, files=tuple(dataclasses.replace(f, image_hashes=()) for f in train.files))
    for first, second in ((old, val), (val, old)):
        assert shared_images(first, second).ids == ("b",)
        assert shared_images(first, second).contents is None


def test_the_hash_is_that_of_the_stored_bytes(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"a": b"1", "b": b"2"})
    assert train.image_hashes() == (image_hash(b"1"), image_hash(b"2"))
    assert image_hash(b"1") == hashlib.blake2b(b"1", digest_size=16).hexdigest()
