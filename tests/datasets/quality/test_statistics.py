"""What is counted in a split equals a loop over its pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.quality import statistics
from datasets.source import Example
from datasets.stored.manifest import read_manifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from tests.datasets.converted import write_examples

INFO = DatasetInfo("tiny", ("a", "b", "c"), pascal_palette(3))


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def examples(count: int = 5) -> Iterator[Example]:
    rng = np.random.default_rng(0)
    for index in range(count):
        labels = rng.choice(np.array([0, 2, 255], np.uint8), (6 + index, 9))
        yield Example(f"id{index}", png(np.full((6 + index, 9, 3), index, np.uint8)), labels)


@pytest.mark.parametrize("shape", [(7, 5), (1, 6), (6, 1), (1, 1)])
def test_pixels_with_four_or_no_equal_neighbours_are_those_of_a_loop(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).choice(np.array([0, 1, 1, 1, 2, 255], np.uint8), shape)
    height, width = shape
    interior, lonely = [0, 0, 0], 0
    for row, column in np.ndindex(shape):
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        same = [labels[max(0, min(y, height - 1)), max(0, min(x, width - 1))] == labels[row, column] for y, x in around]
        if labels[row, column] != 255:
            interior[labels[row, column]] += all(same)
            lonely += not any(same)
    counted = statistics.count_labels(labels, 3)
    assert counted.pixels.tolist() == [(labels == value).sum() for value in (0, 1, 2, 255)]
    assert (counted.interior.tolist(), counted.lonely) == (interior, lonely)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_split_is_measured_image_by_image(tmp_path: Path, num_threads: int) -> None:
    write_examples(examples(), INFO, "train", tmp_path, num_shards=2)
    split = statistics.measure(read_manifest(tmp_path), "train", num_threads)
    assert split.ids == tuple(example.image_id for example in examples())
    assert (split.heights.tolist(), split.widths.tolist()) == ([6, 7, 8, 9, 10], [9] * 5)
    for row, example in zip(split.pixels, examples(), strict=True):
        assert row.tolist() == [(example.labels == value).sum() for value in (0, 1, 2, 255)]
    whole = np.concatenate([example.labels for example in examples()])
    assert split.class_pixels.tolist() == [(whole == value).sum() for value in range(3)]
    assert split.class_images.tolist() == [5, 0, 5]
    np.testing.assert_allclose(split.class_shares, split.class_pixels / (whole != 255).sum())
    np.testing.assert_allclose(split.ignored_shares, [(example.labels == 255).mean() for example in examples()])
    assert len(set(split.labels_crc.tolist())) == 5


def test_a_split_without_labels_has_sizes_only(tmp_path: Path) -> None:
    write_examples([example._replace(labels=None) for example in examples(2)], INFO, "test", tmp_path)
    split = statistics.measure(read_manifest(tmp_path), "test")
    assert not split.has_labels
    assert (split.heights.tolist(), split.pixels.sum()) == ([6, 7], 0)


def test_damaged_records_are_told_and_not_counted(tmp_path: Path) -> None:
    written = write_examples(examples(), INFO, "train", tmp_path, num_shards=2)
    shard = tmp_path / written.files[1].name
    data = bytearray(shard.read_bytes())
    data[-9] ^= 1
    shard.write_bytes(data)
    split = statistics.measure(read_manifest(tmp_path), "train")
    assert split.ids == ("id0", "id1", "id2", "id3")
    assert split.damaged == (f"id4: {shard}: its checksum does not match",)
    with pytest.raises(UserError, match="record of id4: its checksum does not match"):
        statistics.read_example(read_manifest(tmp_path), "train", 4)
    for file in written.files:
        (tmp_path / file.name).write_bytes(bytes(file.size))
    with pytest.raises(UserError, match="all are damaged"):
        statistics.measure(read_manifest(tmp_path), "train")


def test_an_example_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_examples(examples(), INFO, "train", tmp_path, num_shards=2)
    expected = list(examples())[3]
    image, labels = statistics.read_example(read_manifest(tmp_path), "train", 3)
    np.testing.assert_array_equal(image, np.full((9, 9, 3), 3))
    np.testing.assert_array_equal(labels, expected.labels)
