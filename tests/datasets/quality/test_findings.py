"""Each mistake in a data set is said, and a sound one is left alone."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from datasets.quality import findings
from datasets.quality.overlap import Overlap
from datasets.quality.statistics import SplitStatistics, count_labels
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette

INFO = DatasetInfo("tiny", ("background", "cat", "dog"), pascal_palette(3))
SIZE = 40


def statistics_of(masks: Sequence[np.ndarray], name: str = "train", num_classes: int = 3) -> SplitStatistics:
    counts = [count_labels(mask, num_classes) for mask in masks]
    return SplitStatistics(
        name=name,
        has_labels=True,
        ids=tuple(f"id{index}" for index in range(len(masks))),
        heights=np.array([mask.shape[0] for mask in masks]),
        widths=np.array([mask.shape[1] for mask in masks]),
        pixels=np.stack([count.pixels for count in counts]),
        interior=np.sum([count.interior for count in counts], axis=0),
        lonely=np.array([count.lonely for count in counts]),
        labels_crc=np.array([zlib.crc32(mask.tobytes()) for mask in masks]),
    )


def mask(background: int = 0, *, cat: int = 1, dog: int = 2) -> np.ndarray:
    """Two objects on a background."""
    labels = np.full((SIZE, SIZE), background, np.uint8)
    labels[5:20, 5:20], labels[20:35, 10:35] = cat, dog
    return labels


def sound(count: int = 60) -> list[np.ndarray]:
    return [mask() for _ in range(count)]


def texts(masks: Sequence[np.ndarray], crop_size: int = 33, hashes: Sequence[str] | None = None) -> list[str]:
    return [finding.text for finding in findings.find(INFO, statistics_of(masks), crop_size, hashes)]


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def test_a_sound_data_set_is_left_alone() -> None:
    assert texts(sound(), hashes=[f"{index}" for index in range(60)]) == []


def test_a_class_that_is_never_seen_is_named() -> None:
    message = only(texts([mask(dog=1)] * 60))
    assert "no pixel of train is labelled dog: the network cannot learn that" in message
    assert "start at 1" not in message


def test_a_missing_first_class_may_be_indices_that_start_at_one() -> None:
    assert "Do the indices in your masks start at 1? Index 0 is background" in only(texts([mask(1)] * 60))


def test_a_rare_class_is_named_with_its_numbers() -> None:
    masks = [mask(dog=1)] * 57 + [mask()] * 3
    assert "rare in train: dog (3 images, 1.17% of the pixels)" in only(texts(masks))
    speck = np.zeros((300, 300), np.uint8)
    speck[:100], speck[150:152, 150] = 1, 2
    assert "dog (60 images, less than 0.01% of the pixels)" in " ".join(texts([speck] * 60))


def test_a_class_that_drowns_the_others_is_named() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:20, :10], labels[30:50, :10] = 1, 2
    message = only(texts([labels] * 60))
    assert "96% of the labelled pixels are background" in message
    assert "train.foreground_crops=0.5" in message


def test_images_that_are_mostly_ignored_are_named_and_so_is_a_split() -> None:
    ignored = np.full((SIZE, SIZE), 255, np.uint8)
    ignored[0, :3] = (0, 1, 2)
    found = findings.find(INFO, statistics_of([*sound(), ignored]), 33)
    assert "more than 90% of the pixels are ignored in 1 of 61 images (id60)" in only([each.text for each in found])
    assert found[0].image_ids == ("id60",)
    assert "52% of all pixels are ignored" in only(texts([mask(255)] * 60 + sound(12)))


def test_images_of_one_class_only_are_counted() -> None:
    masks = [np.full((SIZE, SIZE), index % 3, np.uint8) for index in range(60)]
    assert "60 of 60 images have labels of one class only" in only(texts(masks))


def test_classes_that_are_seams_between_others_are_named() -> None:
    # What bilinear resizing makes of an edge between 0 and 2.
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:, 20], labels[:, 21:] = 1, 2
    message = only(texts([labels] * 60))
    assert "some classes are lines of a pixel or two nearly everywhere (pixels at their edge: cat 100%)" in message


def test_noisy_labels_are_named() -> None:
    noisy = mask()
    noisy[::6, ::6] = 1
    found = findings.find(INFO, statistics_of([*sound(), noisy]), 33)
    assert "the labels of 1 of 61 images are noisy" in only([each.text for each in found])
    assert found[0].image_ids == ("id60",)


def test_images_that_repeat_others_are_counted_and_contradicting_labels_named() -> None:
    hashes = [f"{index}" for index in range(60)]
    message = only(texts([*sound(), mask()], hashes=[*hashes, "7"]))
    assert "1 of the 61 images of train repeat another one (id60)" in message
    message = only(texts([*sound(), mask(1)], hashes=[*hashes, "7"]))
    assert "1 images of train come again with other labels: id7 and id60 are the same picture" in message


def test_a_single_class_is_refused_in_words() -> None:
    info = DatasetInfo("tiny", ("cat",), pascal_palette(1))
    split = statistics_of([np.zeros((SIZE, SIZE), np.uint8)] * 60, num_classes=1)
    (found,) = findings.find(info, split, 33)
    assert "there is one class only, cat: every answer is right" in found.text


def test_few_images_are_said() -> None:
    assert "train has 20 images" in only(texts(sound(20)))


def test_images_smaller_than_the_crop_are_said_with_a_crop_that_fits() -> None:
    message = only(texts(sound(), crop_size=321))
    assert "60 of 60 images are lower or narrower than the crop of 321: 98% of what the network sees is pad" in message
    assert "--set=train.crop_size=33" in message


def test_crops_that_show_little_of_the_images_are_said() -> None:
    large = np.kron(mask(), np.ones((5, 5), np.uint8))
    assert "a crop of 33 shows 2.7% of an image of 200x200 (width x height)" in only(texts([large] * 60))


def test_damaged_records_are_said() -> None:
    split = dataclasses.replace(statistics_of(sound()), damaged=("id9: x.tfrecord: its checksum does not match",))
    assert "1 records of train are damaged: id9: x.tfrecord" in only([f.text for f in findings.find(INFO, split, 33)])


def test_a_split_without_labels_is_judged_by_its_sizes() -> None:
    split = dataclasses.replace(statistics_of(sound()), has_labels=False)
    assert findings.find(INFO, split, 33) == []


def test_shared_images_and_classes_that_only_the_other_split_has_are_said() -> None:
    train, val = statistics_of([mask(dog=1)] * 60), statistics_of(sound(10), "val")

    def compared(overlap: Overlap) -> list[str]:
        return [finding.text for finding in findings.compare(INFO, train, val, overlap)]

    assert "val has pixels of dog, train has none: their IoU will be 0" in only(compared(Overlap((), ())))
    first = compared(Overlap(("id3",), (("id3", "id3"), ("id5", "id4"))))[0]
    assert "2 images of val, which has 10, are in train too, 2 of them with the same bytes: id3, id4" in first
    found = compared(Overlap(("id3",), None))
    assert "1 images of val, which has 10, are in train too: id3" in found[0]
    assert "were compared by id only" in found[1]


def test_weights_are_those_of_median_frequency_balancing() -> None:
    # Class 0 has 30 of 40 pixels where it occurs, class 1 has 10 of 40, class 2 is alone in its image.
    masks = [np.repeat(np.array([[0, 0, 0, 1]], np.uint8), 10, 0), np.full((2, 5), 2, np.uint8)]
    assert findings.median_frequency_weights(statistics_of(masks)) == pytest.approx((1, 3, 0.75))
    unseen = statistics_of([np.zeros((2, 2), np.uint8)])
    assert findings.median_frequency_weights(unseen) == (1, 1, 1)
