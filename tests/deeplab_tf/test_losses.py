import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import losses


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


def test_only_ignored_cells_give_zero():
    labels = tf.fill([1, 2, 2], 255)
    assert float(losses.cross_entropy_sum(tf.random.normal([1, 2, 2, 3]), labels, 255)) == 0
    assert float(losses.count_valid(labels, 255)) == 0


def test_labels_are_subsampled_and_never_interpolated():
    labels = tf.reshape(tf.range(17 * 17), [1, 17, 17])
    np.testing.assert_array_equal(losses.subsample_labels(labels, 8)[0], [[0, 8, 16], [136, 144, 152], [272, 280, 288]])


def test_scale_one_half_is_judged_at_its_own_size_and_three_quarters_at_scale_one():
    assert losses.label_strides(8, (1.0, 0.75, 0.5)) == [8, None, 16]
