"""The stored form in TensorFlow: records come apart, decode like Pillow, and damaged ones are named or left out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import pipeline
from datasets.source import Example
from datasets.stored import records, tfrecord
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import decode_pixels
from tests.datasets.converted import write_examples

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


def stored_records(folder: Path) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(sorted(map(str, folder.glob("*.tfrecord"))))


def test_examples_come_back_in_order(tmp_path: Path) -> None:
    write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    records = list(stored_records(tmp_path))
    for record, expected in zip(records, examples(5), strict=True):
        fields = tfrecord.parse(record)
        assert fields["image_id"] == expected.image_id.encode()
        assert fields["image"] == expected.image
        np.testing.assert_array_equal(tfrecord.decode_labels(fields["labels"]), expected.labels)


def test_no_labels_come_back_as_an_empty_string(tmp_path: Path) -> None:
    write_examples(examples(2, labelled=False), INFO, "test", tmp_path)
    record = next(iter(stored_records(tmp_path)))
    assert tfrecord.parse(record)["labels"] == b""


@pytest.fixture
def damaged(tmp_path: Path) -> tfrecord.Manifest:
    """Five records in two files; one bit of id1, the second of the first, and of id4, the last, are wrong."""
    split = write_examples(examples(5), INFO, "train", tmp_path, num_shards=2)
    for file, offset in zip(split.files, (split.files[0].record_bytes[0] + 30, -10), strict=True):
        data = bytearray((tmp_path / file.name).read_bytes())
        data[offset] ^= 4
        (tmp_path / file.name).write_bytes(data)
    return tfrecord.read_manifest(tmp_path)


def test_damaged_records_are_found_with_file_number_and_id(damaged: tfrecord.Manifest) -> None:
    found = list(tfrecord.find_damage(damaged, "train"))
    assert [(record.shard, record.number, record.place, record.image_id) for record in found] == [
        ("train-00000-of-00002.tfrecord", 1, 1, "id1"),
        ("train-00001-of-00002.tfrecord", 2, 4, "id4"),
    ]
    assert str(found[0]) == "train-00000-of-00002.tfrecord: record 1 (id1): its checksum does not match"


def test_a_complaint_of_tensorflow_becomes_a_line_that_names_the_record(damaged: tfrecord.Manifest) -> None:
    message = r"train-00000-of-00002\.tfrecord: record 1 \(id1\): its checksum .* and 1 more\..*--skip_damaged"
    with pytest.raises(UserError, match=message), tfrecord.naming_damage(damaged, "train"):
        list(stored_records(damaged.data_dir))


def test_one_damaged_record_is_named_alone(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    manifest = tfrecord.read_manifest(tmp_path)
    with pytest.raises(UserError, match=r"record 1 \(id1\): its checksum does not match\. Copy"):
        with tfrecord.naming_damage(manifest, "train"):
            list(stored_records(tmp_path))
    left_out = list(tfrecord.find_damage(manifest, "train"))
    assert tfrecord.describe_damage(left_out) == f"left out 1 damaged record, first {left_out[0]}"
    assert tfrecord.describe_damage([]) == "left out 0 damaged records"


def test_a_complaint_that_has_another_reason_stays(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    manifest = tfrecord.read_manifest(tmp_path)
    with pytest.raises(tf.errors.DataLossError), tfrecord.naming_damage(manifest, "train"):
        raise tf.errors.DataLossError(None, None, "something else")


@pytest.mark.parametrize("split", ["train", ""])
def test_damaged_records_are_left_out_on_request(damaged: tfrecord.Manifest, split: str) -> None:
    kept, left_out = tfrecord.skip_damaged(damaged.data_dir, split)
    assert [record.image_id for record in left_out] == ["id1", "id4"]
    assert kept.split("train").ids == ("id0", "id2", "id3")
    assert kept.split("train").skipped == (1, 4)
    assert list(tfrecord.find_damage(kept, "train")) == []


def test_records_behind_the_end_of_a_file_are_left_out_too(damaged: tfrecord.Manifest) -> None:
    last = damaged.data_dir / "train-00001-of-00002.tfrecord"
    last.write_bytes(last.read_bytes()[: damaged.split("train").files[1].record_bytes[0]])
    kept, left_out = tfrecord.skip_damaged(damaged.data_dir, "train")
    assert kept.split("train").ids == ("id0", "id2")
    assert "bytes too early" in str(left_out[-1])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pngs_decode_in_a_graph_like_everywhere(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 70, 4), np.uint8))
    options = {}
    if mode == "P":
        image, options = image.convert("RGB").quantize(16), {"transparency": bytes(range(0, 160, 10))}
    data = io.BytesIO()
    image.convert(mode).save(data, format="PNG", **options)
    expected = decode_pixels(data.getvalue())
    np.testing.assert_array_equal(tfrecord.decode_image(data.getvalue()), expected)


def test_a_split_without_a_whole_record_is_refused(tmp_path: Path) -> None:
    write_examples(examples(1), INFO, "train", tmp_path)
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    shard.write_bytes(bytes(len(shard.read_bytes())))
    with pytest.raises(UserError, match="expected whole records in 'train', all are damaged"):
        tfrecord.skip_damaged(tmp_path, "train")


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


WHOLE = jpeg(np.zeros((6, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "labels_png"),
    [(b"no image", b""), (WHOLE[:200], b""), (WHOLE, b"no labels"), (b"\xff\xfe\xfd", b"")],
    ids=["no image", "half a JPEG", "no labels", "no text either"],
)
def test_a_whole_record_that_cannot_be_decoded_is_named(tmp_path: Path, image: bytes, labels_png: bytes) -> None:
    """Its checksums are right: it was not damaged later, but written so."""
    listed = list(examples(5))
    listed[3] = listed[3]._replace(image=image, labels_png=labels_png)
    write_examples(listed, INFO, "train", tmp_path, num_shards=2)
    manifest = tfrecord.read_manifest(tmp_path)
    assert list(tfrecord.find_damage(manifest, "train")) == []
    with (
        pytest.raises(UserError, match=r"train-00001-of-00002\.tfrecord: record 1 \(id3\): it cannot be decoded"),
        tfrecord.naming_damage(manifest, "train"),
    ):
        list(pipeline.evaluation_examples(tmp_path, "train").as_numpy_iterator())


def test_a_payload_that_is_no_example_is_named(tmp_path: Path) -> None:
    split = write_examples(examples(2), INFO, "train", tmp_path)
    (file,) = split.files
    framed = records.frame(b"\xff" * (file.record_bytes[0] - records.FRAME_BYTES))
    shard = tmp_path / file.name
    shard.write_bytes(framed + shard.read_bytes()[len(framed) :])
    manifest = tfrecord.read_manifest(tmp_path)
    with (
        pytest.raises(UserError, match=r"record 0 \(id0\): it cannot be decoded"),
        tfrecord.naming_damage(manifest, "train"),
    ):
        list(pipeline.evaluation_examples(tmp_path, "train").as_numpy_iterator())


def test_a_complaint_that_no_record_explains_stays_what_it_is(tmp_path: Path) -> None:
    write_examples(examples(2), INFO, "train", tmp_path)
    manifest = tfrecord.read_manifest(tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a defect"), tfrecord.naming_damage(manifest, "train"):
        raise tf.errors.InvalidArgumentError(None, None, "a defect")
