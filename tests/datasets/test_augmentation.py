"""What training changes at random: image and labels together, every place and object, the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from datasets import augmentation


def augment(image: np.ndarray, labels: np.ndarray, seed: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    results = augmentation.augment(tf.constant(image), tf.constant(labels, tf.int32), tf.constant([seed, 0]), **options)
    return results[0].numpy(), results[1].numpy()


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5])
def test_image_and_labels_stay_together_when_scaled(scale: float) -> None:
    labels = np.kron(np.random.default_rng(1).integers(0, 3, (3, 4)), np.ones((12, 12), int))
    image = np.stack([labels * 100] * 3, axis=-1).astype(np.uint8)
    compared = 0
    for seed in range(6):
        scaled, scaled_labels = augment(image, labels, seed, crop_size=24, scales=(scale,))
        pure = np.isin(scaled, (0, 100, 200)).all(-1) & (scaled_labels != 255)  # away from the borders of blocks
        np.testing.assert_array_equal(scaled[pure][:, 0], 100 * scaled_labels[pure])
        compared += pure.sum()
    assert compared > 1000


def test_scaling_aligns_the_corners_of_image_and_labels() -> None:
    rows, columns = np.mgrid[:9, :13]
    image = np.stack([10 * rows, 10 * columns, 0 * rows], axis=-1).astype(np.uint8)
    labels = 13 * rows + columns
    scaled, scaled_labels = augment(image, labels, 0, crop_size=30, scales=(2.0,), mirror=False)
    # 9 x 13 becomes 18 x 26; corners aligned, cell i lies at i * (9 - 1) / (18 - 1) of the old grid.
    y, x = np.arange(18) * 8 / 17, np.arange(26) * 12 / 25
    np.testing.assert_allclose(scaled[:18, :26, 0], np.repeat(10 * y[:, None], 26, 1), atol=1e-4)  # float32 weights
    np.testing.assert_allclose(scaled[:18, :26, 1], np.repeat(10 * x[None], 18, 0), atol=1e-4)
    np.testing.assert_array_equal(scaled_labels[:18, :26], 13 * np.round(y)[:, None] + np.round(x)[None])
    assert (scaled_labels[18:] == 255).all()
    assert (scaled_labels[:, 26:] == 255).all()


def test_small_images_are_padded_at_the_bottom_and_right() -> None:
    image = np.full((3, 20, 3), 7, np.uint8)
    result, labels = augment(image, np.ones((3, 20)), 0, crop_size=8, mean_rgb=(1.5, 2.5, 3.5), mirror=False)
    assert (result[:3] == 7).all()
    assert (labels[:3] == 1).all()
    assert (result[3:] == (1.5, 2.5, 3.5)).all()
    assert (labels[3:] == 255).all()


def test_crops_reach_every_place_and_half_are_mirrored() -> None:
    rows, columns = np.mgrid[:6, :7]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    crop = tf.function(lambda seed: augmentation.augment(image, rows, seed, crop_size=4)[0])
    places = []
    for seed in range(400):
        result = crop(tf.constant([seed, seed])).numpy()
        places.append((int(result[0, 0, 0]), int(result[..., 1].min()), bool(result[0, 0, 1] > result[0, 1, 1])))
    counts = np.unique(np.array(places), axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 4 * 2  # rows, columns, directions; about 17 of each are expected
    assert counts.min() > 4
    assert 160 < sum(mirrored for _, _, mirrored in places) < 240  # 200 +- 4 standard deviations


def test_without_mirroring_the_left_stays_left() -> None:
    rows, columns = np.mgrid[:6, :6]
    image = np.stack([columns] * 3, axis=-1).astype(np.uint8)
    for seed in range(10):
        result, _ = augment(image, rows, seed, crop_size=6, mirror=False)
        np.testing.assert_array_equal(result, image)


def test_a_range_of_scales_is_used_evenly_and_to_its_ends() -> None:
    image, labels = np.zeros((20, 100, 3), np.uint8), np.zeros((20, 100), np.int32)
    crop = tf.function(
        lambda seed: augmentation.augment(image, labels, seed, 220, scale_range=(0.5, 2.0), scales=(0.1,))[1]
    )
    widths = [int((crop(tf.constant([seed, 5])).numpy()[0] == 0).sum()) for seed in range(300)]
    assert 50 <= min(widths) < 55
    assert 195 < max(widths) <= 200
    quarters = np.histogram(widths, 4, (50, 200))[0]
    assert (abs(quarters - 75) < 4 * np.sqrt(300 * 0.25 * 0.75)).all()


def test_foreground_crops_show_each_class_of_the_image_equally_often() -> None:
    # Class 1 has one pixel, class 2 has 400; class 0 and ignored pixels are no objects.
    labels = np.zeros((60, 60), np.int32)
    labels[2, 55], labels[30:50, 10:30], labels[:, 59] = 1, 2, 255
    image = np.repeat(labels[..., None], 3, -1).astype(np.uint8)
    crop = tf.function(lambda seed: augmentation.augment(image, labels, seed, 12, foreground_crops=1.0))
    shown, rows = [], []
    for seed in range(200):
        pixels, cropped = (result.numpy() for result in crop(tf.constant([seed, 1])))
        np.testing.assert_array_equal(pixels[..., 0], cropped)
        assert np.isin(cropped, (1, 2)).any()
        shown.append((cropped == 1).any())
        if shown[-1]:
            rows.append(int(np.argwhere(cropped == 1)[0][0]))
    assert 72 < sum(shown) < 128  # 100 +- 4 standard deviations
    assert set(rows) == {0, 1, 2}  # the crops that show the pixel at row 2 start at rows 0 to 2


def test_foreground_crops_aim_at_class_0_where_it_is_not_the_background() -> None:
    labels = np.ones((60, 60), np.int32)
    labels[2, 55] = 0  # the only pixel of class 0
    image = np.zeros((60, 60, 3), np.uint8)
    for background, share in ((None, 0.5), (1, 1.0), (0, 0.0)):
        crop = tf.function(
            lambda seed, background=background: augmentation.augment(
                image, labels, seed, 12, foreground_crops=1.0, background=background
            )[1]
        )
        shown = [(crop(tf.constant([seed, 1])).numpy() == 0).any() for seed in range(60)]
        # By chance a crop of 12 pixels shows it in 1 of 150 places.
        assert np.mean(shown) == pytest.approx(share, abs=0.26 if background is None else 0.06)


def test_foreground_crops_of_an_image_without_objects_are_laid_anywhere() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[:, :5] = 255
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    for seed in range(5):
        for one, other in zip(
            augment(image, labels, seed, crop_size=9),
            augment(image, labels, seed, crop_size=9, foreground_crops=1.0),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def test_a_share_of_foreground_crops_leaves_the_others_where_they_were() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[3, 3] = 1
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    plain = tf.function(lambda seed: augmentation.augment(image, labels, seed, 8))
    mixed = tf.function(lambda seed: augmentation.augment(image, labels, seed, 8, foreground_crops=0.5))
    seeds = [tf.constant([seed, 2]) for seed in range(100)]
    same = [bool((plain(seed)[0].numpy() == mixed(seed)[0].numpy()).all()) for seed in seeds]
    assert 30 < sum(same) < 75  # 50 +- 4 standard deviations, and a few that fall on the same place
    assert all((mixed(seed)[1].numpy() == 1).any() for seed, stays in zip(seeds, same, strict=True) if not stays)


def test_jitter_changes_the_image_only_and_not_its_padding() -> None:
    rng = np.random.default_rng(3)
    image, labels = rng.integers(0, 256, (10, 14, 3), np.uint8), rng.integers(0, 3, (10, 14))
    plain = augment(image, labels, 4, crop_size=12)
    changed = augment(image, labels, 4, crop_size=12, colour_jitter=(0.2, 0.5, 0.5, 0.1))
    np.testing.assert_array_equal(changed[1], plain[1])
    np.testing.assert_array_equal(changed[0][10:], plain[0][10:])
    assert (changed[0][:10] != plain[0][:10]).mean() > 0.9
    assert 0 <= changed[0].min() and changed[0].max() <= 255


@pytest.mark.parametrize(
    ("strengths", "keeps"),
    [
        ((0.3,), lambda image: image - image[:1, :1]),  # brightness: all differences
        ((0.0, 0.3), lambda image: image.mean((0, 1))),  # contrast: the mean of each channel
        ((0.0, 0.0, 0.3), lambda image: image.max(-1)),  # saturation: the value of HSV
        ((0.0, 0.0, 0.0, 0.2), lambda image: image.max(-1) - image.min(-1)),  # hue: value and saturation
        ((0.0,), lambda image: image),
        ((), lambda image: image),
    ],
)
def test_each_jitter_keeps_what_it_should(strengths: tuple[float, ...], keeps: Any) -> None:
    image = tf.constant(np.random.default_rng(0).uniform(100, 150, (6, 5, 3)), tf.float32)  # nothing is clipped
    results = [augmentation.jitter_colours(image, tf.constant([seed, 0]), strengths).numpy() for seed in range(8)]
    for result in results:
        np.testing.assert_allclose(keeps(result), keeps(image.numpy()), atol=2e-3)
    if any(strengths):
        assert len({result.tobytes() for result in results}) == 8
        again = augmentation.jitter_colours(image, tf.constant([0, 0]), strengths)
        np.testing.assert_array_equal(again, results[0])


def test_saturated_colours_stay_in_range() -> None:
    image = tf.constant(np.random.default_rng(0).choice([0.0, 255.0], (8, 8, 3)), tf.float32)
    for seed in range(10):
        result = augmentation.jitter_colours(image, tf.constant([seed, 0]), (1.0, 0.9, 0.9, 0.5)).numpy()
        assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 255
