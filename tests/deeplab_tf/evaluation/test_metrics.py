import json

import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import ConfusionMatrix
from tests.references import slow_confusion_matrix, slow_iou

NAMES = ("background", "cat", "dog", "fox")


def random_case(seed, shape=(9, 13), ignored=0.2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    labels[rng.random(shape) < ignored] = 255
    return labels, rng.integers(0, 4, shape)


def filled(labels, predictions, num_classes=4):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.array(labels), np.array(predictions))
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_ratios_equal_those_of_loops(seed):
    labels, predictions = random_case(seed)
    matrix = filled(labels, predictions)
    expected = slow_confusion_matrix(labels, predictions, 4)
    np.testing.assert_array_equal(matrix.matrix, expected)
    assert matrix.matrix.dtype == np.int64
    summary = matrix.summary(NAMES)
    iou = [slow_iou(labels, predictions, k) for k in range(4)]
    assert list(summary["per_class_iou"].values()) == pytest.approx(iou)
    assert summary["miou"] == pytest.approx(np.mean(iou))
    counted = labels != 255
    right = labels == predictions
    shares = [(labels == k).sum() / counted.sum() for k in range(4)]
    assert summary["pixel_accuracy"] == pytest.approx(right[counted].mean())
    assert summary["mean_accuracy"] == pytest.approx(np.mean([right[labels == k].mean() for k in range(4)]))
    assert summary["frequency_weighted_iou"] == pytest.approx(np.dot(shares, iou))
    assert summary["num_pixels"] == counted.sum()


def test_images_of_different_sizes_add_up_and_merging_equals_updating():
    cases = [random_case(0, (5, 7)), random_case(1, (3, 2, 4)), random_case(2, (11,))]
    together, merged = ConfusionMatrix(4), ConfusionMatrix(4)
    for labels, predictions in cases:
        together.update(labels, predictions)
        merged.merge(filled(labels, predictions))
    np.testing.assert_array_equal(together.matrix, sum(slow_confusion_matrix(*case, 4) for case in cases))
    np.testing.assert_array_equal(merged.matrix, together.matrix)


def test_miou_is_over_all_pixels_not_a_mean_over_images():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 1]))
    matrix.update(np.array([1]), np.array([0]))
    assert matrix.summary(("a", "b"))["per_class_iou"]["b"] == pytest.approx(4 / 5)


def test_a_class_in_neither_is_none_and_left_out_and_a_predicted_absent_one_is_zero():
    summary = filled([0, 0, 1, 1], [0, 0, 1, 2]).summary(NAMES)
    assert summary["per_class_iou"] == {"background": 1.0, "cat": 0.5, "dog": 0.0, "fox": None}
    assert summary["miou"] == pytest.approx(0.5)
    assert summary["mean_accuracy"] == pytest.approx(0.75)  # dog and fox have no pixels to be right about


def test_absent_as_zero_counts_it_in_the_mean():
    summary = filled([0, 0, 1, 1], [0, 0, 1, 2]).summary(NAMES, absent_as_zero=True)
    assert summary["per_class_iou"]["fox"] == 0.0
    assert summary["miou"] == pytest.approx(1.5 / 4)


def test_a_class_that_is_never_predicted_has_iou_zero():
    assert filled([0, 1, 1], [0, 0, 0]).summary(NAMES)["per_class_iou"]["cat"] == 0.0


@pytest.mark.parametrize("labels", [[], [255, 255]])
def test_without_a_single_pixel_everything_is_none_and_valid_json(labels):
    summary = filled(np.array(labels, np.uint8), np.zeros(len(labels), int)).summary(NAMES)
    assert json.loads(json.dumps(summary, allow_nan=False)) == {
        "miou": None,
        "pixel_accuracy": None,
        "mean_accuracy": None,
        "frequency_weighted_iou": None,
        "per_class_iou": dict.fromkeys(NAMES),
        "num_pixels": 0,
    }


def test_one_class_is_always_right():
    assert filled([[0, 0]], [[0, 0]], num_classes=1).summary(("all",))["miou"] == 1.0


def test_a_score_is_the_same_whatever_else_is_scored_and_unscored_pixels_can_be_false_positives():
    matrix = filled([1, 1, 2, 3, 3], [1, 3, 2, 2, 1])
    everything, some = matrix.summary(NAMES), matrix.summary(NAMES, score_classes=["dog", "cat"])
    assert some["per_class_iou"] == {name: everything["per_class_iou"][name] for name in ("cat", "dog")}
    assert some["per_class_iou"]["cat"] == pytest.approx(1 / 3)  # one right, one lost to fox, one fox taken for it
    assert some["miou"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert some["pixel_accuracy"] == pytest.approx(2 / 3)  # of the three pixels labelled cat or dog
    assert some["num_pixels"] == 5


def test_predictions_under_ignored_labels_may_be_anything():
    assert filled([0, 255], [0, 77]).summary(NAMES)["pixel_accuracy"] == 1.0


def test_the_matrix_that_is_handed_out_is_a_copy():
    matrix = filled([0], [0])
    matrix.matrix[:] = 9
    assert matrix.matrix.sum() == 1


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "one shape"),
        (np.array([4, 0]), np.array([0, 0]), "labels must be 0..3"),
        (np.array([0, -1]), np.array([0, 0]), "labels must be 0..3"),
        (np.array([0, 0]), np.array([0, 255]), "predictions must be 0..3"),
        (np.array([0]), np.array([0.5]), "predictions must be integers"),
    ],
)
def test_bad_input_is_refused_and_leaves_the_counts_alone(labels, predictions, message):
    matrix = ConfusionMatrix(4)
    with pytest.raises(ValueError, match=message):
        matrix.update(labels, predictions)
    assert matrix.matrix.sum() == 0


def test_bad_names_classes_and_merges_are_refused():
    matrix = ConfusionMatrix(4)
    with pytest.raises(ValueError, match="expected 4, got 2"):
        matrix.summary(("a", "b"))
    with pytest.raises(ValueError, match="score_classes must be some of"):
        matrix.summary(NAMES, score_classes=["cow"])
    with pytest.raises(ValueError, match="score_classes must be some of"):
        matrix.summary(NAMES, score_classes=[])
    with pytest.raises(ValueError, match=r"4 classes .* and 3"):
        matrix.merge(ConfusionMatrix(3))
    with pytest.raises(ValueError, match="at least 1"):
        ConfusionMatrix(0)


@pytest.mark.parametrize("matrix", [ConfusionMatrix(2), ConfusionMatrix.from_counts(np.zeros((2, 2), np.int64))])
def test_255_is_ignored_where_nothing_else_is_said(matrix):
    matrix.update(np.array([[0, 255]]), np.array([[0, 1]]))
    assert matrix.matrix.tolist() == [[1, 0], [0, 0]]
