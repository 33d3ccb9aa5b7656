import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training import losses
from tests.references import slow_cross_entropy


def test_the_sum_over_valid_cells_equals_a_loop():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, 3, 4)).astype(np.int32)
    labels[0, 1] = 255
    expected, count = 0.0, 0
    for position in np.ndindex(2, 3, 4):
        if labels[position] != 255:
            scores = logits[position].astype(np.float64)
            expected -= scores[labels[position]] - np.log(np.exp(scores).sum())
            count += 1
    assert float(losses.cross_entropy_sum(logits, tf.constant(labels), 255)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.count_valid(tf.constant(labels), 255)) == count == 20


def test_class_weights_weigh_the_cells_of_each_class():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 3, 4)).astype(np.int32)
    labels[0, 1] = 255
    weights = (0.5, 0.0, 3.0)
    each = [slow_cross_entropy(logits, np.where(labels == k, k, 255).astype(np.int32), 255) for k in range(3)]
    total = sum(weight * of_class for weight, (of_class, _) in zip(weights, each, strict=True))
    count = sum(weight * number for weight, (_, number) in zip(weights, each, strict=True))
    labels = tf.constant(labels)
    assert float(losses.cross_entropy_sum(logits, labels, 255, weights)) == pytest.approx(total, rel=1e-5)
    assert float(losses.count_valid(labels, 255, weights)) == pytest.approx(count)


def test_only_ignored_cells_give_zero():
    labels = tf.fill([1, 2, 2], 255)
    assert float(losses.cross_entropy_sum(tf.random.normal([1, 2, 2, 3]), labels, 255)) == 0
    assert float(losses.count_valid(labels, 255)) == 0


def test_one_class_costs_nothing_also_beside_ignored_cells():
    labels = tf.constant([[[0, 255, 0]]])
    assert float(losses.cross_entropy_sum(tf.random.normal([1, 1, 3, 1]), labels, 255)) == 0
    assert float(losses.count_valid(labels, 255, [2.0])) == 4


def test_labels_are_subsampled_and_never_interpolated():
    labels = tf.reshape(tf.range(17 * 17), [1, 17, 17])
    np.testing.assert_array_equal(losses.subsample_labels(labels, 8)[0], [[0, 8, 16], [136, 144, 152], [272, 280, 288]])


def test_scale_one_half_is_judged_at_its_own_size_and_three_quarters_at_scale_one():
    assert losses.label_strides(8, (1.0, 0.75, 0.5)) == [8, None, 16]


@pytest.mark.parametrize("ignore_label", [0, -1])
def test_the_ignored_label_may_be_any_number(ignore_label):
    rng = np.random.default_rng(1)
    logits = 3 * rng.standard_normal((2, 5, 7, 4)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 5, 7)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.3] = ignore_label
    total, count = slow_cross_entropy(logits, labels, ignore_label)
    assert 0 < count < labels.size
    assert float(losses.count_valid(tf.constant(labels), ignore_label)) == count
    assert float(losses.cross_entropy_sum(logits, tf.constant(labels), ignore_label)) == pytest.approx(total, rel=1e-5)


def test_scores_of_ignored_cells_get_no_gradient_whatever_they_are():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((1, 5, 7, 4)).astype(np.float32)
    labels = rng.integers(0, 4, (1, 5, 7)).astype(np.int32)
    labels[0, 1:3] = 255
    values[labels == 255] = 1e30
    logits = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.cross_entropy_sum(logits, tf.constant(labels), 255)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(float(loss))
    assert (gradient[labels == 255] == 0).all()
    assert (np.abs(gradient[labels != 255]).sum(-1) > 0).all()


def test_a_certain_and_right_answer_costs_nothing_and_a_uniform_one_log_k():
    labels = tf.zeros([1, 1, 1], tf.int32)
    assert float(losses.cross_entropy_sum([[[[100.0, 0.0, 0.0]]]], labels, 255)) == pytest.approx(0, abs=1e-6)
    assert float(losses.cross_entropy_sum([[[[5.0, 5.0, 5.0]]]], labels, 255)) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize(
    ("output_stride", "scales", "expected"),
    [
        (8, (1.0,), [8]),
        (16, (1.0, 0.75, 0.5), [16, None, 32]),
        (8, (1.25, 2.0), [None, 4]),
        (8, (1 / 3,), [24]),  # 8 / (1/3) is not a whole number to the last bit
    ],
)
def test_scores_meet_the_labels_at_their_own_stride_where_it_is_whole(output_stride, scales, expected):
    assert losses.label_strides(output_stride, scales) == expected
