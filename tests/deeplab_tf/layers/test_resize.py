import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.resize import (
    as_fraction,
    next_clean_size,
    resize_bilinear,
    resize_half_pixel,
    scaled_size,
    size_multiple,
)
from tests.references import slow_resize_bilinear

SIZES = [((5, 7), (9, 13)), ((9, 13), (5, 7)), ((4, 6), (11, 5)), ((1, 1), (9, 9)), ((1, 4), (3, 1)), ((6, 5), (6, 5))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resizing_equals_slow_interpolation_with_aligned_corners(before, after):
    x = np.random.default_rng(0).uniform(-1, 1, (2, *before, 3)).astype(np.float32)
    # Positions are computed in float32: a few 1e-7 of the coordinate, times differences of at most 2.
    np.testing.assert_allclose(resize_bilinear(x, after), slow_resize_bilinear(x, after), atol=3e-6)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resizing_by_half_pixels_equals_slow_interpolation_with_aligned_edges(before, after):
    x = np.random.default_rng(0).uniform(-1, 1, (2, *before, 3)).astype(np.float32)
    np.testing.assert_allclose(resize_half_pixel(x, after), slow_resize_bilinear(x, after, False), atol=3e-6)


def test_upsampling_keeps_every_cell():
    x = np.random.default_rng(1).uniform(-1, 1, (1, 6, 9, 2)).astype(np.float32)
    y = resize_bilinear(x, (8 * 5 + 1, 8 * 8 + 1)).numpy()
    np.testing.assert_allclose(y[:, ::8, ::8], x, atol=1e-6)


def test_sizes_may_be_tensors_and_the_result_is_float32():
    x = tf.cast(tf.reshape(tf.range(12.0), [1, 3, 4, 1]), tf.float16)
    y = resize_bilinear(x, (tf.constant(5), 7))
    assert y.dtype == tf.float32
    np.testing.assert_allclose(y, slow_resize_bilinear(tf.cast(x, tf.float32).numpy(), (5, 7)), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [(321, 1.0, 321), (321, 0.75, 241), (321, 0.5, 161), (41, 0.75, 31), (41, 0.5, 21), (33, 1.25, 41), (1, 0.5, 1)],
)
def test_scaled_sizes_keep_the_corners(size, scale, expected):
    assert scaled_size(size, scale) == expected
    assert int(scaled_size(tf.constant(size), scale)) == expected


def test_a_scale_of_a_third_is_not_spoilt_by_its_rounding():
    assert scaled_size(193, 1 / 3) == 65
    assert (as_fraction(1 / 3).numerator, as_fraction(1 / 3).denominator) == (1, 3)


@pytest.mark.parametrize(
    ("output_stride", "scales", "expected"),
    [(8, (1.0,), 8), (8, (1.0, 0.75, 0.5), 32), (8, (1.0, 0.5), 16), (16, (1.0, 0.75, 0.5), 64), (8, (0.5, 1 / 3), 48)],
)
def test_the_size_multiple_avoids_rounding_at_every_scale(output_stride, scales, expected):
    multiple = size_multiple(output_stride, scales)
    assert multiple == expected
    for scale in scales:
        for size in (multiple + 1, 3 * multiple + 1):
            ratio = as_fraction(scale)
            assert (scaled_size(size, scale) - 1) * ratio.denominator == (size - 1) * ratio.numerator
            assert (scaled_size(size, scale) - 1) % output_stride == 0


@pytest.mark.parametrize("multiple", [8, 32])
def test_the_next_clean_size_is_the_smallest_that_fits(multiple):
    clean = [multiple * k + 1 for k in range(1, 20)]
    for size in range(1, 71):
        expected = min(candidate for candidate in clean if candidate >= size)
        assert next_clean_size(size, multiple) == expected
        assert int(next_clean_size(tf.constant(size), multiple)) == expected


def test_the_next_clean_size_is_the_same_in_a_graph():
    graph = tf.function(lambda size: next_clean_size(size, 8), input_signature=[tf.TensorSpec([], tf.int32)])
    assert [int(graph(tf.constant(size))) for size in (1, 2, 9, 10, 500)] == [9, 9, 9, 17, 505]
