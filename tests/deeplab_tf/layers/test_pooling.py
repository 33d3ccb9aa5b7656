import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.pooling import average_pool, max_pool
from tests.references import slow_caffe_pool

SIDES = range(1, 10)


def negative(height, width):
    """All below zero, so that a padding of zeros would win."""
    return np.random.default_rng(height * 10 + width).uniform(-3, -1, (2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", SIDES)
def test_the_maximum_is_caffes_at_odd_and_even_sizes(height, stride):
    for width in SIDES:
        x = negative(height, width)
        y = max_pool(tf.constant(x), stride)
        if stride == 2:
            assert y.shape == (2, height // 2 + 1, width // 2 + 1, 3)
        # Exact: a maximum rounds nothing.
        np.testing.assert_array_equal(y, slow_caffe_pool(x, stride, average=False))


@pytest.mark.parametrize("height", SIDES)
def test_the_average_is_caffes_and_counts_the_padding(height):
    for width in SIDES:
        x = negative(height, width)
        np.testing.assert_allclose(average_pool(tf.constant(x)), slow_caffe_pool(x, 1, average=True), rtol=1e-6)


def test_a_corner_of_ones_averages_to_four_ninths():
    y = average_pool(tf.ones([1, 4, 4, 1])).numpy()[0, :, :, 0]
    np.testing.assert_allclose(y[:2, :2], [[4 / 9, 6 / 9], [6 / 9, 1]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept_and_its_padding_never_wins(dtype):
    x = tf.cast(negative(6, 7), dtype)
    for stride in (1, 2):
        y = max_pool(x, stride)
        assert y.dtype == dtype
        expected = slow_caffe_pool(tf.cast(x, tf.float32).numpy(), stride, average=False)
        np.testing.assert_array_equal(tf.cast(y, tf.float32), expected)
    assert average_pool(x).dtype == dtype


@pytest.mark.parametrize("size", [(5, 8), (6, 7)])
def test_a_graph_without_sizes_gives_the_same(size):
    x = tf.constant(negative(*size))
    for pool in (lambda x: max_pool(x, 1), lambda x: max_pool(x, 2), average_pool):
        graph = tf.function(pool, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        np.testing.assert_array_equal(graph(x), pool(x))


@pytest.mark.parametrize("rate", [2, 4])
@pytest.mark.parametrize("pool", [lambda x, rate: max_pool(x, 1, rate), average_pool], ids=["maximum", "average"])
def test_a_dilated_pool_is_the_pool_of_each_shifted_subsampled_map(pool, rate):
    x = negative(11, 14)
    y = pool(tf.constant(x), rate).numpy()
    assert y.shape == x.shape
    for i in range(rate):
        for j in range(rate):
            expected = pool(tf.constant(x[:, i::rate, j::rate]), 1)
            np.testing.assert_allclose(y[:, i::rate, j::rate], expected, rtol=1e-6)
