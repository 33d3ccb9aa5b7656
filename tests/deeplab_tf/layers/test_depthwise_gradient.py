import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import depthwise_gradient
from deeplab_tf.layers.atrous_depthwise import atrous_depthwise_conv2d
from deeplab_tf.layers.conv_batch_norm import DepthwiseConvBatchNorm
from deeplab_tf.layers.depthwise_gradient import depthwise_conv2d_same, kernel_gradients_in_pieces


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def gradients(function, x, kernel):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = function(x, kernel)
        loss = tf.reduce_sum(y * normal(*y.shape, seed=2))
    return y, tape.gradient(loss, [x, kernel])


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("shape", [(9, 12), (1, 2), (4, 3)], ids=str)
def test_pieces_give_the_gradient_of_the_whole_kernel(size, multiplier, shape, monkeypatch):
    x, kernel = normal(2, *shape, 3), normal(size, size, 3, multiplier, seed=1)
    expected, expected_gradients = gradients(depthwise_conv2d_same, x, kernel)
    calls = []
    own = depthwise_gradient._kernel_gradient
    monkeypatch.setattr(depthwise_gradient, "_kernel_gradient", lambda *a: calls.append(1) or own(*a))
    with kernel_gradients_in_pieces():
        y, found = gradients(tf.function(depthwise_conv2d_same), x, kernel)
    assert len(calls) == (size > 3)
    np.testing.assert_array_equal(y, expected)
    for ours, theirs in zip(found, expected_gradients, strict=True):
        # Sums of up to 216 products of numbers around 1.
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_pieces_take_maps_of_unknown_size():
    x, kernel = normal(1, 6, 7, 2), normal(5, 5, 2, 1)
    spec = [tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([5, 5, 2, 1])]
    with kernel_gradients_in_pieces():
        _, of_kernel = tf.function(_sum_gradients, input_signature=spec)(x, kernel)
    np.testing.assert_allclose(of_kernel, _sum_gradients(x, kernel)[1], atol=1e-4)


def _sum_gradients(x, kernel):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        loss = tf.reduce_sum(depthwise_conv2d_same(x, kernel) ** 2)
    return tape.gradient(loss, [x, kernel])


@pytest.mark.parametrize("rate", [1, 2])
def test_networks_use_pieces_in_training_only(rate, monkeypatch):
    layer = DepthwiseConvBatchNorm(5, rate=rate, epsilon=1e-3)
    x = normal(1, 9, 9, 2)
    layer(x)
    calls = []
    own = depthwise_gradient._kernel_gradient
    monkeypatch.setattr(depthwise_gradient, "_kernel_gradient", lambda *a: calls.append(1) or own(*a))

    def of_kernel():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    plain = of_kernel()
    assert not calls
    with kernel_gradients_in_pieces():
        pieces = of_kernel()
        y = atrous_depthwise_conv2d(x, normal(5, 5, 2, 1), rate)
    assert calls and y.shape == x.shape
    np.testing.assert_allclose(pieces, plain, rtol=1e-4, atol=1e-4)


def test_an_answering_graph_has_the_plain_operation():
    graph = tf.function(depthwise_conv2d_same).get_concrete_function(
        tf.TensorSpec([1, 8, 8, 2]), tf.TensorSpec([5, 5, 2, 1])
    )
    kinds = {operation.type for operation in graph.graph.get_operations()}
    assert "DepthwiseConv2dNative" in kinds and "IdentityN" not in kinds
