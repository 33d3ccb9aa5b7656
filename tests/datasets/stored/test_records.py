"""The bytes of TFRecord files are those that TensorFlow writes, and damage to any of them is found."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.source import Example
from datasets.stored import records

PAYLOADS = [b"", b"a", bytes(range(256)) * 3]


@pytest.mark.parametrize("image_size", [0, 1, 127, 128, 16383, 16384, 100_000])
def test_a_record_is_the_protobuf_that_tensorflow_would_write(image_size: int) -> None:
    image = np.random.default_rng(0).bytes(image_size)
    payload = records.encode(Example("schön_1", image, None))
    values = {"image_id": "schön_1".encode(), "image": image, "labels": b""}
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in values.items()}
    expected = tf.train.Example(features=tf.train.Features(feature=feature))
    assert tf.train.Example.FromString(payload) == expected
    assert len(payload) == expected.ByteSize()  # and nothing else in it


@pytest.mark.parametrize("image_size", [0, 1, 127, 128, 16384])
def test_a_record_comes_apart_again_after_any_writer(image_size: int) -> None:
    image = np.random.default_rng(0).bytes(image_size)
    example = Example("schön_1", image, np.array([[0, 255], [1, 2]], np.uint8))
    ours = records.encode(example)
    tensorflows = tf.train.Example.FromString(ours).SerializeToString()
    labels = tf.train.Example.FromString(ours).features.feature["labels"].bytes_list.value[0]
    assert records.decode(ours) == records.decode(tensorflows) == ("schön_1", image, labels)


def test_a_record_without_its_fields_is_refused() -> None:
    feature = {"other": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))}
    payload = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    with pytest.raises(ValueError, match="expected a record of image_id, image and labels, got one of other"):
        records.decode(payload)


def test_one_record_of_a_file_is_read_or_its_damage_told(tmp_path: Path) -> None:
    frames = [records.frame(records.encode(Example(name, b"image", None))) for name in ("a", "b")]
    (tmp_path / "file").write_bytes(b"".join(frames))
    assert records.read(tmp_path / "file", len(frames[0]), len(frames[1])) == ("b", b"image", b"")
    assert records.read(tmp_path / "file", 0, len(frames[0]) - 1) == "it holds 57 bytes instead of 56"
    (tmp_path / "file").write_bytes(frames[0][:-1])
    assert records.read(tmp_path / "file", 0, len(frames[0])) == "the file ends 1 bytes too early"


def test_labels_are_stored_as_a_grey_png_and_no_labels_as_nothing() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 1, 20, 255], np.uint8), (7, 5))
    stored = tf.train.Example.FromString(records.encode(Example("a", b"", labels))).features.feature["labels"]
    with Image.open(io.BytesIO(stored.bytes_list.value[0])) as png:
        assert (png.format, png.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(png), labels)
    stored = tf.train.Example.FromString(records.encode(Example("a", b"", None))).features.feature["labels"]
    assert stored.bytes_list.value[:] == [b""]


def test_frames_are_those_of_tensorflow(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert b"".join(map(records.frame, PAYLOADS)) == (tmp_path / "file").read_bytes()


def write_file(path: Path) -> list[int]:
    frames = [records.frame(payload) for payload in PAYLOADS]
    path.write_bytes(b"".join(frames))
    return [len(frame) for frame in frames]


def test_a_whole_file_has_no_damage(tmp_path: Path) -> None:
    assert list(records.find_damage(tmp_path / "file", write_file(tmp_path / "file"))) == []


def test_a_changed_bit_anywhere_is_found_in_its_record(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lengths = write_file(path)
    whole = path.read_bytes()
    record_of = np.repeat(np.arange(len(lengths)), lengths)
    for place in [*range(60), *range(len(whole) - 10, len(whole))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert [number for number, _ in records.find_damage(path, lengths)] == [record_of[place]]


def test_a_file_that_ends_early_has_lost_its_last_records(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lengths = write_file(path)
    path.write_bytes(path.read_bytes()[: lengths[0] + 5])
    assert list(records.find_damage(path, lengths)) == [
        (1, f"the file ends {lengths[1] - 5} bytes too early"),
        (2, f"the file ends {lengths[2]} bytes too early"),
    ]


def test_a_whole_record_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(records.frame(b"abcd") + records.frame(b""))
    assert list(records.find_damage(path, [18, 18])) == [
        (0, "it holds 4 bytes instead of 2"),
        (1, "the checksum of its length does not match"),
    ]


@pytest.mark.parametrize(
    "payload",
    [b"\n", b"\n\x05ab", b"\n" + b"\xff" * 100_000, b"\n\xff\xff\xff\xff\xff\x01", b"\x08"],
    ids=["no length", "too long", "a number without end", "a number too long", "another kind of field"],
)
def test_a_payload_that_is_no_example_is_refused_at_once(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        records.decode(payload)
    framed = records.frame(payload)
    (tmp_path / "file").write_bytes(framed)
    assert "record" in str(records.read(tmp_path / "file", 0, len(framed)))


def test_what_a_manifest_claims_takes_no_memory(tmp_path: Path) -> None:
    lengths = write_file(tmp_path / "file")
    tracemalloc.start()
    damaged = list(records.find_damage(tmp_path / "file", [*lengths, 2**31 - 1]))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert damaged == [(len(lengths), f"the file ends {2**31 - 1} bytes too early")]
