"""Graphs for other programs compute the same by other operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import ModelConfig
from deeplab_tf.experiments import experiment_config
from deeplab_tf.layers import portable
from deeplab_tf.layers.atrous import atrous_conv2d
from deeplab_tf.layers.atrous_depthwise import atrous_depthwise_conv2d
from deeplab_tf.networks.deeplab import build_network

RNG = np.random.default_rng(0)
NOT_PORTABLE = {"SpaceToBatchND", "BatchToSpaceND", "SpaceToBatch", "BatchToSpace"}


def operations(function):
    return function.get_concrete_function().graph.get_operations()


@pytest.mark.parametrize(("size", "rate"), [(3, 1), (3, 6), (4, 4), (5, 2), (1, 1)])
def test_an_atrous_convolution_is_one_operation_without_padding_of_its_own(size, rate):
    kernel = tf.constant(RNG.normal(size=(size, size, 6, 4)), tf.float32)
    x = tf.constant(RNG.normal(size=(2, 13, 17, 6)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 6])], autograph=False)
    def convolve(x):
        with portable.wanted(odd_sizes=True):
            return atrous_conv2d(x, kernel, rate)

    np.testing.assert_allclose(convolve(x), atrous_conv2d(x, kernel, rate), atol=1e-5)
    found = [op for op in operations(convolve) if op.type == "Conv2D" or op.type in NOT_PORTABLE]
    assert [op.type for op in found] == ["Conv2D"] and found[0].get_attr("padding") == b"VALID"


@pytest.mark.parametrize(("size", "rate"), [(3, 1), (3, 4), (5, 2)])
def test_an_atrous_depthwise_convolution_too(size, rate):
    kernel = tf.constant(RNG.normal(size=(size, size, 6, 1)), tf.float32)
    x = tf.constant(RNG.normal(size=(2, 13, 17, 6)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 6])], autograph=False)
    def convolve(x):
        with portable.wanted(odd_sizes=True):
            return atrous_depthwise_conv2d(x, kernel, rate)

    np.testing.assert_allclose(convolve(x), atrous_depthwise_conv2d(x, kernel, rate), atol=1e-5)
    types = [op.type for op in operations(convolve)]
    assert types.count("DepthwiseConv2dNative") == 1 and not NOT_PORTABLE & set(types)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("odd", [True, False])
def test_a_stride_pads_as_same_does_at_the_sizes_that_were_promised(odd, depthwise):
    kernel = tf.constant(RNG.normal(size=(5, 3, 4, 1)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])], autograph=False)
    def convolve(x):
        with portable.wanted(odd_sizes=odd):
            return (portable.depthwise_conv2d if depthwise else portable.conv2d)(x, kernel, stride=2)

    for height, width in [(9, 13)] + ([] if odd else [(8, 13), (9, 12), (10, 10)]):
        x = tf.constant(RNG.normal(size=(1, height, width, 4)), tf.float32)
        if depthwise:
            same = tf.nn.depthwise_conv2d(x, kernel, [1, 2, 2, 1], "SAME")
        else:
            same = tf.nn.conv2d(x, kernel, 2, "SAME")
        np.testing.assert_allclose(convolve(x), same, atol=1e-5)


NETWORKS = {
    "VGG LargeFOV": experiment_config("vgg16_large_fov").model,
    "ResNet-50 ASPP": experiment_config("resnet50_aspp").model,
    "EfficientNet-Lite0 ASPP": experiment_config("efficientnet_lite0_aspp").model,
}


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_a_portable_network_pads_in_numbers_and_computes_the_same(config: ModelConfig):
    keras.utils.set_random_seed(0)
    model = build_network(config, 3)
    images = tf.constant(RNG.uniform(0, 255, (1, 33, 49, 3)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])], autograph=False)
    def scores(images):
        with portable.wanted(odd_sizes=True):
            return model(images)

    found = operations(scores)
    convolutions = [op for op in found if op.type in ("Conv2D", "DepthwiseConv2dNative")]
    assert len(convolutions) > 10 and {op.get_attr("padding") for op in convolutions} == {b"VALID"}
    assert not NOT_PORTABLE & {op.type for op in found}
    ordinary = model(images).numpy()
    np.testing.assert_allclose(scores(images), ordinary, atol=1e-5 * np.abs(ordinary).max())


def test_nothing_is_portable_outside_of_the_context():
    with portable.wanted(odd_sizes=True):
        assert portable.is_wanted() and portable.has_odd_sizes()
    assert not portable.is_wanted() and not portable.has_odd_sizes()
