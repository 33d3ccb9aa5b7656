import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm, DepthwiseConvBatchNorm, measuring_statistics
from deeplab_tf.layers.dropout import SeededDropout
from deeplab_tf.networks.aspp import ASPP, is_classifier
from deeplab_tf.networks.deeplab import DeepLab, build_model, build_network
from deeplab_tf.networks.normalization import bgr_minus_mean
from deeplab_tf.networks.resnet import ResNet, block_names
from deeplab_tf.networks.vgg import VGG16
from tests.references import slow_atrous_conv2d, slow_resize_bilinear
from tests.tiny import tiny_network


def images(height, width, count=1, seed=0):
    values = np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3))
    return tf.constant(values, tf.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def built(layer, *input_shape):
    """Builds a layer by a look at its input's shape, and gives its biases values."""
    layer(keras.Input(input_shape))
    for variable in layer.weights:
        if variable.path.endswith("/bias"):
            variable.assign(0.3 * normal(*variable.shape, seed=7))
    return layer


# Size


@pytest.mark.parametrize(
    ("experiment", "millions"),
    [("vgg16_7x7_r4", 134.3), ("vgg16_4x4_r4", 65.1), ("vgg16_4x4_r8", 65.1), ("vgg16_large_fov", 20.5)],
)
def test_the_number_of_parameters_is_that_of_table_1(experiment, millions):
    model = build_model(experiment, num_classes=21)
    assert round(model.count_params() / 1e6, 1) == millions


@pytest.mark.parametrize("num_classes", [1, 60])
def test_any_number_of_classes_can_be_built(num_classes):
    model = build_network(EXPERIMENTS["vgg16_large_fov"].model, num_classes)
    assert model(images(33, 49)).shape == (1, 5, 7, num_classes)
    assert model(keras.Input((None, None, 3))).shape == (None, None, None, num_classes)


def test_no_classes_and_unknown_experiments_are_refused():
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        build_model("vgg16_large_fov", 0)
    with pytest.raises(UserError, match="did you mean vgg16_large_fov"):
        build_model("vgg16_largefov", 21)
    with pytest.raises(ValueError, match="output stride 8, 16 or 32, got 4"):
        VGG16(output_stride=4)
    with pytest.raises(ValueError, match="output stride 4, 8, 16 or 32, got 64"):
        ResNet(50, output_stride=64)
    with pytest.raises(ValueError, match="depth 50 or 101, got 18"):
        ResNet(18)
    for rates in ((), (6, 0)):
        with pytest.raises(ValueError, match="rates must be >= 1"):
            ASPP(3, rates)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_sizes_of_the_form_32k_plus_1_give_whole_score_maps(output_stride):
    features = VGG16(output_stride=output_stride)(images(33, 65))
    assert features.shape == (1, 32 // output_stride + 1, 64 // output_stride + 1, 512)


@pytest.mark.parametrize("experiment", ["vgg16_aspp_l", "resnet50_aspp"])
def test_layer_names_are_unique_within_a_network(experiment):
    model = build_model(experiment, num_classes=3)
    names = ["/".join(variable.path.split("/")[-2:]) for variable in model.variables]
    assert len(set(names)) == len(names)
    assert sum(is_classifier(name.split("/")[0]) for name in names) == 2 * 4


def test_blocks_have_caffes_names():
    assert block_names(50) == [
        ["2a", "2b", "2c"],
        ["3a", "3b", "3c", "3d"],
        ["4a", "4b", "4c", "4d", "4e", "4f"],
        ["5a", "5b", "5c"],
    ]
    assert block_names(101)[1] == ["3a", "3b1", "3b2", "3b3"]
    assert block_names(101)[2] == ["4a", *(f"4b{i}" for i in range(1, 23))]


# The paper's central property: the dense network, subsampled, is the strided network.


def assert_dense_is_strided(dense, strided, step):
    # Rounding of some 50 layers in another order: measured 1e-6 of the deviation; a wrong rate gives 0.1 and more.
    np.testing.assert_allclose(dense[:, ::step, ::step], strided, rtol=0, atol=1e-4 * np.std(strided))


def test_a_dense_resnet_subsampled_is_the_strided_one_with_the_same_weights():
    x = bgr_minus_mean(images(65, 97))
    keras.utils.set_random_seed(0)
    dense = built(ResNet(50, 8), None, None, 3)
    for variable in dense.weights:  # not the identity
        name = variable.path.split("/")[-1]
        if name in ("gamma", "moving_variance"):
            variable.assign(keras.random.uniform(variable.shape, 0.5, 1.0))
        elif name in ("beta", "moving_mean"):
            variable.assign(keras.random.normal(variable.shape, stddev=0.1))
    features = dense(x)
    assert features.shape == (1, 9, 13, 2048)
    for output_stride in (16, 32):
        strided = built(ResNet(50, output_stride), None, None, 3)
        strided.set_weights(dense.get_weights())
        assert_dense_is_strided(features, strided(x), output_stride // 8)


@pytest.mark.parametrize("strided_output", [16, 32])
def test_a_dense_vgg_subsampled_is_the_strided_one_up_to_conv5_3(strided_output):
    x = bgr_minus_mean(images(65, 97))
    keras.utils.set_random_seed(0)
    dense, strided = built(VGG16(8), None, None, 3), built(VGG16(strided_output), None, None, 3)
    strided.set_weights(dense.get_weights())
    assert_dense_is_strided(dense(x, before_pool5=True), strided(x, before_pool5=True), 2)


def test_frozen_batch_normalisation_is_folded_right_and_only_kernels_train():
    resnet = built(ResNet(50, 32), None, None, 3)
    assert {v.path.split("/")[-1] for v in resnet.trainable_variables} == {"kernel"}
    layer = resnet.conv1
    gamma, beta, mean = (normal(64, seed=i) for i in range(3))
    variance = np.abs(normal(64, seed=3)) + 0.5
    kernel = layer.kernel.numpy()
    layer.set_weights([kernel, gamma, beta, mean, variance])
    x = normal(1, 10, 13, 3)
    padded = np.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)])
    convolved = tf.nn.conv2d(padded, kernel, 2, "VALID").numpy()  # Caffe's padding, also at even sizes
    expected = gamma * (convolved - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(layer(x), np.maximum(expected, 0), atol=1e-4 * expected.std())  # with its ReLU
    layer.activation = None
    np.testing.assert_allclose(layer(x), expected, atol=1e-4 * expected.std())


def test_measured_statistics_normalise_the_images_that_they_were_measured_on():
    x = tf.constant(normal(4, 15, 13, 3))
    layers = [
        ConvBatchNorm(6, 3, 2, epsilon=1e-5),
        DepthwiseConvBatchNorm(3, rate=2, epsilon=1e-5),
        ConvBatchNorm(5, 1, epsilon=1e-5),
    ]
    with measuring_statistics():
        y = x
        for layer in layers:
            y = layer(y)
    for layer in layers:  # afterwards: each by what the one before gives now
        x = layer(x)
        assert np.abs(tf.reduce_mean(x, [0, 1, 2])).max() < 1e-4
        np.testing.assert_allclose(tf.math.reduce_variance(x, [0, 1, 2]), 1, atol=1e-2)
    np.testing.assert_array_equal(x, y)
    before = [variable.numpy() for layer in layers for variable in layer.variables]
    layers[0](tf.constant(normal(4, 15, 13, 3)))  # no longer measured
    for variable, value in zip([v for layer in layers for v in layer.variables], before, strict=True):
        np.testing.assert_array_equal(variable, value)


# Heads


@pytest.mark.parametrize("size", [(9, 11), (8, 10)])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolutions_pad_as_caffe_does_and_by_no_padding_in_numbers(kernel_size, stride, size):
    """In bfloat16 the gradients of a convolution with such a padding take a hundred times as long."""
    x = tf.constant(normal(2, *size, 3))
    layer = ConvBatchNorm(4, kernel_size, stride, epsilon=1e-5)
    layer.build(x.shape)
    compute = tf.function(layer.__call__, autograph=False)
    pad = [kernel_size // 2] * 2
    wanted = tf.nn.conv2d(x, layer.kernel, stride, [[0, 0], pad, pad, [0, 0]])
    np.testing.assert_allclose(compute(x), wanted / np.sqrt(1 + 1e-5), atol=1e-5)
    convolutions = [op for op in compute.get_concrete_function(x).graph.get_operations() if op.type == "Conv2D"]
    assert len(convolutions) == 1 and convolutions[0].get_attr("padding") != b"EXPLICIT"


@pytest.mark.parametrize(("kernel_size", "rate"), [(4, 4), (4, 8), (7, 4), (3, 12)])
def test_the_heads_of_table_1_equal_holes_in_the_kernel_and_two_1x1_layers(kernel_size, rate):
    head = built(ASPP(3, (rate,), kernel_size, hidden_units=5), None, None, 4)
    x = normal(2, 2 * rate + 9, 2 * rate + 12, 4)
    k6, b6 = head.fc6.get_weights()
    k7, b7 = head.fc7.get_weights()
    k8, b8 = head.fc8.get_weights()
    hidden = np.maximum(slow_atrous_conv2d(x, k6, rate) + b6, 0)
    hidden = np.maximum(hidden @ k7[0, 0] + b7, 0)
    # float32 sums of at most 7*7*4 products.
    np.testing.assert_allclose(head(x), hidden @ k8[0, 0] + b8, atol=1e-5)


def test_aspp_adds_its_branches():
    rates = (2, 4, 8, 12)
    head = built(ASPP(3, rates), None, None, 6)
    x = normal(1, 25, 27, 6)
    expected = 0
    for number, rate in enumerate(rates, start=1):
        kernel, bias = getattr(head, f"fc1_{number}").get_weights()
        expected = expected + slow_atrous_conv2d(x, kernel, rate) + bias
    np.testing.assert_allclose(head(x), expected, atol=1e-5)


def test_vgg_branches_keep_their_own_hidden_layers():
    head = built(ASPP(3, (2, 4), hidden_units=5), None, None, 6)
    x = normal(1, 9, 10, 6)
    branches = []
    for number, rate in ((1, 2), (2, 4)):
        single = built(ASPP(3, (rate,), hidden_units=5), None, None, 6)
        for name in ("fc6", "fc7", "fc8"):
            getattr(single, name).set_weights(getattr(head, f"{name}_{number}").get_weights())
        branches.append(single(x))
    np.testing.assert_allclose(head(x), branches[0] + branches[1], atol=1e-5)


# Several scales


@pytest.mark.parametrize("scales", [(1.0, 0.75, 0.5), (0.5, 1.25), (0.75,)], ids=str)
def test_several_scales_are_the_maximum_of_single_runs_on_resized_images(scales):
    several = tiny_network(scales=scales)
    single = DeepLab(several.backbone, several.head, (1.0,))
    x = images(65, 97)
    runs = []
    for scale in scales:
        resized = slow_resize_bilinear(x.numpy(), (int(64 * scale) + 1, int(96 * scale) + 1)).astype(np.float32)
        runs.append(slow_resize_bilinear(single(resized).numpy(), (9, 13)))
    expected = np.max(runs, axis=0)
    np.testing.assert_allclose(several(x), expected, atol=1e-4 * expected.std())
    if len(scales) > 1:  # otherwise the maximum would not be tested
        assert 0.05 < np.mean(runs[0] == expected) < 0.95


def test_the_scales_share_their_weights():
    assert len(tiny_network(scales=(1.0, 0.75, 0.5)).variables) == len(tiny_network().variables)


def test_the_clean_sizes_of_the_networks_are_8k_or_32k_plus_1():
    assert tiny_network().size_multiple == 8
    assert tiny_network(scales=(1.0, 0.75, 0.5)).size_multiple == 32


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.75, 0.5)], ids=str)
def test_a_graph_without_sizes_equals_eager(scales):
    model = tiny_network(scales=scales)
    graph = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    for size in ((33, 65), (65, 33)):
        x = images(*size, count=2)
        np.testing.assert_allclose(graph(x), model(x), atol=1e-5)


# Precision


@pytest.mark.parametrize("experiment", ["vgg16_large_fov", pytest.param("resnet50_aspp", marks=pytest.mark.slow)])
def test_half_precision_is_near_float32_with_float32_logits_and_variables(experiment):
    keras.utils.set_random_seed(3)
    config = EXPERIMENTS[experiment].model
    full = build_network(config, 3)
    # The last normalisation of a block at a tenth keeps fresh residual sums from growing out of float16's range.
    for variable in full.variables:
        if variable.path.endswith("branch2c/gamma"):
            variable.assign(0.1 * tf.ones(variable.shape))
    x = images(33, 33)
    expected = full(x).numpy()
    # 8 (bfloat16) or 11 (float16) bits over some 16 or 50 layers, as a part of the deviation of the logits.
    for precision, bound in (("bfloat16", 0.15), ("float16", 0.02)):
        half = build_network(config, 3, precision)
        half.set_weights(full.get_weights())
        logits = half(x)
        assert logits.dtype == tf.float32
        assert {v.dtype for v in half.variables} == {"float32"}
        assert half.backbone(half.backbone.normalize(x)).dtype == precision
        assert np.isfinite(logits).all()
        assert np.sqrt(np.mean((logits - expected) ** 2)) < bound * expected.std(), precision


# Dropout


def test_dropout_depends_on_the_seed_of_an_example_and_not_on_its_place_in_the_batch():
    layer = SeededDropout(0.5, salt=3)
    x = tf.constant(normal(4, 5, 6, 7))
    seeds = tf.constant([[1, 0], [2, 0], [3, 0], [1, 1]])
    y = layer(x, seeds).numpy()
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(layer(tf.gather(x, order), tf.gather(seeds, order)), y[order])
    np.testing.assert_array_equal(layer(x[1:2], seeds[1:2])[0], y[1])
    dropped = (y == 0).reshape(4, -1)
    for a in range(4):
        for b in range(a):
            assert 0.3 < np.mean(dropped[a] == dropped[b]) < 0.7  # independent coins agree half the time


def test_layers_with_different_salts_drop_different_units():
    x, seeds = tf.ones([1, 20, 20, 8]), tf.constant([[5, 6]])
    one, other = (SeededDropout(0.5, salt=salt)(x, seeds).numpy() for salt in (0, 1))
    assert 0.4 < np.mean(one == other) < 0.6


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_rate(rate):
    y = SeededDropout(rate, salt=0)(tf.ones([2, 40, 40, 16]), tf.constant([[1, 2], [3, 4]])).numpy()
    # 51,200 units: a standard deviation of the share is below 0.0023, of the mean below 0.014.
    assert np.mean(y == 0) == pytest.approx(rate, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)


def test_without_seeds_or_rate_nothing_is_dropped():
    x = tf.constant(normal(1, 3, 3, 2))
    np.testing.assert_array_equal(SeededDropout(0.5, salt=0)(x), x)
    np.testing.assert_array_equal(SeededDropout(0.0, salt=0)(x, tf.constant([[1, 2]])), x)
    with pytest.raises(ValueError, match=r"dropout rate must be in \[0, 1\), got 1"):
        SeededDropout(1, salt=0)


def test_dropout_in_a_network_is_repeatable_and_off_without_seeds():
    model = tiny_network(hidden_units=16, scales=(1.0, 0.5))
    x = images(33, 33, count=2)
    seeds = tf.constant([[1, 2], [3, 4]])
    np.testing.assert_array_equal(model(x, seeds), model(x, seeds))
    np.testing.assert_array_equal(model(x), model(x))
    assert np.abs(model(x, seeds) - model(x)).max() > 0.1
    assert np.abs(model(x, seeds) - model(x, seeds + 1)).max() > 0.1
    np.testing.assert_allclose(model(x[::-1], seeds[::-1])[::-1], model(x, seeds), atol=1e-5)


def test_branches_and_scales_drop_different_units():
    x, seeds = tf.ones([1, 33, 33, 3]) * 128, tf.constant([[1, 2]])
    head = built(ASPP(2, (1, 1), hidden_units=16), None, None, 4)
    for name in ("fc6", "fc7", "fc8"):
        getattr(head, f"{name}_2").set_weights(getattr(head, f"{name}_1").get_weights())
    features = tf.constant(normal(1, 5, 5, 4))
    one, other = (head._branch(features, suffix, seeds) for suffix in ("_1", "_2"))
    assert np.abs(one - other).max() > 1e-3
    model = tiny_network(hidden_units=16, scales=(1.0, 1.0))
    maps = model.score_maps(x, seeds)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
