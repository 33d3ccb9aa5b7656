"""The input pipeline: the same examples whatever the number of devices and restarts, images and labels together."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import augmentation, pipeline
from datasets.source import Example
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from tests.datasets.converted import write_examples

INFO = DatasetInfo("tiny", ("a", "b", "c"), pascal_palette(3))
NUM_EXAMPLES = 7
CROP = 16
Element = dict[str, np.ndarray]


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def coded_examples(count: int) -> Iterator[Example]:
    """Red tells the example (10 * (index + 1)), green the label (100 * label), blue is noise."""
    rng = np.random.default_rng(0)
    for index in range(count):
        height, width = 18 + index, 30 - 2 * index
        labels = rng.integers(0, 3, (height, width)).astype(np.uint8)
        image = np.stack(
            [np.full_like(labels, 10 * (index + 1)), 100 * labels, rng.integers(0, 256, labels.shape, np.uint8)],
            axis=-1,
        )
        yield Example(f"id{index}", png(image), labels)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_examples(coded_examples(NUM_EXAMPLES), INFO, "train", folder, num_shards=3)
    write_examples(coded_examples(2), INFO, "pair", folder)
    unlabelled = [example._replace(labels=None) for example in coded_examples(2)]
    write_examples(unlabelled, INFO, "test", folder)
    return folder


def elements(data_dir: Path, count: int, split: str = "train", **options: Any) -> list[Element]:
    arguments: dict[str, Any] = {"batch_size": 1, "crop_size": CROP, "seed": 3, "scales": (0.5, 1.0, 1.5), **options}
    dataset = pipeline.train_batches(data_dir, split, **arguments)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(first: list[Element], second: list[Element]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for key in ("image", "labels", "seeds"):
            np.testing.assert_array_equal(one[key], other[key])


def order(data_dir: Path, count: int, **options: Any) -> list[int]:
    """The stored indices of the first examples, by their red level."""
    stream = elements(data_dir, count, scales=(), **options)
    return [round(float(element["image"][0, 0, 0, 0, 0]) / 10) - 1 for element in stream]


def test_elements_have_the_documented_shapes_and_types(data_dir: Path) -> None:
    dataset = pipeline.train_batches(data_dir, "train", batch_size=6, iter_size=2, crop_size=CROP, seed=0, replicas=2)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.element_spec == {
        "image": tf.TensorSpec((3, 2, CROP, CROP, 3), tf.float32),
        "labels": tf.TensorSpec((3, 2, CROP, CROP), tf.int32),
        "seeds": tf.TensorSpec((3, 2, 2), tf.int32),
    }
    assert next(iter(dataset))["image"].shape == (3, 2, CROP, CROP, 3)


def test_each_epoch_has_every_example_once_and_its_own_order(data_dir: Path) -> None:
    stream = order(data_dir, 6 * NUM_EXAMPLES)
    epochs = [tuple(stream[start : start + NUM_EXAMPLES]) for start in range(0, len(stream), NUM_EXAMPLES)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(NUM_EXAMPLES))
    assert len(set(epochs)) == len(epochs)


def test_orders_of_many_epochs_are_as_good_as_random() -> None:
    # With its seed straight from fold_in, index_shuffle knows 256 orders only: chi2 / df would be about 12.
    num_epochs, count = 2000, 100
    order = tf.function(lambda epoch: pipeline.shuffled_place(tf.range(count), count, epoch, tf.constant([5, 7])))
    epochs = np.stack([order(tf.constant(epoch)).numpy() for epoch in range(num_epochs)])
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(count), (num_epochs, 1)))
    assert len(np.unique(epochs, axis=0)) == num_epochs
    occurrences = np.stack([np.bincount(epochs[:, place], minlength=count) for place in range(count)])
    chi2_by_df = ((occurrences - num_epochs / count) ** 2 / (num_epochs / count)).sum(axis=1) / (count - 1)
    assert 0.9 < chi2_by_df.mean() < 1.1  # 1 +- 0.015 if uniform


def test_the_order_hangs_on_the_seed_only(data_dir: Path) -> None:
    first = elements(data_dir, 10)
    tf.random.set_seed(1234)
    tf.random.uniform([])
    assert_same(elements(data_dir, 10), first)
    assert order(data_dir, 14, seed=4) != order(data_dir, 14)
    assert order(data_dir, 14, seed=3 + 2**31) != order(data_dir, 14)  # no bit of the seed is lost


@pytest.mark.parametrize("start_step", [1, 3, 5])
def test_a_resumed_stream_equals_the_uninterrupted_one(data_dir: Path, start_step: int) -> None:
    # A step takes 6 of 7 examples, so epochs end inside steps.
    options = {"batch_size": 3, "iter_size": 2}
    whole = elements(data_dir, 7, **options)
    assert_same(elements(data_dir, 7 - start_step, start_step=start_step, **options), whole[start_step:])


def test_a_data_set_smaller_than_a_batch_is_repeated_and_resumes_too(data_dir: Path) -> None:
    whole = elements(data_dir, 4, split="pair", batch_size=5)
    assert_same(elements(data_dir, 2, split="pair", batch_size=5, start_step=2), whole[2:])


def test_step_micro_step_and_row_follow_from_the_index_of_the_example(data_dir: Path) -> None:
    batch_size, iter_size = 3, 2
    one_by_one = elements(data_dir, 3 * batch_size * iter_size)
    for step, element in enumerate(elements(data_dir, 3, batch_size=batch_size, iter_size=iter_size)):
        for row, micro_step in itertools.product(range(batch_size), range(iter_size)):
            index = step * batch_size * iter_size + micro_step * batch_size + row
            for key, values in element.items():
                np.testing.assert_array_equal(values[row, micro_step], one_by_one[index][key][0, 0])


def test_pipelines_and_replicas_share_the_examples_of_one_device(data_dir: Path) -> None:
    options = {"batch_size": 4, "iter_size": 2}
    steps = 3
    single = elements(data_dir, steps, **options)
    replicated = elements(data_dir, 2 * steps, replicas=2, **options)
    for first, second, whole in zip(replicated[::2], replicated[1::2], single, strict=True):
        assert_same([{key: np.concatenate([first[key], second[key]]) for key in whole}], [whole])
    for index in range(2):
        part = elements(data_dir, steps, num_pipelines=2, pipeline_index=index, **options)
        assert_same(part, replicated[index::2])
    # Two processes with two devices each.
    quarters = elements(data_dir, 2 * steps, num_pipelines=2, pipeline_index=1, replicas=2, **options)
    for step in range(steps):
        for replica in range(2):
            row = 2 + replica
            assert_same([quarters[2 * step + replica]], [{k: v[row : row + 1] for k, v in single[step].items()}])


def test_every_example_gets_its_own_seeds(data_dir: Path) -> None:
    seeds = np.concatenate([element["seeds"].reshape(-1, 2) for element in elements(data_dir, 50)])
    assert len(np.unique(seeds[:, 0])) == len(np.unique(seeds[:, 1])) == 50


def test_image_and_labels_stay_together_at_scale_one(data_dir: Path) -> None:
    for element in elements(data_dir, 20, scales=(1.0,), crop_size=23):
        green, labels = element["image"][0, 0, ..., 1], element["labels"][0, 0]
        inside = labels != 255
        np.testing.assert_array_equal(green[inside], 100 * labels[inside])
        assert 0 < inside.sum() < inside.size  # every one of these images is narrower or lower than 23
        assert (element["image"][0, 0][~inside] == np.float32(augmentation.MEAN_RGB)).all()


def test_evaluation_gives_every_example_in_stored_order_at_its_own_size(data_dir: Path) -> None:
    dataset = pipeline.evaluation_examples(data_dir, "train")
    assert dataset.cardinality() == NUM_EXAMPLES
    for result, expected in zip(dataset.as_numpy_iterator(), coded_examples(NUM_EXAMPLES), strict=True):
        assert result[0].decode() == expected.image_id
        np.testing.assert_array_equal(result[1], np.asarray(Image.open(io.BytesIO(expected.image))))
        np.testing.assert_array_equal(result[2], expected.labels)
        assert (result[1].dtype, result[2].dtype) == (np.uint8, np.int32)


def test_a_split_without_labels_is_read_where_none_are_needed(data_dir: Path) -> None:
    with pytest.raises(UserError, match="--submission"):
        pipeline.evaluation_examples(data_dir, "test")
    images = list(pipeline.evaluation_examples(data_dir, "test", needs_labels=False).as_numpy_iterator())
    assert [image_id for image_id, _, _ in images] == [b"id0", b"id1"]
    assert all(image.ndim == 3 and labels.shape == (0, 0) for _, image, labels in images)
    with_labels = list(pipeline.evaluation_examples(data_dir, "pair", needs_labels=False).as_numpy_iterator())
    assert with_labels[0][2].shape == with_labels[0][1].shape[:2]


def test_a_damaged_record_stops_training(tmp_path: Path) -> None:
    write_examples(coded_examples(1), INFO, "train", tmp_path)
    shard = tmp_path / "train-00000-of-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(tf.errors.DataLossError):
        elements(tmp_path, 1)


def test_damaged_records_can_be_left_out(tmp_path: Path) -> None:
    split = write_examples(coded_examples(NUM_EXAMPLES), INFO, "train", tmp_path, num_shards=2)
    shard = tmp_path / split.files[0].name
    data = bytearray(shard.read_bytes())
    data[split.files[0].record_bytes[0] + 40] ^= 1  # in the second record
    shard.write_bytes(data)
    rest = [number for number in range(NUM_EXAMPLES) if number != 1]
    stored = pipeline.evaluation_examples(tmp_path, "train", skipped=(1,))
    assert stored.cardinality() == len(rest)
    assert [image_id.decode() for image_id, _, _ in stored.as_numpy_iterator()] == [f"id{number}" for number in rest]
    epoch = elements(tmp_path, len(rest), skipped=(1,), scales=())
    reds = sorted(int(element["image"][0, 0, 0, 0, 0]) for element in epoch)
    assert reds == [10 * (number + 1) for number in rest]


def test_the_options_of_the_augmentation_reach_the_examples(data_dir: Path) -> None:
    plain = elements(data_dir, 4, scales=())
    for options in ({"scale_range": (2.0, 3.0)}, {"foreground_crops": 1.0}, {"colour_jitter": (0.5,)}):
        changed = elements(data_dir, 4, scales=(), **options)
        assert any((one["image"] != other["image"]).any() for one, other in zip(plain, changed, strict=True))
        assert_same(elements(data_dir, 2, scales=(), start_step=2, **options), changed[2:])  # nothing random is state


def test_user_errors_name_what_to_change(data_dir: Path) -> None:
    with pytest.raises(UserError, match=r"divides by the 2 replicas, got 3.*train\.batch_size"):
        elements(data_dir, 1, batch_size=3, replicas=2)
    with pytest.raises(UserError, match=r"'val'.*Existing: train, pair, test"):
        elements(data_dir, 1, split="val")
    with pytest.raises(UserError, match="'test' has none"):
        elements(data_dir, 1, split="test")
    with pytest.raises(UserError, match="'test' has none"):
        pipeline.evaluation_examples(data_dir, "test")
    with pytest.raises(ValueError, match="pipeline_index"):
        elements(data_dir, 1, pipeline_index=1)
