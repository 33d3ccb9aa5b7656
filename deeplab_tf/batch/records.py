"""TFRecord files in and out, with TensorFlow alone.

A record that is read has "image", an encoded image, and "image_id", its name, as `datasets.convert` writes them; what
else it has is left alone. One that is written has "image_id" and "labels", a palette PNG whose values are the classes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import tensorflow as tf
from google.protobuf.message import DecodeError

from deeplab_tf.batch.blocks import Picture
from deeplab_tf.runtime import files


def read_pictures(path: str, name: str) -> list[Picture]:
    """Reads the images of a TFRecord file, all of them into memory.

    Args:
        path: the file, in a folder of this machine.
        name: what the pictures call it.

    Returns:
        The pictures in stored order; those that are not a record of an image, or occur twice, with the reason. Where a
        record is damaged, the last one says so: nothing after it can be found.
    """
    pictures: list[Picture] = []
    seen: set[str] = set()
    try:
        for number, payload in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator()):
            picture = _parse(payload, name, number)
            if picture.record in seen:
                picture = Picture(name, f"{picture.record}, record {number}", reason="a record before has its image_id")
            seen.add(picture.record)
            pictures.append(picture)
    except tf.errors.OpError as error:
        pictures.append(Picture(name, reason=f"record {len(pictures)} and those after it: {files.reason(error)}"))
    return pictures


def _parse(payload: bytes, name: str, number: int) -> Picture:
    try:
        features = tf.train.Example.FromString(payload).features.feature
        image_id = features["image_id"].bytes_list.value[0].decode()
        return Picture(name, image_id, features["image"].bytes_list.value[0])
    except (DecodeError, IndexError, UnicodeDecodeError):
        return Picture(name, f"record {number}", reason="expected a tf.train.Example with image_id and image")


def write_labels(stored: Iterable[tuple[str, bytes]]) -> bytes:
    """Returns a TFRecord file of (image_id, encoded labels).

    The file is made in memory, by TensorFlow's own file system for that: the disk of a worker may be full.
    """
    path = f"ram://labels-{uuid.uuid4().hex}.tfrecord"
    try:
        with tf.io.TFRecordWriter(path) as writer:
            for image_id, labels in stored:
                values = {"image_id": image_id.encode(), "labels": labels}
                feature = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for name, value in values.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString(deterministic=True))
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    finally:
        if tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)
