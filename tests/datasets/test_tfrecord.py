"""The stored form: what is written comes back, the same bytes each time, and damage is named."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import tfrecord
from datasets.source import Example
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

INFO = DatasetInfo("tiny", ("background", "cat"), pascal_palette(2))


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="JPEG", **options)
    return data.getvalue()


def examples(count: int, labelled: bool = True) -> Iterator[Example]:
    rng = np.random.default_rng(0)
    for index in range(count):
        labels = rng.choice(np.array([0, 1, 255], np.uint8), (6, 9))
        image = jpeg(rng.integers(0, 256, (6, 9, 3), np.uint8))
        yield Example(f"id{index}", image, labels if labelled else None)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_examples_come_back_in_order(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(5), 5, INFO, "train", tmp_path, num_shards=2)
    manifest = tfrecord.read_manifest(tmp_path)
    assert manifest.info == INFO
    split = manifest.split("train")
    assert split.ids == ("id0", "id1", "id2", "id3", "id4")
    assert [file.count for file in split.files] == [2, 3]
    records = list(tf.data.TFRecordDataset(manifest.shard_paths("train")))
    for record, expected in zip(records, examples(5), strict=True):
        fields = tfrecord.parse(record)
        assert fields["image_id"] == expected.image_id.encode()
        assert fields["image"] == expected.image
        np.testing.assert_array_equal(tfrecord.decode_labels(fields["labels"]), expected.labels)


def test_the_manifest_describes_each_file(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(5), 5, INFO, "train", tmp_path, num_shards=2)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    assert fields["format_version"] == 1
    for file in fields["splits"]["train"]["files"]:
        data = (tmp_path / file["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert sum(file["record_bytes"]) == len(data)
    assert set(contents(tmp_path)) == {
        "manifest.json",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    }


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tfrecord.write_shards(examples(5), 5, INFO, "train", tmp_path / name, num_shards=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_second_split_is_added_and_a_split_written_again_is_replaced(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(5), 5, INFO, "train", tmp_path, num_shards=3)
    tfrecord.write_shards(examples(2), 2, INFO, "val", tmp_path, num_shards=1)
    assert list(tfrecord.read_manifest(tmp_path).splits) == ["train", "val"]
    tfrecord.write_shards(examples(4), 4, INFO, "train", tmp_path, num_shards=1)
    manifest = tfrecord.read_manifest(tmp_path)
    assert (manifest.split("train").count, manifest.split("val").count) == (4, 2)
    assert sorted(path.name for path in tmp_path.glob("train*")) == ["train-00000-of-00001.tfrecord"]


def test_trainaug_is_what_training_takes_where_it_exists(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path, num_shards=1)
    assert tfrecord.read_manifest(tmp_path).info.train_split == "train"
    tfrecord.write_shards(examples(3), 3, INFO, "trainaug", tmp_path, num_shards=1)
    tfrecord.write_shards(examples(1), 1, INFO, "val", tmp_path, num_shards=1)
    assert tfrecord.read_manifest(tmp_path).info.train_split == "trainaug"


def test_other_classes_are_refused_in_the_same_folder(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path, num_shards=1)
    other = DatasetInfo("tiny", ("background", "dog"), pascal_palette(2))
    with pytest.raises(UserError, match=r"background, cat.*background, dog"):
        tfrecord.write_shards(examples(2), 2, other, "val", tmp_path, num_shards=1)


def test_a_failed_conversion_leaves_what_was_there(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(3), 3, INFO, "train", tmp_path, num_shards=1)
    before = contents(tmp_path)

    def failing() -> Iterator[Example]:
        yield from examples(2)
        raise UserError("the third file is damaged")

    with pytest.raises(UserError, match="third file"):
        tfrecord.write_shards(failing(), 3, INFO, "train", tmp_path, num_shards=1)
    assert contents(tmp_path) == before


def test_a_wrong_count_or_a_repeated_id_is_a_defect_of_the_caller(tmp_path: Path) -> None:
    for count in (2, 4):
        with pytest.raises(ValueError, match=f"expected {count} examples"):
            tfrecord.write_shards(examples(3), count, INFO, "train", tmp_path, num_shards=1)
    with pytest.raises(ValueError, match="1 repetitions"):
        tfrecord.write_shards([*examples(2), *examples(1)], 3, INFO, "train", tmp_path, num_shards=1)


def test_a_test_split_has_no_labels(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(2, labelled=False), 2, INFO, "test", tmp_path, num_shards=1)
    manifest = tfrecord.read_manifest(tmp_path)
    assert not manifest.split("test").has_labels
    record = next(iter(tf.data.TFRecordDataset(manifest.shard_paths("test"))))
    assert tfrecord.parse(record)["labels"] == b""


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="expected to write TFRecords there"):
        tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path / "file", num_shards=1)


def test_a_split_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split name.*'\.\./train'"):
        tfrecord.write_shards(examples(2), 2, INFO, "../train", tmp_path, num_shards=1)


def test_unknown_splits_name_the_existing_ones(tmp_path: Path) -> None:
    tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path, num_shards=1)
    with pytest.raises(UserError, match=r"'val'.*Existing: train\."):
        tfrecord.read_manifest(tmp_path).split("val")


def test_missing_and_damaged_folders_are_user_errors_that_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*no such folder"):
        tfrecord.read_manifest(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected manifest\.json"):
        tfrecord.read_manifest(tmp_path)
    tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path, num_shards=1)
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.tfrecord: expected a shard of"):
        tfrecord.read_manifest(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00001\.tfrecord.*no such file"):
        tfrecord.read_manifest(tmp_path)
    tfrecord.write_shards(examples(2), 2, INFO, "train", tmp_path, num_shards=1)  # writing it again mends it
    tfrecord.read_manifest(tmp_path)
    for damage in ("{", "[]", '{"format_version": 1}'):
        (tmp_path / "manifest.json").write_text(damage)
        with pytest.raises(UserError, match="cannot read it"):
            tfrecord.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(UserError, match="format_version 1, got 99"):
        tfrecord.read_manifest(tmp_path)


@pytest.mark.parametrize("options", [{"quality": 60}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_jpeg_decoding_equals_pillow(options: dict[str, object]) -> None:
    data = jpeg(np.random.default_rng(1).integers(0, 256, (37, 51, 3), np.uint8), **options)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(tf.function(tfrecord.decode_image)(data), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_grey_and_colour_of_both_formats_decode_like_pillow(channels: int, image_format: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (13, 7, channels), np.uint8).squeeze()
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format=image_format)
    expected = np.asarray(Image.open(data).convert("RGB"))
    np.testing.assert_array_equal(tfrecord.decode_image(data.getvalue()), expected)
