"""TFRecord files in and out."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from deeplab_tf.batch.blocks import Picture
from deeplab_tf.batch.records import read_pictures, write_labels


def example(**values: bytes) -> bytes:
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path, *payloads: bytes) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return str(path)


def test_records_of_images_are_read_in_order_and_others_have_the_reason(tmp_path):
    path = write(
        tmp_path / "a.tfrecord",
        example(image_id=b"cat", image=b"1", labels=b"x"),
        example(image_id=b"dog"),
        b"\xff\xff",
        example(image_id=b"cat", image=b"2"),
        example(image_id=b"cow", image=b"3"),
    )
    pictures = read_pictures(path, "gs://b/a.tfrecord")
    assert pictures[0] == Picture("gs://b/a.tfrecord", "cat", b"1")
    assert [bool(picture.reason) for picture in pictures] == [False, True, True, True, False]
    assert len({picture.record for picture in pictures}) == 5


def test_a_damaged_record_ends_the_file_and_is_told(tmp_path):
    path = write(tmp_path / "a.tfrecord", *(example(image_id=name, image=b"1" * 50) for name in (b"a", b"b", b"c")))
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)
    first, last = read_pictures(path, "a.tfrecord")
    assert first.record == "a" and last.record == "" and last.reason.startswith("record 1 and those after it")


def test_labels_are_records_that_tensorflow_reads_and_the_same_bytes_each_time(tmp_path):
    stored = [("/photos/ü.jpg", b"png"), ("b", b"")]
    data = write_labels(stored)
    assert data == write_labels(stored)
    (tmp_path / "l.tfrecord").write_bytes(data)
    text = tf.io.FixedLenFeature([], tf.string)
    read = [
        tf.io.parse_single_example(payload, {"image_id": text, "labels": text})
        for payload in tf.data.TFRecordDataset(str(tmp_path / "l.tfrecord"))
    ]
    assert [(one["image_id"].numpy().decode(), one["labels"].numpy()) for one in read] == stored
