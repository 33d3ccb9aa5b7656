import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.inference.probabilities import build_inference, fold_inference
from deeplab_tf.layers import winograd
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm
from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.deeplab import build_network
from tests.references import slow_atrous_conv2d

WIDE = winograd.LEAST_CHANNELS


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("some", [winograd.F4, winograd.F6], ids=["F(4, 3)", "F(6, 3)"])
def test_the_transforms_filter(some):
    taps, data = normal(3).astype(float), normal(some.inputs, seed=1).astype(float)
    products = (some.kernel_transform @ taps) * (some.input_transform @ data)
    np.testing.assert_allclose(some.output_transform @ products, np.correlate(data, taps, "valid"), atol=1e-12)


def convolutions(function):
    return [op for op in function.get_concrete_function().graph.get_operations() if op.type == "Conv2D"]


def assert_close(y, x, kernel, rate):
    """Within float32's rounding of the sum of absolute products, with room for what the transforms amplify."""
    wanted = slow_atrous_conv2d(x, kernel, rate)
    magnitude = slow_atrous_conv2d(np.abs(x), np.abs(kernel), rate).max()
    np.testing.assert_allclose(y, wanted, atol=1e-6 * magnitude)
    assert y.shape == wanted.shape


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 9), (5, 7), (17, 6), (26, 4)], ids=str)
@pytest.mark.parametrize("rate", [1, 2, 3, 4, 12])
def test_equals_a_convolution_with_holes_in_the_kernel(rate, size):
    x, kernel = normal(2, *size, 5), normal(3, 3, 5, 4, seed=1)
    assert_close(winograd.conv2d(x, kernel, rate), x, kernel, rate)


def test_one_graph_for_all_sizes():
    kernel = normal(3, 3, 16, 8)
    for rate in (1, 4, 12):  # the last by F(6, 3)
        spec = [tf.TensorSpec([None, None, None, 16]), tf.TensorSpec([3, 3, 16, 8])]
        function = tf.function(functools.partial(winograd.conv2d, rate=rate), spec, autograph=False)
        convolve = function.get_concrete_function()
        assert convolve.structured_outputs.shape.as_list() == [None, None, None, 8]
        # Products that are repeated along a batch have crashed in this order.
        for shape in [(1, 20, 20), (3, 2, 3), (1, 20, 20), (2, 31, 17), (3, 1, 1), (1, 65, 9), (1, 20, 20)]:
            x = normal(*shape, 16, seed=shape[1])
            assert_close(convolve(tf.constant(x), tf.constant(kernel)), x, kernel, rate)


@pytest.mark.parametrize("known", [True, False], ids=["known", "any size"])
@pytest.mark.parametrize("rate", [1, 2, 3, 12])
def test_high_maps_are_cut_into_blocks_of_rows(monkeypatch, rate, known):
    monkeypatch.setattr(winograd, "UNCUT_ROWS", 20)
    monkeypatch.setattr(winograd, "BLOCK_ROWS", 15)
    kernel = normal(3, 3, 5, 4, seed=1)
    size = (lambda height: height) if known else (lambda height: None)
    for height in (19, 20, 21, 41, 60, 95):
        x = normal(2, height, 6, 5)
        spec = [tf.TensorSpec([None, size(height), size(6), 5]), tf.TensorSpec([3, 3, 5, 4])]
        convolve = tf.function(functools.partial(winograd.conv2d, rate=rate), spec, autograph=False)
        assert_close(convolve(tf.constant(x), tf.constant(kernel)), x, kernel, rate)


@pytest.mark.parametrize("known", [True, False], ids=["known", "any size"])
def test_the_transforms_of_a_high_map_are_those_of_a_block(known):
    x = tf.zeros([1, 1025, 3, 4])

    @tf.function(input_signature=[tf.TensorSpec([1, 1025 if known else None, 3, 4])], autograph=False)
    def first_product(x):
        winograd.conv2d(x, tf.zeros([3, 3, 4, 4]))
        [product, *_] = [op for op in tf.compat.v1.get_default_graph().get_operations() if op.type == "Conv2D"]
        return tf.shape(product.inputs[0])

    blocks, tiles, *_ = first_product(x).numpy()
    assert blocks == 15 and tiles == 18  # 15 blocks of 72 rows


@pytest.mark.parametrize(
    ("rate", "products_of_a_tile", "multiplications"),
    [(1, 6, 102), (2, 6, 102), (4, 6, 102), (12, 8, 96), (24, 6, 144)],
)
def test_a_usual_map_takes_half_of_the_multiplications(rate, products_of_a_tile, multiplications):
    @tf.function(input_signature=[tf.TensorSpec([1, 65, 65, 4])], autograph=False)
    def convolve(x):
        return winograd.conv2d(x, tf.zeros([3, 3, 4, 4]), rate)

    products = convolutions(convolve)
    assert len(products) == products_of_a_tile
    assert sum(op.inputs[0].shape[1] for op in products) == multiplications  # of 3 * 65


@pytest.mark.parametrize("rate", [1, 2, 3, 12])
def test_no_tile_too_many_whether_the_height_is_known_or_not(rate):
    for height in range(1, 60):
        phases = [len(range(phase, height, rate)) for phase in range(rate)]
        needed = sum(-(-rows // 4) for rows in phases)
        assert winograd._tiles(height, rate, 4) == needed
        assert int(winograd._tiles(tf.constant(height), rate, 4)) == needed


def test_only_where_it_was_measured_to_be_faster():
    x, kernel = tf.zeros([1, 65, 65, WIDE]), tf.zeros([3, 3, WIDE, WIDE])
    assert not winograd.is_faster(x, kernel, 1)
    with winograd.allowed():
        assert all(winograd.is_faster(x, kernel, rate) for rate in (1, 2, 4, 6, 12, 18))
        assert not winograd.is_faster(x, kernel, 24)  # most taps fall outside
        assert winograd.is_faster(tf.zeros([1, 129, 9, WIDE]), kernel, 1)
        assert winograd.is_faster(tf.zeros([1, 257, 9, WIDE]), kernel, 1)  # in blocks of rows
        assert winograd.is_faster(tf.zeros([1, 513, 9, WIDE]), kernel, 1)
        assert not winograd.is_faster(tf.cast(x, tf.bfloat16), tf.cast(kernel, tf.bfloat16), 1)
        assert not winograd.is_faster(x, tf.zeros([1, 1, WIDE, WIDE]), 1)
        assert not winograd.is_faster(x, tf.zeros([3, 3, WIDE, WIDE - 1]), 1)
        with winograd.allowed(False):
            assert not winograd.is_faster(x, kernel, 1)
    assert not winograd.is_faster(x, kernel, 1)


IMAGE = np.random.default_rng(0).integers(0, 256, (1, 97, 73, 3), np.uint8)


@pytest.mark.parametrize("size", [(None, None), (97, 73)], ids=["any size", "one size"])
def test_a_folded_vgg_computes_its_wide_layers_so_and_answers_the_same(size):
    model = build_network(EXPERIMENTS["vgg16_large_fov"].model, 5)
    folded = fold_inference(model, size=size)
    plain = fold_inference(model, InferenceConfig(winograd=False), size)
    # conv3_2, conv3_3, conv4 and conv5 by six products instead of one each, and fc6 by eight.
    assert len(convolutions(folded.answer)) - len(convolutions(plain.answer)) >= 8 * 5
    assert (1, 3, 256, 512) in {tuple(weight.shape) for weight in folded.weights}  # kernels are transformed once
    wanted = build_inference(model, size=size)(IMAGE).numpy()
    np.testing.assert_array_equal(plain.answer(IMAGE), wanted)
    np.testing.assert_allclose(folded.answer(IMAGE), wanted, atol=1e-3)  # weights at random make large scores
    assert np.any(folded.answer(IMAGE).numpy() != wanted)


def test_a_training_and_reduced_precision_do_not():
    model = build_network(EXPERIMENTS["vgg16_large_fov"].model, 5, "bfloat16")
    plain = fold_inference(model, InferenceConfig(winograd=False))
    assert len(convolutions(fold_inference(model).answer)) == len(convolutions(plain.answer))
    layer = ConvBatchNorm(WIDE, 3, epsilon=1e-3)
    layer.build((None, None, None, WIDE))
    assert len(convolutions(tf.function(layer, [tf.TensorSpec([1, 9, 9, WIDE])]))) == 1


def test_frozen_batch_normalisations_and_atrous_branches_do():
    layer = ConvBatchNorm(WIDE, 3, epsilon=1e-3)
    head = ASPP(3, (6,), hidden_units=WIDE)
    spec = [tf.TensorSpec([1, 65, 65, WIDE])]
    with winograd.allowed():
        assert len(convolutions(tf.function(layer, spec, autograph=False))) == 6
        assert len(convolutions(tf.function(head, spec, autograph=False))) >= 6
    with winograd.allowed(False):
        assert len(convolutions(tf.function(head, spec, autograph=False))) < 6


FROZEN = """
import numpy as np, tensorflow as tf
from deeplab_tf.layers import winograd
rng = np.random.default_rng(0)
kernel = tf.Variable(rng.standard_normal((3, 3, 8, 4)), dtype=tf.float32)
spec = [tf.TensorSpec([None, None, None, 8])]
fast = tf.function(lambda x: winograd.conv2d(x, kernel, 2), spec, autograph=False)
plain = tf.function(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME", dilations=2), spec, autograph=False)
for side in (20, 20, 33, 20, 9):
    x = tf.constant(rng.standard_normal((1, side, side, 8)), tf.float32)
    np.testing.assert_allclose(fast(x), plain(x), atol=1e-4)
"""


def test_tensorflow_that_keeps_frozen_weights_does_not_keep_images():
    """It keeps the second factor of a matrix product, whatever that is."""
    environment = {**os.environ, "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}
    done = subprocess.run([sys.executable, "-c", FROZEN], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
