import json

import cv2
import numpy as np
import pytest

from deeplab_tf.evaluation.trimap import BORDERS, WIDTHS, Trimap, boundary_distance, count_meetings, format_trimap
from tests.references import slow_boundary_distance, slow_confusion_matrix, slow_iou

NAMES = ("background", "cat", "dog")


def blobs(seed, shape=(17, 23), void="border"):
    """Labels in regions, with void lines between them or void spots anywhere."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 3)
    labels = np.digitize(noise, np.quantile(noise, [0.5, 0.8])).astype(np.int32)
    if void == "border":
        picture = labels.astype(np.uint8)
        labels[cv2.dilate(picture, np.ones((3, 3))) != cv2.erode(picture, np.ones((3, 3)))] = 255
    elif void == "spots":
        labels[rng.random(shape) < 0.05] = 255
    return labels


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("void", ["border", "spots", "none"])
def test_distances_equal_those_over_all_pairs_of_pixels(border, void):
    for seed in range(3):
        labels = blobs(seed, void=void)
        expected = slow_boundary_distance(labels, 255, border)
        distance = boundary_distance(labels, 255, border)
        near = expected <= WIDTHS[-1]
        np.testing.assert_array_equal(distance[near], expected[near])
        assert (distance[~near] > WIDTHS[-1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_lines_and_single_pixels_have_distances_too(shape):
    labels = (np.arange(shape[0] * shape[1]).reshape(shape) > 2).astype(np.int32)
    expected = slow_boundary_distance(labels, 255, "labels")
    distance = boundary_distance(labels, 255, "labels")
    np.testing.assert_array_equal(np.minimum(distance, 41), np.minimum(expected, 41))


@pytest.mark.parametrize("border", BORDERS)
def test_each_band_is_scored_like_an_image_of_its_pixels_alone(border):
    trimap = Trimap(3, 255, ("network", "crf"))
    images = []
    for seed in range(2):
        labels = blobs(seed, void="border" if border == "void" else "none")
        rng = np.random.default_rng(seed + 10)
        predictions = {name: np.where(rng.random(labels.shape) < 0.3, 1, labels % 255) for name in ("network", "crf")}
        trimap.update(labels, predictions)
        images.append((labels, predictions))
    summary = trimap.summary(NAMES)
    assert summary["border"] == border and summary["widths"] == list(range(1, 41))
    for width in (1, 2, 5, 40):
        for name in ("network", "crf"):
            bands, answers = [], []
            for labels, predictions in images:
                distance = slow_boundary_distance(labels, 255, border)
                bands.append(np.where(distance <= width, labels, 255).ravel())
                answers.append(predictions[name].ravel())
            band, answer = np.concatenate(bands), np.concatenate(answers)
            ious = [slow_iou(band, answer, label) for label in range(3)]
            expected = np.mean([iou for iou in ious if iou is not None])
            assert summary[name]["miou"][width - 1] == pytest.approx(expected)
            matrix = slow_confusion_matrix(band, answer, 3)
            assert summary[name]["pixel_accuracy"][width - 1] == pytest.approx(np.trace(matrix) / matrix.sum())


def test_the_widest_band_of_a_small_image_is_the_whole_image():
    labels = blobs(0)
    trimap = Trimap(3, 255, ("network",))
    prediction = np.zeros_like(labels)
    trimap.update(labels, {"network": prediction})
    expected = np.mean([slow_iou(labels, prediction, label) for label in range(3)])
    assert trimap.summary(NAMES)["network"]["miou"][-1] == pytest.approx(expected)


def test_void_counts_as_the_boundary_only_where_labels_seldom_meet():
    assert count_meetings(np.array([[0, 255, 1], [0, 1, 1]]), 255) == {"void": 3, "labels": 1}
    for labels, border in ((blobs(0), "void"), (blobs(0, void="none"), "labels")):
        trimap = Trimap(3, 255, ("network",))
        trimap.update(labels, {"network": np.zeros_like(labels)})
        assert trimap.border == border


def test_without_boundaries_every_band_is_empty_and_valid_json():
    trimap = Trimap(3, 255, ("network",))
    trimap.update(np.ones((5, 9), np.int32), {"network": np.ones((5, 9), np.int32)})
    summary = json.loads(json.dumps(trimap.summary(NAMES), allow_nan=False))
    assert summary["network"]["miou"] == [None] * 40
    assert format_trimap(summary).splitlines()[1].split() == ["1", "-"]


def test_the_table_shows_percent_of_some_bands():
    ratios = [width / 100 for width in WIDTHS]
    table = format_trimap({"widths": list(WIDTHS), "network": {"miou": ratios}, "crf": {"miou": ratios}}, (1, 40))
    assert [line.split()[-2:] for line in table.splitlines()[1:]] == [["1.00", "1.00"], ["40.00", "40.00"]]


def test_scored_classes_restrict_the_bands_too():
    labels = blobs(1)
    trimap = Trimap(3, 255, ("network",))
    trimap.update(labels, {"network": np.ones_like(labels)})
    distance = slow_boundary_distance(labels, 255, "void")
    band = np.where(distance <= 3, labels, 255)
    summary = trimap.summary(NAMES, score_classes=["cat"])
    assert summary["network"]["miou"][2] == pytest.approx(slow_iou(band, np.ones_like(labels), 1))
