"""Keras applications' files: the same features as Keras' own networks, the surgery, the cache, and damaged files."""

import dataclasses
import functools
import hashlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.applications import resnet as keras_resnet
from keras.applications import vgg16 as keras_vgg16

from deeplab_tf.config import Config, ModelConfig, TrainConfig
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.networks.resnet import ResNet50, ResNet101
from deeplab_tf.networks.vgg import VGG16
from deeplab_tf.training import loop as training
from deeplab_tf.weights import keras_cache, load_imagenet, load_weights
from tests import keras_files
from tests.tiny import tiny_network

ROOT = Path(__file__).resolve().parents[3]
CHANNELS, UNITS = 4, 16  # of the narrow VGG-16: 512 and 4096 in the real one
HEAD = {"rates": (4,), "kernel_size": 7, "hidden_units": UNITS}


def values_of(model):
    return {"/".join(variable.path.split("/")[-2:]): variable.numpy() for variable in model.variables}


def images(height, width):
    return np.random.default_rng(7).uniform(0, 255, (2, height, width, 3)).astype(np.float32)


def assert_close(ours, theirs):
    """Up to rounding: 1e-5 of the largest value."""
    assert ours.shape == theirs.shape and theirs.std() > 1e-3 * np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


# The trunks, against Keras' own networks


def random_resnet(depth):
    """A ResNet of Keras with random weights, biases and statistics; gamma keeps the residuals from exploding."""
    build = {50: keras_resnet.ResNet50, 101: keras_resnet.ResNet101}[depth]
    network = build(weights=None, include_top=False, input_shape=(None, None, 3))
    rng = np.random.default_rng(depth)
    for variable in network.variables:
        ranges = {"gamma": (0.3, 0.7), "moving_variance": (0.5, 1.5)}
        if variable.name in ranges:
            variable.assign(rng.uniform(*ranges[variable.name], variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(rng.standard_normal(variable.shape) * 0.1)
    # So small a variance, and Keras' epsilon instead of ours makes 5e-4 of a difference.
    norm = network.get_layer("conv1_bn")
    norm.moving_variance.assign(np.where(np.arange(64) < 8, 1e-6, norm.moving_variance))
    return network


def resnet_network(depth):
    return build_network(ModelConfig(f"resnet{depth}", (1,), 1, hidden_units=0), num_classes=2)


def assert_resnet_agrees(theirs, ours, path, sizes):
    report = load_imagenet(ours, path)
    assert report.missing == ("fc1/kernel", "fc1/bias")
    for size in sizes:
        x = keras_resnet.preprocess_input(images(*size))  # minus Keras' mean, not ours
        dense = ours.backbone(x).numpy()  # at output stride 8
        assert_close(dense[:, ::4, ::4], theirs(x).numpy())


@pytest.fixture(scope="module")
def keras_resnet50():
    return random_resnet(50)


@pytest.fixture(scope="module")
def resnet50():
    return resnet_network(50)


@pytest.fixture(scope="module")
def resnet50_file(keras_resnet50, tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet50.h5"
    yield keras_files.write(path, keras_files.layers_of(keras_resnet50))
    path.unlink()


def test_resnet50_has_the_features_of_keras_resnet50(keras_resnet50, resnet50, resnet50_file):
    assert_resnet_agrees(keras_resnet50, resnet50, resnet50_file, [(65, 65), (33, 97)])


@pytest.mark.slow
def test_resnet101_has_the_features_of_keras_resnet101(tmp_path):
    theirs = random_resnet(101)
    path = keras_files.write(tmp_path / "resnet101.h5", keras_files.layers_of(theirs))
    assert_resnet_agrees(theirs, resnet_network(101), path, [(65, 97), (129, 129)])
    Path(path).unlink()


def max_pool_by_3(x):
    """3x3, stride 2, one cell of padding that never wins."""
    height, width = (x.shape[1] - 1) // 2 + 1, (x.shape[2] - 1) // 2 + 1
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = [padded[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2] for i in range(3) for j in range(3)]
    return np.max(windows, axis=0)


def test_vgg16_has_the_features_of_keras_layers_with_caffes_pools(tmp_path):
    theirs = keras_vgg16.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    convolutions = [layer for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)]
    rng = np.random.default_rng(0)
    for layer in convolutions:
        layer.bias.assign(rng.standard_normal(layer.bias.shape) * 0.1)
    trunk = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in convolutions]
    path = keras_files.write(tmp_path / "vgg16.h5", keras_files.vgg16_layers(trunk))
    ours = build_network(ModelConfig(hidden_units=2), num_classes=2)
    load_imagenet(ours, path)
    Path(path).unlink()
    x = keras_vgg16.preprocess_input(images(65, 97))
    y = x
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.MaxPooling2D) and layer.name != "block5_pool":
            y = max_pool_by_3(np.asarray(y))
        elif isinstance(layer, keras.layers.Conv2D):
            y = layer(y)
    dense = ours.backbone(x, before_pool5=True).numpy()
    assert_close(dense[:, ::2, ::2], y.numpy())


# The surgery, on a VGG-16 that is narrow and otherwise the same


NARROW_BLOCKS = {block: (count, CHANNELS) for block, count in keras_files.VGG_CONVOLUTIONS.items()}


@pytest.fixture(scope="module")
def narrow_vgg():
    @functools.cache
    def build(**model):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VGG16, "BLOCKS", NARROW_BLOCKS)
            return build_network(ModelConfig(**{**HEAD, **model}), num_classes=2)

    return build


@pytest.fixture
def narrow_layers():
    """Random arrays; fc1's biases are the numbers of its units, fc2's these and 100."""
    rng = np.random.default_rng(1)
    trunk = [
        (rng.standard_normal((3, 3, 3 if i == 0 else CHANNELS, CHANNELS)), rng.standard_normal(CHANNELS))
        for i in range(13)
    ]
    hidden = [
        (rng.standard_normal((7 * 7 * CHANNELS, UNITS)), np.arange(UNITS)),
        (rng.standard_normal((UNITS, UNITS)), 100 + np.arange(UNITS)),
        (rng.standard_normal((UNITS, 1000)), rng.standard_normal(1000)),
    ]
    as_float32 = [
        [(kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in part] for part in (trunk, hidden)
    ]
    return keras_files.vgg16_layers(*as_float32)


@pytest.fixture
def narrow_file(narrow_layers, tmp_path):
    return keras_files.write(tmp_path / "narrow.h5", narrow_layers)


def test_the_7x7_head_is_the_dense_layers_at_the_centre_cell(narrow_vgg, narrow_layers, narrow_file):
    model = narrow_vgg()
    report = load_imagenet(model, narrow_file)
    assert report.missing == ("fc8/kernel", "fc8/bias")
    assert report.skipped == tuple(
        (f"predictions/predictions_{leaf}_1:0", "the classifier of ImageNet's classes") for leaf in "Wb"
    )
    features = np.random.default_rng(2).standard_normal((1, 27, 29, CHANNELS)).astype(np.float32)
    row, column = 13, 14
    seen = features[:, row - 12 : row + 13 : 4, column - 12 : column + 13 : 4]  # the 7x7 cells at rate 4
    expected = keras.layers.Flatten()(seen)
    for name in ("fc1", "fc2"):
        (_, kernel), (_, bias) = narrow_layers[name]
        dense = keras.layers.Dense(UNITS, activation="relu")
        dense.build(expected.shape)
        dense.set_weights([kernel, bias])
        expected = dense(expected)
    found = model.head.fc7(model.head.fc6(features))[:, row, column]
    assert_close(found.numpy(), expected.numpy())


@pytest.mark.parametrize(("size", "cells"), [(3, (0, 3, 6)), (4, (0, 2, 4, 6)), (1, (3,)), (5, (0, 2, 3, 4, 6))])
def test_smaller_kernels_keep_regular_cells_and_a_choice_of_units(narrow_vgg, narrow_layers, narrow_file, size, cells):
    model = narrow_vgg(rates=(2, 4, 8, 12), kernel_size=size, hidden_units=6)
    load_imagenet(model, narrow_file)
    values = values_of(model)
    (_, fc1), _ = narrow_layers["fc1"]
    (_, fc2), _ = narrow_layers["fc2"]
    choices = set()
    for branch in range(1, 5):
        units = values[f"fc6_{branch}/bias"].astype(int)  # fc1's biases are their numbers
        assert sorted(set(units)) == list(units) and len(units) == 6
        np.testing.assert_array_equal(values[f"fc7_{branch}/bias"], 100 + units)
        choices.add(tuple(units))
        kernel = values[f"fc6_{branch}/kernel"]
        hidden = values[f"fc7_{branch}/kernel"]
        assert kernel.shape == (size, size, CHANNELS, 6) and hidden.shape == (1, 1, 6, 6)
        for to, unit in enumerate(units):
            for i, row in enumerate(cells):
                for j, column in enumerate(cells):
                    for channel in range(CHANNELS):
                        assert kernel[i, j, channel, to] == fc1[row * 7 * CHANNELS + column * CHANNELS + channel, unit]
            for source, from_unit in enumerate(units):
                assert hidden[0, 0, source, to] == fc2[from_unit, unit]
    assert len(choices) == 4  # every branch has its own


def test_the_choice_of_units_follows_the_seed(narrow_vgg, narrow_file):
    model, chosen = narrow_vgg(hidden_units=6), []
    for seed in (0, 0, 1):
        load_weights(model, narrow_file, seed)
        chosen.append(tuple(values_of(model)["fc6/bias"]))
    assert chosen[0] == chosen[1] != chosen[2]


def test_without_fully_connected_layers_fc6_and_fc7_stay_and_the_report_says_so(narrow_vgg, narrow_layers, tmp_path):
    notop = {name: arrays for name, arrays in narrow_layers.items() if name.startswith(("input", "block"))}
    model = narrow_vgg()
    before = values_of(model)
    report = load_imagenet(model, keras_files.write(tmp_path / "notop.h5", notop))
    heads = [f"fc{i}/{leaf}" for i in (6, 7, 8) for leaf in ("kernel", "bias")]
    assert list(report.missing) == heads and not report.skipped
    assert "not in the file, left as they were: fc6/kernel, fc6/bias, fc7/kernel" in str(report)
    for name in heads:
        np.testing.assert_array_equal(values_of(model)[name], before[name])


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ({"hidden_units": 0}, "this head has no fc6 and fc7"),
        ({"kernel_size": 8}, "fc6 of 8x8 with 16 units cannot be cut from 7x7 with 16"),
        ({"hidden_units": 17}, "fc6 of 7x7 with 17 units cannot be cut from 7x7 with 16"),
    ],
)
def test_a_head_that_cannot_be_cut_from_the_file_stays_and_the_report_says_why(narrow_vgg, narrow_file, head, reason):
    report = load_imagenet(narrow_vgg(**head), narrow_file)
    assert [why for _, why in report.skipped].count(reason) == 4
    assert not any(name.startswith("fc") for name in report.loaded)


def test_a_resnets_classifier_and_biases_are_skipped_and_the_report_says_why(resnet50, resnet50_file):
    with h5py.File(resnet50_file, "a") as file:
        file.attrs["layer_names"] = np.append(file.attrs["layer_names"], b"probs")
        file.create_group("probs").attrs["weight_names"] = np.array([b"probs/kernel:0", b"probs/bias:0"])
        file["probs/probs/kernel:0"], file["probs/probs/bias:0"] = np.zeros((2048, 10)), np.zeros(10)
    report = load_imagenet(resnet50, resnet50_file)
    reasons = [reason for _, reason in report.skipped]
    assert reasons.count("the classifier of ImageNet's classes") == 2
    assert sum("biases of convolutions" in reason for reason in reasons) == 53 == len(reasons) - 2
    assert len(report.loaded) == 5 * 53


# Forms of the file


def test_whole_models_long_lists_of_layers_and_other_precisions_are_read(narrow_vgg, narrow_layers, tmp_path):
    model = narrow_vgg()
    load_imagenet(model, keras_files.write(tmp_path / "a.h5", narrow_layers))
    expected = values_of(model)
    doubles = {
        layer: [(name, array.astype(np.float64)) for name, array in arrays] for layer, arrays in narrow_layers.items()
    }
    for form in ({"group": "model_weights"}, {"attributes_per_part": 3}):
        for variable in model.variables:
            variable.assign(np.zeros(variable.shape))
        report = load_weights(model, keras_files.write(tmp_path / "b.h5", doubles, **form))
        for name in report.loaded:
            np.testing.assert_array_equal(values_of(model)[name], expected[name])


def refuse(model, path, match):
    before = values_of(model)
    with pytest.raises(UserError, match=match) as raised:
        load_weights(model, str(path))
    assert "\n" not in str(raised.value)
    for name, value in values_of(model).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda layers: layers.pop("block4_conv2"), "has no layer block4_conv2, which vgg16 needs"),
        (lambda layers: layers.pop("fc2"), "has no layer fc2"),
        (lambda layers: layers.update(block3_conv4=layers["block3_conv3"]), "block3_conv4.* which vgg16 does not have"),
        (lambda layers: layers["block1_conv1"].pop(), "block1_conv1 has 1 arrays, expected 2"),
        (lambda layers: layers["fc1"].pop(), "fc1 has 1 arrays, expected 2"),
        (lambda layers: layers["block1_conv1"].reverse(), r"has shape \(4,\), the network's has \(3, 3, 3, 4\)"),
        (lambda layers: layers.update(fc2=layers["fc1"]), r"fc2/.* has shape \(196, 16\)"),
        (lambda layers: layers["block2_conv1"][1][1].fill(np.nan), "values that are not finite"),
        (lambda layers: layers["fc1"][0][1].fill(np.inf), "values that are not finite"),
        (
            lambda layers: layers.update(fc1=[(name, array.astype(np.int32)) for name, array in layers["fc1"]]),
            "not stored as a plain array of floating-point numbers",
        ),
    ],
)
def test_a_file_with_other_layers_shapes_or_values_is_refused(narrow_vgg, narrow_layers, tmp_path, change, says):
    change(narrow_layers)
    refuse(narrow_vgg(), keras_files.write(tmp_path / "w.h5", narrow_layers), says)


def test_a_file_of_another_network_is_refused(narrow_file, resnet50):
    refuse(resnet50, narrow_file, "has no layer conv1_conv, which resnet50 needs; it begins block1_conv1")
    with pytest.raises(UserError, match="this network is another"):
        load_imagenet(tiny_network(), narrow_file)


def test_a_file_of_a_shallower_resnet_is_refused(keras_resnet50, resnet50, tmp_path):
    names = [layer.name for layer in keras_resnet50.layers if layer.weights and "conv4_block6" not in layer.name]
    path = keras_files.write(tmp_path / "w.h5", {name: [("kernel:0", np.zeros(1))] for name in names})
    refuse(resnet50, path, "has no layer conv4_block6_1_conv, which resnet50 needs")


# Damaged and hostile files


def replace_kernel(path, make):
    """Puts something else in the place of block1_conv1's kernel."""
    with h5py.File(path, "a") as file:
        del file["block1_conv1/block1_conv1_W_1:0"]
        make(file["block1_conv1"], "block1_conv1_W_1:0")


def link(kind, *target):
    return lambda group, name: group.__setitem__(name, kind(*target))


def external_storage(group, name):
    group.create_dataset(name, (3, 3, 3, 4), np.float32, external=[("/etc/passwd", 0, 432)])


def virtual(group, name):
    layout = h5py.VirtualLayout((3, 3, 3, 4), np.float32)
    layout[...] = h5py.VirtualSource("/tmp/other.h5", "x", (3, 3, 3, 4))
    group.create_virtual_dataset(name, layout)


PLAIN = "not stored as a plain array"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (link(h5py.ExternalLink, "/etc/passwd", "x"), "damaged or of another format.*its own"),
        (link(h5py.SoftLink, "/block1_conv2/block1_conv2_W_1:0"), "damaged or of another format.*its own"),
        (lambda group, name: group.create_group(name), "damaged or of another format"),
        (lambda group, name: None, "damaged or of another format"),
        (external_storage, PLAIN),
        (virtual, PLAIN),
        (lambda group, name: group.create_dataset(name, (3, 3, 3, 4), np.float32, compression="gzip"), PLAIN),
        (lambda group, name: group.create_dataset(name, (3, 3, 3, 4), np.float32), PLAIN),  # no bytes in the file
        (lambda group, name: group.create_dataset(name, (1 << 40,), np.float32), "has shape"),
        (lambda group, name: group.create_dataset(name, data=np.array(["text"], object)), "has shape"),
    ],
    ids=["external link", "soft link", "group", "missing", "external", "virtual", "gzip", "hollow", "huge", "text"],
)
def test_what_is_no_plain_array_of_the_file_is_refused(narrow_vgg, narrow_file, make, says):
    replace_kernel(narrow_file, make)
    refuse(narrow_vgg(), narrow_file, says)


@pytest.mark.parametrize("group", ["/", "block1_conv1"])
def test_a_missing_list_of_names_is_refused(narrow_vgg, narrow_file, group):
    with h5py.File(narrow_file, "a") as file:
        del file[group].attrs["layer_names" if group == "/" else "weight_names"]
    refuse(narrow_vgg(), narrow_file, "damaged or of another format")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_file_that_is_no_hdf5_or_only_half_of_it_is_refused(narrow_vgg, narrow_file, damage):
    content = Path(narrow_file).read_bytes()
    damaged = {"cut": content[: len(content) // 2], "text": b"not weights", "empty": b""}[damage]
    Path(narrow_file).write_bytes(damaged)
    refuse(narrow_vgg(), narrow_file, "damaged or of another format")


def test_a_heap_without_end_is_refused_before_it_fills_the_memory(narrow_vgg, narrow_file):
    # The free blocks of a group's heap of names are a list, each with the place of the next, 1 at the end. The
    # library follows one that leads back to itself until no memory is left.
    content = bytearray(Path(narrow_file).read_bytes())
    loops = 0
    for match in re.finditer(b"HEAP", bytes(content)):
        first, data = (int.from_bytes(content[match.start() + at :][:8], "little") for at in (16, 24))
        if first != 1:
            content[data + first : data + first + 8] = first.to_bytes(8, "little")
            loops += 1
    assert loops
    Path(narrow_file).write_bytes(content)
    refuse(narrow_vgg(), narrow_file, "damaged or of another format")


def test_random_damage_gives_the_weights_or_one_line(narrow_vgg, narrow_file):
    model = narrow_vgg()
    content, rng = Path(narrow_file).read_bytes(), np.random.default_rng(0)
    structure = len(content) // 4  # the arrays, further back, may hold any numbers
    outcomes = set()
    for _ in range(8):
        damaged = bytearray(content)
        for at in rng.integers(0, structure, 4):
            damaged[at] ^= 1 << rng.integers(8)
        Path(narrow_file).write_bytes(damaged)
        try:
            load_weights(model, narrow_file)
            outcomes.add("weights")
        except UserError as error:
            assert "\n" not in str(error) and narrow_file in str(error)
            outcomes.add("line")
    assert "line" in outcomes


# Keras' cache, and the network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a network where nothing answers."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for backbone in (VGG16, ResNet50, ResNet101):
        for top in ("with_top", "without_top"):
            published = getattr(backbone.imagenet, top)
            address = published.address.replace("https://storage.googleapis.com", "http://127.0.0.1:9")
            replace_file(monkeypatch, backbone, top, published._replace(address=address))
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    return models


def replace_file(monkeypatch, backbone, top, published):
    monkeypatch.setattr(backbone, "imagenet", dataclasses.replace(backbone.imagenet, **{top: published}))


def publish(monkeypatch, backbone, top, file, **changes):
    """Makes a file's hash the published one."""
    md5 = hashlib.md5(Path(file).read_bytes()).hexdigest()
    replace_file(monkeypatch, backbone, top, getattr(backbone.imagenet, top)._replace(md5=md5, **changes))


def test_the_published_names_and_hashes_are_those_of_the_installed_keras():
    module = pytest.importorskip("keras.src.applications.resnet")
    for backbone, name in ((ResNet50, "resnet50"), (ResNet101, "resnet101")):
        with_top, without_top = backbone.imagenet.with_top, backbone.imagenet.without_top
        assert (with_top.md5, without_top.md5) == module.WEIGHTS_HASHES[name]
        assert with_top.address == f"{module.BASE_WEIGHTS_PATH}{name}_weights_tf_dim_ordering_tf_kernels.h5"
        assert without_top.address.startswith(module.BASE_WEIGHTS_PATH)
    module = pytest.importorskip("keras.src.applications.vgg16")
    assert VGG16.imagenet.with_top.address == module.WEIGHTS_PATH
    assert VGG16.imagenet.without_top.address == module.WEIGHTS_PATH_NO_TOP
    hashes = re.findall(r'file_hash="(\w+)"', inspect.getsource(module))
    assert hashes == [VGG16.imagenet.with_top.md5, VGG16.imagenet.without_top.md5]


def test_a_file_in_the_cache_is_taken(cache, monkeypatch, narrow_vgg, narrow_layers):
    path = keras_files.write(cache / "vgg16_weights_tf_dim_ordering_tf_kernels.h5", narrow_layers)
    publish(monkeypatch, VGG16, "with_top", path)
    report = load_imagenet(narrow_vgg())
    assert report.source == path and "fc6/kernel" in report.loaded


def test_either_of_a_resnets_files_will_do(cache, monkeypatch):
    path = cache / "resnet101_weights_tf_dim_ordering_tf_kernels.h5"
    path.write_bytes(b"the larger one")
    publish(monkeypatch, ResNet101, "with_top", path)
    assert keras_cache.find_or_download(ResNet101.imagenet, with_top=False) == str(path)
    path = cache / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.write_bytes(b"the smaller one")
    publish(monkeypatch, ResNet101, "without_top", path)
    assert keras_cache.find_or_download(ResNet101.imagenet, with_top=False) == str(path)


def test_a_file_in_the_cache_with_another_hash_is_not_loaded(cache, narrow_vgg, narrow_layers):
    path = keras_files.write(cache / "vgg16_weights_tf_dim_ordering_tf_kernels.h5", narrow_layers)
    model = narrow_vgg()
    with pytest.raises(UserError, match=r"is not the file that Keras 3 .*expected 6437.*remove it.*--init=") as raised:
        load_imagenet(model)
    assert path in str(raised.value) and "\n" not in str(raised.value)
    load_imagenet(model, path)  # named by the user: no hash


def test_without_a_network_the_line_says_what_to_put_where_and_how_to_go_on(cache, narrow_vgg):
    with pytest.raises(UserError) as raised:
        load_imagenet(narrow_vgg())
    line = str(raised.value)
    for part in (
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        VGG16.imagenet.with_top.address,
        f"put it into {cache}",
        "--init=hed",
        "--init=none",
    ):
        assert part in line
    assert "notop" not in line and "\n" not in line and not list(cache.iterdir())


def test_without_a_network_a_resnet_is_not_sent_to_the_hed_trunk(cache):
    with pytest.raises(UserError, match="--init=none") as raised:
        keras_cache.find_or_download(ResNet50.imagenet, with_top=False)
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(raised.value)
    assert "init=hed" not in str(raised.value)


def test_without_a_network_a_trunk_in_the_cache_is_offered_but_not_taken(cache):
    trunk = cache / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    trunk.write_bytes(b"anything")
    with pytest.raises(UserError, match=f"start with fc6 and fc7 at random from --init={trunk}"):
        keras_cache.find_or_download(VGG16.imagenet, with_top=True)


def test_a_download_is_checked_and_kept(cache, monkeypatch, tmp_path, capsys):
    source = tmp_path / "served" / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    source.parent.mkdir()
    source.write_bytes(b"weights" * 100_000)
    publish(monkeypatch, ResNet50, "without_top", source, address=source.as_uri())
    cache.rmdir()
    path = keras_cache.find_or_download(ResNet50.imagenet, with_top=False)
    assert path == str(cache / source.name) and Path(path).read_bytes() == source.read_bytes()
    assert f"downloading {source.as_uri()} to {path}" in capsys.readouterr().out
    source.unlink()
    assert keras_cache.find_or_download(ResNet50.imagenet, with_top=False) == path


def test_a_download_of_something_else_is_refused_and_leaves_nothing(cache, monkeypatch, tmp_path):
    source = tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    source.write_bytes(b"<html>sign in to this network</html>")
    published = ResNet50.imagenet.without_top._replace(address=source.as_uri())
    replace_file(monkeypatch, ResNet50, "without_top", published)
    with pytest.raises(UserError, match="is not the file that Keras publishes"):
        keras_cache.find_or_download(ResNet50.imagenet, with_top=False)
    assert not list(cache.iterdir())


# Training


def test_training_starts_from_imagenet_with_the_seed_of_the_run(
    cache, monkeypatch, narrow_vgg, narrow_layers, tmp_path
):
    path = keras_files.write(cache / "vgg16_weights_tf_dim_ordering_tf_kernels.h5", narrow_layers)
    publish(monkeypatch, VGG16, "with_top", path)
    monkeypatch.setattr(VGG16, "BLOCKS", NARROW_BLOCKS)
    monkeypatch.setattr(training._Loop, "run", lambda *_: None)  # what comes after the start
    config = Config(
        "vgg16_large_fov",
        ModelConfig(hidden_units=6),
        TrainConfig(iterations=1, batch_size=1, crop_size=33, seed=5),
        dataset=DatasetInfo("toy", ("background", "thing"), ((0, 0, 0), (9, 9, 9))),
    )
    training.train(
        config, str(tmp_path / "run"), lambda **_: tf.data.Dataset.range(1), init="imagenet", strategy_name="one_device"
    )
    model = narrow_vgg(**dataclasses.asdict(config.model))
    report = load_imagenet(model, path, seed=5)
    expected = values_of(model)
    load_weights(model, str(tmp_path / "run" / "model.weights.h5"))
    for name in report.loaded:
        np.testing.assert_array_equal(values_of(model)[name], expected[name])


def test_imagenet_is_the_default_start_of_the_command():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--init (default imagenet)" in done.stdout
