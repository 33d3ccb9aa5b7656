"""manifest.json: what is written comes back, and damage is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.source import Example
from datasets.stored import manifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from tests.datasets.converted import write_examples

INFO = DatasetInfo("tiny", ("background", "cat"), pascal_palette(2), split_sizes=(("train", 5), ("val", 2)))


def examples(count: int, labelled: bool = True) -> Iterator[Example]:
    rng = np.random.default_rng(0)
    for index in range(count):
        labels = rng.choice(np.array([0, 1, 255], np.uint8), (6, 9))
        yield Example(f"id{index}", rng.bytes(50 + index), labels if labelled else None)


def test_the_classes_and_the_official_sizes_come_back(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    info = manifest.read_manifest(tmp_path).info
    assert (info, info.split_sizes) == (INFO, INFO.split_sizes)


def test_a_manifest_without_official_sizes_is_read(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    del fields["info"]["split_sizes"]
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    assert manifest.read_manifest(tmp_path).info.split_sizes == ()


def test_it_describes_each_file(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    assert fields["format_version"] == 2
    for file in fields["splits"]["train"]["files"]:
        data = (tmp_path / file["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert sum(file["record_bytes"]) == len(data)
    split = manifest.read_manifest(tmp_path).split("train")
    assert split.ids == ("id0", "id1", "id2", "id3", "id4")
    assert [file.count for file in split.files] == [2, 3]


def test_a_test_split_has_no_labels(tmp_path: Path) -> None:
    write_examples(examples(2, labelled=False), INFO, "test", tmp_path)
    assert not manifest.read_manifest(tmp_path).split("test").has_labels


def test_trainaug_is_what_training_takes_where_it_exists(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    assert manifest.read_manifest(tmp_path).info.train_split == "train"
    write_examples(examples(3), INFO, "trainaug", tmp_path)
    write_examples(examples(1), INFO, "val", tmp_path)
    assert manifest.read_manifest(tmp_path).info.train_split == "trainaug"


def test_each_record_has_its_place(tmp_path: Path) -> None:
    split = write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    first, second = (file.record_bytes for file in split.files)
    shards, offsets, lengths = split.record_places()
    assert shards.tolist() == [0, 0, 1, 1, 1]
    assert offsets.tolist() == [0, first[0], 0, second[0], second[0] + second[1]]
    assert lengths.tolist() == [*first, *second]
    assert {array.dtype for array in (shards, offsets, lengths)} == {np.dtype(np.int64)}


def test_records_left_out_are_missed_by_nobody(tmp_path: Path) -> None:
    split = write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    all_places = np.array(split.record_places())
    rest = split.without([1, 3])
    assert (rest.ids, rest.count, rest.skipped) == (("id0", "id2", "id4"), 3, (1, 3))
    np.testing.assert_array_equal(rest.record_places(), all_places[:, [0, 2, 4]])
    again = rest.without([1])  # id2, the second of the rest
    assert (again.ids, again.skipped) == (("id0", "id4"), (1, 2, 3))
    np.testing.assert_array_equal(again.record_places(), all_places[:, [0, 4]])


def test_unknown_splits_name_the_existing_ones(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    with pytest.raises(UserError, match=r"'val'.*Existing: train\."):
        manifest.read_manifest(tmp_path).split("val")


def test_a_missing_folder_or_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*no such folder"):
        manifest.read_manifest(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected manifest\.json.*a conversion did not end"):
        manifest.read_manifest(tmp_path)


def test_a_shard_that_is_missing_or_of_another_length_is_named(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.tfrecord: expected a shard of"):
        manifest.read_manifest(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001\.tfrecord.*no such file"):
        manifest.read_manifest(tmp_path)
    write_examples(examples(2), INFO, "train", tmp_path)  # writing it again mends it
    manifest.read_manifest(tmp_path)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 2}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "manifest.json").write_text(damage)
    with pytest.raises(UserError, match=r"manifest\.json: expected a manifest .* cannot read it"):
        manifest.read_manifest(tmp_path)


def test_a_manifest_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(UserError, match=r"format_version 1 or 2, got 99: .* Convert the raw files again"):
        manifest.read_manifest(tmp_path)


def test_a_manifest_of_version_1_is_read_without_the_hashes_that_it_does_not_have(tmp_path: Path) -> None:
    split = write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    rewrite_as_version_1(tmp_path)
    read = manifest.read_manifest(tmp_path).split("train")
    assert (read.ids, read.image_hashes()) == (split.ids, None)
    np.testing.assert_array_equal(read.record_places(), split.record_places())


def test_a_split_added_to_a_manifest_of_version_1_has_hashes_and_the_older_one_none(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path)
    rewrite_as_version_1(tmp_path)
    write_examples(examples(2), INFO, "val", tmp_path)
    read = manifest.read_manifest(tmp_path)
    assert read.split("train").image_hashes() is None
    assert len(read.split("val").image_hashes() or ()) == 2


def test_hashes_that_are_not_one_for_each_record_are_refused(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    fields["splits"]["train"]["files"][0]["image_hashes"].pop()
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="5 records and 4 hashes of images"):
        manifest.read_manifest(tmp_path)


def rewrite_as_version_1(folder: Path) -> None:
    fields = json.loads((folder / "manifest.json").read_text())
    fields["format_version"] = 1
    for split in fields["splits"].values():
        for file in split["files"]:
            del file["image_hashes"]
    (folder / "manifest.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda split: split["files"][0].update(name="../train-00000-of-00001.tfrecord"), "is not the name of a shard"),
        (lambda split: split["files"][0].update(name="/etc/passwd"), "is not the name of a shard"),
        (lambda split: split["files"][0].update(record_bytes=[-1, 200]), "a record of -1 bytes"),
        (lambda split: split["files"][0].update(record_bytes=[2**62, 200]), "a record of"),
        (lambda split: split["files"][0].update(record_bytes=[True, 200]), "a record of True bytes"),
        (lambda split: split["ids"].__setitem__(0, "../../cat"), r"an image called '\.\./\.\./cat'"),
        (lambda split: split["ids"].__setitem__(0, "a\0b"), "an image called"),
        (lambda split: split["ids"].__setitem__(0, 5), "an image called 5"),
        (lambda split: split.update(ids="ab"), "lists 0 ids and 2 records"),
    ],
)
def test_a_manifest_cannot_point_out_of_its_folder_or_exaggerate(tmp_path: Path, change: Any, says: str) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    change(fields["splits"]["train"])
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=says):
        manifest.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("palette", [[0, 0, 256], [0, 0, 0]]),
        ("palette", [[0, 0, 0.5], [0, 0, 0]]),
        ("palette", 5),
        ("class_names", ["a", 7]),
        ("class_names", ["a", ""]),
        ("ignore_label", 300),
        ("ignore_label", "255"),
        ("train_split", None),
        ("split_sizes", [["train", -1]]),
    ],
)
def test_classes_that_are_none_are_refused(tmp_path: Path, field: str, value: Any) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    fields["info"][field] = value
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"manifest\.json: expected a manifest .* cannot read it"):
        manifest.read_manifest(tmp_path)
