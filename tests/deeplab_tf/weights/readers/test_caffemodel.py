import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import load_weights
from deeplab_tf.weights.names import match_released
from deeplab_tf.weights.readers import caffemodel
from tests import oracles
from tests.caffe_files import Layer, write
from tests.tiny import tiny_network

HERE = Path(__file__).resolve()
ROOT = HERE.parents[4]
COMMITTED = HERE.parents[3] / "data" / "oracles.npz"
BOUND = 1e-4  # of the standard deviation, see test_oracles.py


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def convolution(name, outputs=5, inputs=3, size=3):
    return Layer(name, "Convolution", (draw(outputs, inputs, size, size), draw(outputs)))


def read(path):
    tensors = list(caffemodel.read(str(path)))
    assert len({name for name, _ in tensors}) == len(tensors)
    return dict(tensors)


def assert_same(tensors, expected):
    assert list(tensors) == list(expected)
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=array.dtype == np.float32)


# The format


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"v1": True},
        {"legacy_shapes": True},
        {"packed": False},
        {"v1": True, "packed": False},
        {"double": True},
        {"double": True, "packed": False},
    ],
    ids=str,
)
def test_every_form_of_the_file_gives_the_same_tensors(tmp_path, form):
    # More than 2**20 numbers: where each has its own key, they are counted in several steps.
    layers = [Layer("data", "Data"), convolution("conv1_1"), Layer("relu1_1", "ReLU"), convolution("fc6", 1201, 98)]
    write(tmp_path / "net.caffemodel", layers, **form)
    expected = {
        f"{layer.name}.{leaf}": blob
        for layer in layers
        for leaf, blob in zip(("weight", "bias"), layer.blobs, strict=False)
    }
    assert_same(read(tmp_path / "net.caffemodel"), expected)


def test_a_kernel_without_bias_gives_one_tensor(tmp_path):
    write(tmp_path / "net.caffemodel", [Layer("res2a_branch1", "Convolution", (draw(4, 3, 1, 1),))])
    assert_same(read(tmp_path / "net.caffemodel"), {"res2a_branch1.weight": draw(4, 3, 1, 1)})


@pytest.mark.parametrize("v1", [False, True])
def test_inner_products_are_matrices(tmp_path, v1):
    write(tmp_path / "net.caffemodel", [Layer("fc8", "InnerProduct", (draw(7, 5), draw(7)))], v1=v1)
    assert_same(read(tmp_path / "net.caffemodel"), {"fc8.weight": draw(7, 5), "fc8.bias": draw(7)})


@pytest.mark.parametrize("legacy_shapes", [False, True])
def test_batch_normalisation_is_divided_by_its_factor(tmp_path, legacy_shapes):
    mean, variance = draw(6), np.abs(draw(6, seed=1))
    factor = np.array([999.98], np.float32)
    layers = [
        Layer("bn_conv1", "BatchNorm", (mean * factor, variance * factor, factor)),
        Layer("scale_conv1", "Scale", (draw(6, seed=2), draw(6, seed=3))),
    ]
    write(tmp_path / "net.caffemodel", layers, legacy_shapes=legacy_shapes)
    tensors = read(tmp_path / "net.caffemodel")
    assert list(tensors) == [
        "bn_conv1.running_mean",
        "bn_conv1.running_var",
        "scale_conv1.weight",
        "scale_conv1.bias",
    ]
    # Two roundings of float32, of the product above and of the quotient.
    np.testing.assert_allclose(tensors["bn_conv1.running_mean"], mean, rtol=2.0**-22)
    np.testing.assert_allclose(tensors["bn_conv1.running_var"], variance, rtol=2.0**-22)
    np.testing.assert_array_equal(tensors["scale_conv1.weight"], draw(6, seed=2), strict=True)
    np.testing.assert_array_equal(tensors["scale_conv1.bias"], draw(6, seed=3), strict=True)


def test_a_factor_of_zero_makes_the_statistics_zero(tmp_path):
    write(tmp_path / "net.caffemodel", [Layer("bn_conv1", "BatchNorm", (draw(6), draw(6), np.zeros(1, np.float32)))])
    zeros = np.zeros(6, np.float32)
    assert_same(read(tmp_path / "net.caffemodel"), {"bn_conv1.running_mean": zeros, "bn_conv1.running_var": zeros})


def test_batch_normalisation_without_its_factor_is_refused(tmp_path):
    write(tmp_path / "net.caffemodel", [Layer("bn_conv1", "BatchNorm", (draw(6), draw(6)))])
    with pytest.raises(ValueError, match=r"batch normalisation bn_conv1 with blobs of shapes \[\(6,\), \(6,\)\]"):
        read(tmp_path / "net.caffemodel")


def test_arrays_outlive_the_reader(tmp_path):
    write(tmp_path / "net.caffemodel", [convolution("conv1_1")])
    array = next(caffemodel.read(str(tmp_path / "net.caffemodel")))[1]
    (tmp_path / "net.caffemodel").unlink()
    np.testing.assert_array_equal(array, draw(5, 3, 3, 3))
    assert not array.flags.writeable and not array.flags.owndata


# Bytes that Google's library would not write. A key is number << 3 | wire type.


def varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def field(number, content):
    """A field of bytes, or of a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(shape, values, dtype="<f4"):
    return field(7, field(7, field(1, b"".join(map(varint, shape)))) + field(5, np.array(values, dtype).tobytes()))


def layer(*parts, name=b"conv1_1"):
    return field(100, field(1, name) + field(2, b"Convolution") + b"".join(parts))


def test_the_bytes_of_these_tests_are_a_caffemodel(tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(layer(blob([1, 2], [3, 4]), blob([1], [5])))
    expected = {"conv1_1.weight": np.float32([[3, 4]]), "conv1_1.bias": np.float32([5])}
    assert_same(read(tmp_path / "net.caffemodel"), expected)


def test_unknown_fields_of_every_kind_are_skipped(tmp_path):
    unknown = (
        field(3000, b"text") + field(31, 2**64 - 1) + varint(32 << 3 | 5) + b"1234" + varint(33 << 3 | 1) + b"8" * 8
    )
    numbers = field(5, np.float32([3, 4]).tobytes())
    strange = field(7, unknown + field(7, unknown + field(1, b"\x02")) + unknown + numbers + unknown)
    (tmp_path / "net.caffemodel").write_bytes(unknown + layer(unknown, strange, unknown) + unknown)
    assert_same(read(tmp_path / "net.caffemodel"), {"conv1_1.weight": np.float32([3, 4])})


def test_numbers_in_several_pieces_are_joined(tmp_path):
    one = varint(5 << 3 | 5) + np.float32(3).tobytes()
    pieces = one + field(5, np.float32([4, 5]).tobytes()) + field(1, 5) + field(3, 1) + one + one
    (tmp_path / "net.caffemodel").write_bytes(layer(field(7, pieces + field(2, 1) + field(4, 1))))
    assert_same(read(tmp_path / "net.caffemodel"), {"conv1_1.weight": np.float32([3, 4, 5, 3, 3]).reshape(5, 1, 1, 1)})


def test_the_name_may_follow_the_blobs(tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(field(100, blob([1], [5]) + field(1, b"conv1_1")))
    assert_same(read(tmp_path / "net.caffemodel"), {"conv1_1.weight": np.float32([5])})


def nested(number, depth):
    content = b""
    for _ in range(depth):
        content = field(number, content)
    return content


TWO = np.zeros(2, np.float32).tobytes()
NEGATIVE = varint(2**64 - 2)
DAMAGED = {
    "a shape too large": (layer(blob([2, 2], [1, 2])), r"shape \(2, 2\) with 2 values"),
    "a shape that would fill the memory": (layer(blob([2**40, 2**20], [1, 2])), "with 2 values"),
    "a product that overflows 64 bits": (layer(blob([2**32, 2**32, 2], [1, 2])), "with 2 values"),
    "negative dimensions": (
        layer(field(7, field(7, field(1, NEGATIVE + varint(2**64 - 1))) + field(5, TWO))),
        r"shape \(-2, -1\) with 2 values",
    ),
    "a negative dimension of nothing": (
        layer(field(7, field(7, field(1, NEGATIVE + varint(0))))),
        r"shape \(-2, 0\) with 0 values",
    ),
    "a negative legacy dimension": (
        layer(field(7, b"\x08" + NEGATIVE + field(2, 1) + field(3, 1) + field(4, 1) + field(5, TWO))),
        r"shape \(-2, 1, 1, 1\)",
    ),
    "no shape": (layer(field(7, field(5, TWO))), r"shape \(\) with 2 values"),
    "no numbers": (layer(blob([2], [])), "with 0 values"),
    "a shape of many dimensions": (layer(field(7, field(7, field(1, b"\x01" * 10**6)))), "more than 32 dimensions"),
    "a part of a number": (layer(field(7, field(5, TWO[:-1]))), "7 bytes of numbers of 4 bytes"),
    "a length past the end": (b"\xa2\x06" + varint(2**40) + b"12", "no field of a message at byte 0"),
    "a length past the end of its message": (field(100, b"\x3a\x7f") + b"1" * 200, "no field of a message"),
    "a number of eleven bytes": (field(100, b"\x50" + b"\x80" * 10 + b"\x01"), "no number at byte"),
    "an unfinished number": (b"\xa2", "no number at byte 0"),
    "a group": (field(100, b"\x0b\x0c"), "no field of a message"),
    "a field of number 0": (b"\x00\x00", "no field of a message at byte 0"),
    "a fixed number past the end": (field(100, b"\x55\x00\x00\x00"), "no field of a message"),
    "a name that is no text": (layer(blob([1], [1]), name=b"conv\xff"), "can't decode byte 0xff"),
    "a name of two lines": (layer(blob([1], [1]), name=b"conv\nerror"), r"the name 'conv\\nerror'"),
    "a name of a megabyte": (layer(blob([1], [1]), name=b"c" * 10**6), "a name of 1000000 bytes"),
    "messages in messages": (field(100, nested(7, 5000)), r"shape \(\) with 0 values"),
    "another format": (b"<!DOCTYPE html><html>", "no field of a message at byte 0"),
    "nothing": (b"", "empty file"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_gives_one_line(tmp_path, damage):
    content, message = DAMAGED[damage]
    (tmp_path / "net.caffemodel").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        load_weights(tiny_network(), str(tmp_path / "net.caffemodel"))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize("content", [b"\x08\x01", varint(9 << 3 | 5) + b"1234" + b"\x08\x01"], ids=["small", "mixed"])
def test_a_file_of_nothing_but_small_fields_is_given_up_early(tmp_path, monkeypatch, content):
    monkeypatch.setattr(caffemodel, "_MOST_FIELDS", 1000)
    (tmp_path / "net.caffemodel").write_bytes(content * 1001)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        read(tmp_path / "net.caffemodel")


def tiny_layers(model):
    """The layers of a tiny network as a Caffe file would have them, with a batch normalisation that is skipped."""
    values = {"/".join(variable.path.split("/")[-2:]): variable.numpy() for variable in model.variables}
    names = dict.fromkeys(name.split("/")[0] for name in values)
    layers = [
        Layer(name, "Convolution", (values[f"{name}/kernel"].transpose(3, 2, 0, 1), values[f"{name}/bias"]))
        for name in names
    ]
    return [*layers, Layer("bn_conv1_res05", "BatchNorm", (draw(6), draw(6), draw(1)))]


def assert_loads_or_is_refused(model, path, content):
    """Within a megabyte, and without a hang, whatever the bytes are; returns whether they were refused."""
    path.write_bytes(content)
    started = time.process_time()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        load_weights(model, str(path))
        refused = False
    except UserError as error:
        assert "\n" not in str(error)
        refused = True
    assert tracemalloc.get_traced_memory()[1] - before < 10**6
    assert time.process_time() - started < 10  # milliseconds are usual
    return refused


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("form", [{}, {"v1": True, "packed": False}], ids=str)
def test_a_file_cut_anywhere_loads_in_part_or_is_refused(tmp_path, traced, form):
    model = tiny_network()
    layers = tiny_layers(model)
    write(tmp_path / "net.caffemodel", layers[:3] if form else layers, **form)
    content = (tmp_path / "net.caffemodel").read_bytes()
    lengths = [*range(0, 200), *range(200, len(content), 41), len(content)]
    refused = [assert_loads_or_is_refused(model, tmp_path / "cut.caffemodel", content[:length]) for length in lengths]
    assert sum(refused) > 0.9 * len(lengths) and not refused[-1]


@pytest.mark.parametrize("form", [{}, {"v1": True, "packed": False}], ids=str)
def test_a_file_with_flipped_bits_loads_or_is_refused(tmp_path, traced, form):
    model = tiny_network()
    layers = tiny_layers(model)
    write(tmp_path / "net.caffemodel", layers[:3] if form else layers, **form)
    content = (tmp_path / "net.caffemodel").read_bytes()
    # Most bytes are numbers; half of the flips go where the structure is.
    structure = np.flatnonzero([content[i : i + 4].isascii() for i in range(len(content))])
    rng = np.random.default_rng(4)
    refused = 0
    for trial in range(300):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            position = rng.choice(structure) if trial % 2 else rng.integers(len(content))
            damaged[position] ^= 1 << rng.integers(8)
        refused += assert_loads_or_is_refused(model, tmp_path / "flipped.caffemodel", bytes(damaged))
    assert 20 < refused < 300


def test_values_that_become_infinite_as_float32_are_refused(tmp_path):
    model = tiny_network()
    layers = tiny_layers(model)
    kernel, bias = (array.astype(np.float64) for array in layers[0].blobs)
    bias[1] = 1e300
    write(tmp_path / "net.caffemodel", [layers[0]._replace(blobs=(kernel, bias))], double=True)
    with pytest.raises(UserError, match=r"conv1_1\.bias holds values that are not finite"):
        load_weights(model, str(tmp_path / "net.caffemodel"))


# Names


def matched(variables, *names, ndim=4):
    tensors = [(name, np.zeros((1,) * (ndim if name.endswith("weight") else 1), np.float32)) for name in names]
    return {tensor.name: tensor.target or tensor.reason for tensor in match_released(tensors, variables)}


ASPP = [f"fc1_{branch}/kernel" for branch in (1, 2, 3, 4)]
ONE = ["fc1/kernel"]
VGG_ASPP = [f"fc8_{branch}/kernel" for branch in (1, 2, 3, 4)]
VGG = ["fc8/kernel"]


@pytest.mark.parametrize(
    ("variables", "name", "target"),
    [
        (ASPP, "fc1_voc12_c0.weight", "fc1_1/kernel"),
        (ASPP, "fc1_voc12_c3.bias", "fc1_4/bias"),
        (ASPP, "fc1_c2.bias", "fc1_3/bias"),
        (ASPP, "fc1_pascal_context_c1.weight", "fc1_2/kernel"),
        (ONE, "fc1_voc12.weight", "fc1/kernel"),
        (ONE, "fc1_voc12_c0.bias", "fc1/bias"),
        (ONE, "fc1_voc10_part.bias", "fc1/bias"),
        (VGG, "fc8_voc12.weight", "fc8/kernel"),
        (VGG, "fc8_pascal.weight", "fc8/kernel"),
        (VGG, "fc8_pascal_context.bias", "fc8/bias"),
        (VGG, "fc8_voc_2012.bias", "fc8/bias"),
        (VGG, "fc8.weight", "fc8/kernel"),
        (VGG_ASPP, "fc8_voc12_1.weight", "fc8_1/kernel"),
        (VGG_ASPP, "fc8_pascal_context_4.bias", "fc8_4/bias"),
        (VGG_ASPP, "fc8_2.bias", "fc8_2/bias"),
        (VGG, "fc6.weight", "fc6/kernel"),
        (VGG_ASPP, "fc7_3.bias", "fc7_3/bias"),
        (VGG, "conv4_3.weight", "conv4_3/kernel"),
        (ONE, "conv1.weight", "conv1/kernel"),
        (ONE, "bn_conv1.running_mean", "conv1/moving_mean"),
        (ONE, "scale_conv1.bias", "conv1/beta"),
        (ONE, "res4b22_branch2b.weight", "res4b22_branch2b/kernel"),
        (ONE, "bn4b22_branch2b.running_var", "res4b22_branch2b/moving_variance"),
        (ONE, "scale5a_branch1.weight", "res5a_branch1/gamma"),
    ],
)
def test_a_name_of_the_released_networks_is_translated(variables, name, target):
    assert matched(variables, name) == {name: target}


@pytest.mark.parametrize("suffix", ["_res05", "_res075"])
@pytest.mark.parametrize(
    "layer",
    [
        "conv1",
        "bn_conv1",
        "scale_conv1",
        "res4b22_branch2b",
        "bn5a_branch1",
        "scale2a_branch2c",
        "fc1_voc12_c0",
        "fc8_voc12",
    ],
)
def test_copies_for_the_other_scales_are_skipped(layer, suffix):
    leaf = "running_var" if layer.startswith("bn") else "bias"
    [reason] = matched(ASPP, f"{layer}{suffix}.{leaf}").values()
    assert reason == "a copy for another scale of the input, which shares its weights"


def test_a_layer_of_res5_is_no_copy():
    assert matched(ASPP, "res5a_branch2a.weight") == {"res5a_branch2a.weight": "res5a_branch2a/kernel"}


@pytest.mark.parametrize(
    ("variables", "layer", "ndim"), [(ASPP, "fc1000", 2), (ONE, "fc1000", 4), (VGG, "fc8", 2), (VGG_ASPP, "fc8", 2)]
)
def test_a_classifier_of_imagenet_is_skipped(variables, layer, ndim):
    names = f"{layer}.weight", f"{layer}.bias"
    assert matched(variables, *names, ndim=ndim) == dict.fromkeys(names, "a replaced classifier")


def test_fully_connected_layers_are_skipped_with_their_biases():
    names = "fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"
    assert matched(VGG, *names, ndim=2) == dict.fromkeys(names, "a fully connected layer, here a convolution")


@pytest.mark.parametrize(("variables", "layer"), [(ASPP, "fc1_coco"), (VGG_ASPP, "fc8_voc12"), (VGG_ASPP, "fc8")])
def test_a_classifier_of_one_branch_is_skipped_where_the_network_has_several(variables, layer):
    name = f"{layer}.weight"
    assert matched(variables, name) == {name: "a classifier of one branch, the network has several"}


def test_other_fully_connected_layers_are_not_skipped():
    assert matched(VGG, "embedding.weight", ndim=2) == {"embedding.weight": "embedding/kernel"}


def test_a_layer_that_the_network_lacks_is_refused(tmp_path):
    write(tmp_path / "net.caffemodel", [convolution("pool1_conv")])
    with pytest.raises(UserError, match=r"pool1_conv\.weight, which matches nothing in this network"):
        load_weights(tiny_network(), str(tmp_path / "net.caffemodel"))


def test_a_third_blob_is_refused(tmp_path):
    layers = tiny_layers(tiny_network())
    write(tmp_path / "net.caffemodel", [layers[0]._replace(blobs=(*layers[0].blobs, draw(3)))])
    with pytest.raises(UserError, match=r"conv1_1\.blob2, which matches nothing in this network"):
        load_weights(tiny_network(), str(tmp_path / "net.caffemodel"))


def test_a_classifier_of_other_classes_and_another_kernel_is_skipped(tmp_path):
    """The COCO network that the released ResNet-101 starts from: 91 classes, 1x1."""
    model = tiny_network()
    layers = [*tiny_layers(model)[:1], convolution("fc1_1", 91, 8, 1), convolution("fc1_coco", 91, 8, 1)]
    write(tmp_path / "net.caffemodel", layers)
    report = load_weights(model, str(tmp_path / "net.caffemodel"))
    assert report.loaded == ("conv1_1/kernel", "conv1_1/bias")
    reasons = {"a classifier of 91 classes, the network has 3", "a classifier of one branch, the network has several"}
    assert {reason for _, reason in report.skipped} == reasons and len(report.skipped) == 4


# Whole networks


def caffe_layers(parameters):
    """The layers of a network in the names and order of the released Caffe files.

    Args:
        parameters: names and shapes from `oracles`, Caffe's for VGG-16 and deeplab-pytorch's for ResNet.
    """
    values = {name: oracles.parameter(name, shape) for name, shape in parameters}
    for name in values:
        layer, leaf = name.rsplit(".", 1)
        if leaf != "weight" or layer.endswith(".bn"):
            continue
        if not layer.startswith("base."):
            yield Layer(layer, "Convolution", (values[name], values[f"{layer}.bias"]))
        elif match := re.fullmatch(r"base\.aspp\.c(\d)", layer):
            yield Layer(f"fc1_voc12_c{match[1]}", "Convolution", (values[name], values[f"{layer}.bias"]))
        else:
            unit = layer.removesuffix(".conv")
            suffix = caffe_unit(unit)
            yield Layer("conv1" if suffix == "_conv1" else f"res{suffix}", "Convolution", (values[name],))
            factor = np.array([999.98], np.float32)
            mean, variance = values[f"{unit}.bn.running_mean"], values[f"{unit}.bn.running_var"]
            yield Layer(f"bn{suffix}", "BatchNorm", (mean * factor, variance * factor, factor))
            yield Layer(f"scale{suffix}", "Scale", (values[f"{unit}.bn.weight"], values[f"{unit}.bn.bias"]))
            yield Layer(f"res{suffix}_relu", "ReLU")


def caffe_unit(unit):
    """base.layer4.block3.reduce -> 4b2_branch2a, as the 101-layer network counts."""
    if unit == "base.layer1.conv1":
        return "_conv1"
    stage, block, branch = re.fullmatch(r"base\.layer(\d)\.block(\d+)\.(\w+)", unit).groups()
    position = int(block) - 1
    tail = f"b{position}" if stage in "34" and position else "abc"[position]
    return f"{stage}{tail}_branch{dict(shortcut='1', reduce='2a', conv3x3='2b', increase='2c')[branch]}"


def with_copies(layers):
    """The multi-scale network: every layer once more for each other scale, with the same weights."""
    layers = list(layers)
    return [layer._replace(name=layer.name + suffix) for suffix in ("", "_res075", "_res05") for layer in layers]


def assert_meets_the_oracle(experiment, layers, tmp_path, skipped=0, **form):
    path = tmp_path / "net.caffemodel"
    write(path, layers, **form)
    model = build_model(experiment, num_classes=21)
    report = load_weights(model, str(path))
    path.unlink()
    assert not report.missing and len(report.skipped) == skipped
    size = {"resnet101_aspp_msc": (129, 129, 1)}.get(experiment, (65, 97, 2))
    logits = model(oracles.image(*size)).numpy()
    with np.load(COMMITTED) as arrays:
        difference = np.abs(logits.ravel()[arrays[f"{experiment}_positions"]] - arrays[experiment]).max()
        assert difference <= BOUND * arrays[f"{experiment}_deviation"]


def test_the_large_fov_network_of_an_old_file_meets_its_oracle(tmp_path):
    assert_meets_the_oracle("vgg16_large_fov", caffe_layers(oracles.vgg16_parameters(1)), tmp_path, v1=True)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["vgg16_aspp_s", "vgg16_aspp_l"])
def test_the_vgg_aspp_networks_meet_their_oracles(tmp_path, experiment):
    assert_meets_the_oracle(experiment, caffe_layers(oracles.vgg16_parameters(4)), tmp_path)


@pytest.mark.slow
def test_resnet_101_aspp_meets_its_oracle(tmp_path):
    assert_meets_the_oracle("resnet101_aspp", caffe_layers(oracles.resnet_parameters(101)), tmp_path)


@pytest.mark.slow
def test_the_multi_scale_resnet_101_meets_its_oracle(tmp_path):
    layers = with_copies(caffe_layers(oracles.resnet_parameters(101)))
    tensors_of_a_scale = 104 * 5 + 8
    assert_meets_the_oracle("resnet101_aspp_msc", layers, tmp_path, skipped=2 * tensors_of_a_scale)


MEASURE = """
import sys
import numpy as np
from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import load_weights

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

model = build_model(sys.argv[1], num_classes=21)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = status("VmRSS")
report = load_weights(model, sys.argv[2])
assert not report.missing, report
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measured with /proc")
def test_loading_needs_at_most_a_fifth_more_than_the_size_of_the_file(tmp_path):
    path = tmp_path / "net.caffemodel"
    layers = [layer for layer in caffe_layers(oracles.vgg16_parameters(1)) if layer.name.startswith("conv")]
    layers += [
        convolution("fc6", 4096, 512, 4),
        convolution("fc7", 4096, 4096, 1),
        convolution("fc8_voc12", 21, 4096, 1),
    ]
    write(path, layers)
    command = [sys.executable, "-c", MEASURE, "vgg16_4x4_r4", str(path)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert path.stat().st_size > 250e6
    assert int(output) < 1.2 * path.stat().st_size
