import json
import math
import struct

import h5py
import numpy as np
import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import find_fit, list_tensors, load_weights
from deeplab_tf.weights.__main__ import convert, inspect
from tests import oracles


def shapes_only(path, parameters):
    """A .safetensors file with the names and shapes of a network, zeros inside: a hole that takes no disk."""
    header, end = {}, 0
    for name, shape in parameters:
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return str(path)


def resized(parameters, changes):
    return [(name, changes.get(name, shape)) for name, shape in parameters]


def test_a_resnet_file_fits_the_network_of_its_depth_and_head(tmp_path):
    aspp = oracles.resnet_parameters(50, num_classes=9)
    path = shapes_only(tmp_path / "aspp.safetensors", aspp)
    assert find_fit(path) == (("resnet50_aspp", "resnet50_aspp_msc"), 9)
    one = [entry for entry in aspp if not entry[0].startswith(("base.aspp.c1", "base.aspp.c2", "base.aspp.c3"))]
    path = shapes_only(tmp_path / "large_fov.safetensors", one)
    assert find_fit(path) == (("resnet50_large_fov", "resnet50_large_fov_msc"), 9)
    path = shapes_only(tmp_path / "plain.safetensors", resized(one, {"base.aspp.c0.weight": (9, 2048, 1, 1)}))
    assert find_fit(path) == (("resnet50", "resnet50_msc"), 9)
    deep = oracles.resnet_parameters(101, num_classes=9)
    headers = [entry for entry in deep if "layer4" in entry[0] or "aspp" in entry[0]]
    path = shapes_only(tmp_path / "deep.safetensors", headers)
    assert find_fit(path) == (("resnet101_aspp", "resnet101_aspp_msc"), 9)


def test_a_vgg_file_fits_every_experiment_with_its_weights(tmp_path):
    path = shapes_only(tmp_path / "large_fov.safetensors", oracles.vgg16_parameters(1, num_classes=5))
    assert find_fit(path) == (("vgg16_large_fov",), 5)
    heads = [entry for entry in oracles.vgg16_parameters(4, num_classes=5) if entry[0].startswith("fc")]
    assert find_fit(shapes_only(tmp_path / "aspp.safetensors", heads)) == (("vgg16_aspp_s", "vgg16_aspp_l"), 5)
    four = [("fc6.weight", (4096, 512, 4, 4)), ("fc8_pascal.weight", (5, 4096, 1, 1))]
    assert find_fit(shapes_only(tmp_path / "4x4.safetensors", four)) == (("vgg16_4x4_r4", "vgg16_4x4_r8"), 5)


def test_a_trunk_without_a_head_fits_nothing(tmp_path):
    path = shapes_only(tmp_path / "trunk.safetensors", [("conv1_1.weight", (64, 3, 3, 3))])
    assert find_fit(path) is None
    with pytest.raises(UserError, match="holds no classifier"):
        convert(path, str(tmp_path / "out.weights.h5"), "", False)


def test_inspect_lists_names_shapes_and_the_fit(tmp_path, capsys):
    path = shapes_only(tmp_path / "w.safetensors", oracles.vgg16_parameters(1, num_classes=5))
    inspect(path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["conv1_1.weight", "float32", "64x3x3x3"]
    assert lines[-2:] == ["32 tensors, 20.5M values", "fits vgg16_large_fov; 5 classes"]


def test_inspect_lists_any_hdf5_file_without_reading_its_arrays(tmp_path, capsys):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("block1_conv1/kernel:0", (1 << 20, 1 << 20), np.float32)  # 4 TiB, never allocated
    inspect(str(tmp_path / "huge.h5"))
    assert "1048576x1048576" in capsys.readouterr().out


def test_converted_weights_are_the_same_weights(tmp_path):
    parameters = {name: oracles.parameter(name, shape) for name, shape in oracles.vgg16_parameters(1, num_classes=5)}
    source, target = str(tmp_path / "w.npz"), str(tmp_path / "w.weights.h5")
    np.savez(source, **parameters)
    convert(source, target, "", False)
    assert find_fit(target) == (("vgg16_large_fov",), 5)
    assert len(list_tensors(target)) == len(parameters)
    straight, converted = build_model("vgg16_large_fov", 5), build_model("vgg16_large_fov", 5)
    load_weights(straight, source)
    report = load_weights(converted, target)
    assert not report.missing and not report.skipped
    for one, other in zip(straight.variables, converted.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    with pytest.raises(UserError, match=r"w\.weights\.h5 exists.*--overwrite"):
        convert(source, target, "", False)


def test_an_incomplete_file_is_not_converted(tmp_path):
    parameters = {name: np.zeros(shape, np.float32) for name, shape in oracles.vgg16_parameters(1, num_classes=5)}
    del parameters["conv3_2.bias"]
    source, target = str(tmp_path / "w.npz"), tmp_path / "w.weights.h5"
    np.savez(source, **parameters)
    with pytest.raises(UserError, match=r"1 tensors are missing, such as conv3_2/bias\. Nothing was written"):
        convert(source, str(target), "", False)
    assert not target.exists()


def test_a_target_that_is_no_weights_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"files ending \.weights\.h5, got out\.h5"):
        convert("w.npz", "out.h5", "", False)


def test_a_file_that_is_missing_or_of_another_format_is_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"x")
    (tmp_path / "w.npz").write_bytes(b"x")
    for name, message in (("none.npz", "no weights file"), ("w.bin", "weights files end"), ("w.npz", "damaged")):
        with pytest.raises(UserError, match=message):
            inspect(str(tmp_path / name))
