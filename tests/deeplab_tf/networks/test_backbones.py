"""A backbone that nothing else in the project knows: one class, one entry in `BACKBONES`."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import Config, ModelConfig, OptimizerConfig, TrainConfig, override
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export.load import load_exported
from deeplab_tf.export.saved_model import export_saved_model
from deeplab_tf.inference.probabilities import predict_probabilities
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.backbone import Backbone
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.networks.pretrained import InstalledFile, Tensor
from deeplab_tf.networks.restride import restride
from deeplab_tf.training.loop import build
from deeplab_tf.training.step import build_train_step
from deeplab_tf.weights import find_fit, load_hed, load_imagenet, load_weights
from deeplab_tf.weights.__main__ import convert, inspect

ROOT = Path(__file__).resolve().parents[3]


def translate(name, array):
    if not name.startswith("toy."):
        return None
    layer, _, leaf = name.removeprefix("toy.").rpartition(".")
    return Tensor(name, f"{layer}/{leaf}", array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


class Toy(Backbone):
    """Four strided convolutions and an atrous one, all of 4 channels; RGB in -1..1."""

    mean_rgb = (128.0, 128.0, 128.0)
    channels = 4
    output_strides = (4, 8, 16)
    options = ("kernel_size",)
    imagenet = InstalledFile("Toy", "toy_weights==1.0", "toy.pth", "1 kB", translate)

    def __init__(self, output_stride=8, implementation="deinterlace", kernel_size=3, **kwargs):
        super().__init__(output_stride, implementation, **kwargs)
        self.kernel_size = kernel_size
        common = {"epsilon": 1e-3, "implementation": implementation, "dtype": self.dtype_policy}
        stride_so_far, rate = 1, 1
        for name in ("patch_1", "patch_2", "mix_1", "mix_2", "last"):
            stride = 2 if stride_so_far < output_stride and name != "last" else 1
            self._add(ConvBatchNorm(4, 3, stride, rate, name=name, **common))
            stride_so_far *= stride
            rate *= 2 if stride == 1 and name != "last" else 1

    @staticmethod
    def normalize(images):
        return images / 128 - 1

    def call(self, x):
        for name in ("patch_1", "patch_2", "mix_1", "mix_2", "last"):
            x = tf.nn.relu(getattr(self, name)(x))
        return x

    def get_config(self):
        return super().get_config() | {"kernel_size": self.kernel_size}


INFO = DatasetInfo("toy", ("background", "thing"), ((0, 0, 0), (9, 9, 9)))
CONFIG = Config(
    "toy_aspp",
    ModelConfig("vgg16", rates=(1, 2), hidden_units=0, output_stride=16),
    TrainConfig(iterations=3, batch_size=2, crop_size=33, frozen_layers=("patch",)),
    OptimizerConfig(base_lr=0.1, fresh_layers=("last",), fresh_lr_mult=3.0),
    dataset=INFO,
)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(BACKBONES, "toy", Toy)
    return override(CONFIG, ["model.backbone=toy"])


@pytest.fixture
def model(config):
    keras.utils.set_random_seed(0)
    return build_network(config.model, 2)


def images(size=33, count=2):
    return tf.constant(np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)), tf.float32)


def test_the_names_of_backbones_are_known_without_tensorflow():
    script = """
import sys
from deeplab_tf.config import ModelConfig
from deeplab_tf.networks import BACKBONES
assert "resnet101" in BACKBONES and len(list(BACKBONES)) >= 4
ModelConfig("efficientnet_lite0")
try:
    ModelConfig("vgg19")
except ValueError as error:
    assert "vgg16, resnet50, resnet101" in str(error)
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", [*BACKBONES])
def test_every_backbone_says_what_it_is_and_has_no_two_layers_of_one_name(name):
    backbone = BACKBONES[name]()
    layers = [layer.name for layer in backbone._flatten_layers(include_self=False, recursive=False)]
    assert len(set(layers)) == len(layers) > 0
    assert type(backbone).from_config(backbone.get_config()).get_config() == backbone.get_config()
    assert not np.any(np.round(backbone.normalize(tf.constant([[[backbone.mean_rgb]]])), 4))


@pytest.mark.parametrize("name", [*BACKBONES])
def test_every_backbone_has_the_channels_and_the_strides_that_it_names(name):
    backbone = BACKBONES[name]
    assert (backbone(backbone.output_strides[-1])(keras.Input((65, 65, 3)))).shape[-1] == backbone.channels
    with pytest.raises(ValueError, match="stride"):
        backbone(3)


def test_a_new_backbone_is_built_with_its_normalisation_and_its_options(config):
    model = build_network(dataclasses.replace(config.model, kernel_size=5), 2)
    assert isinstance(model.backbone, Toy) and model.backbone.kernel_size == 5
    assert model.output_stride == 16 and model.mean_rgb == (128.0, 128.0, 128.0)
    assert model(images()).shape == (2, 3, 3, 2)
    image = np.random.default_rng(1).integers(0, 256, (20, 27, 3), np.uint8)
    assert predict_probabilities(model, image).shape == (20, 27, 2)


def test_a_new_backbone_trains_with_its_own_groups_frozen_and_afresh(config):
    model, optimizer = build(config, tf.distribute.get_strategy())
    assert list(model.variable_groups()) == ["mix", "last", "fc1"]
    before = {variable.path: variable.numpy() for variable in model.variables}
    step, _ = build_train_step(model, optimizer, tf.distribute.get_strategy(), 255)
    labels = np.random.default_rng(0).integers(0, 2, (2, 1, 33, 33))
    batch = {"image": images()[:, tf.newaxis], "labels": tf.constant(labels, tf.int32)}
    assert np.isfinite(step(batch | {"seeds": tf.zeros([2, 1, 2], tf.int32)})).all()
    kernels = [variable for variable in model.variables if variable.path.endswith("kernel")]
    moved = {variable.path.split("/")[-2] for variable in kernels if np.any(variable != before[variable.path])}
    assert moved == {"mix_1", "mix_2", "last", "fc1_1", "fc1_2"}
    assert optimizer.get_config()["of_layers"] == {"mix_1": 1, "mix_2": 1, "last": 3, "fc1_1": 10, "fc1_2": 10}


@pytest.mark.parametrize("setting", ["train.frozen_layers", "optimizer.fresh_layers"])
def test_a_group_that_the_network_does_not_have_is_refused(config, setting):
    with pytest.raises(UserError, match=rf"{setting}: there is no 'conv1' among patch, mix, last, fc1"):
        build(override(config, [f"{setting}=conv1"]), tf.distribute.get_strategy())


def test_a_new_backbone_is_restrided(model):
    dense = restride(model, 4)
    assert dense.output_stride == 4
    x = images(65)
    scores = model(x).numpy()
    np.testing.assert_allclose(dense(x)[:, ::4, ::4], scores, rtol=0, atol=1e-4 * scores.std())


def test_a_new_backbone_is_exported(model, config, tmp_path):
    path = export_saved_model(model, config, str(tmp_path / "exported"))
    image = np.random.default_rng(1).integers(0, 256, (20, 27, 3), np.uint8)
    probabilities = load_exported(path).probabilities_of(image)
    np.testing.assert_allclose(probabilities, predict_probabilities(model, image), atol=1e-5)


# Weights


def stored(model, path):
    model.save_weights(path)
    return str(path)


def released(model, prefix=""):
    """Arrays as another program would save them: kernels OIHW, under the names of the layers."""
    arrays = {}
    for variable in model.variables:
        layer, leaf = variable.path.split("/")[-2:]
        array = variable.numpy()
        toy = not layer.startswith("fc")
        name = f"{prefix}{layer}.{leaf}" if toy else f"{layer}.{'weight' if leaf == 'kernel' else leaf}"
        arrays[name] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    # The released names of a classifier's branches.
    return {name.replace("fc1_1.", "fc1_voc12_c0.").replace("fc1_2.", "fc1_voc12_c1."): a for name, a in arrays.items()}


def test_a_file_of_a_new_backbone_belongs_to_its_experiment(model, config, tmp_path, monkeypatch):
    path = stored(model, tmp_path / "model.weights.h5")
    assert find_fit(path) is None
    monkeypatch.setitem(EXPERIMENTS, "toy_aspp", config)
    assert find_fit(path) == (("toy_aspp",), 2)


def test_a_file_of_an_unknown_backbone_is_refused_by_the_names_of_its_layers(model, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(BACKBONES, "toy")
    np.savez(tmp_path / "w.npz", **released(model))
    for path in (stored(model, tmp_path / "w.weights.h5"), str(tmp_path / "w.npz")):
        with pytest.raises(UserError, match=r"no backbone \(vgg16, resnet50, .*\) has its layers .*mix_1"):
            find_fit(path)
        with pytest.raises(UserError, match=r"w\..* fits no experiment: no backbone .* has its layers"):
            convert(path, str(tmp_path / "out.weights.h5"), "", False)
        inspect(path)
        assert "fits no experiment: no backbone" in capsys.readouterr().out.splitlines()[-1]
    assert not (tmp_path / "out.weights.h5").exists()


def test_layers_of_known_names_with_other_numbers_of_channels_are_refused(tmp_path):
    kernels = {"conv1_1": (32, 3, 3, 3), "fc6": (1024, 512, 3, 3), "fc8_voc12": (5, 1024, 1, 1)}
    np.savez(tmp_path / "w.npz", **{f"{name}.weight": np.zeros(shape, np.float32) for name, shape in kernels.items()})
    with pytest.raises(UserError, match="conv1_1 with 32 channels"):
        find_fit(str(tmp_path / "w.npz"))


def test_a_new_backbones_own_names_are_translated(model, config, tmp_path):
    np.savez(tmp_path / "w.npz", **released(model, "toy."))
    other = build_network(config.model, 2)
    assert not load_weights(other, str(tmp_path / "w.npz")).missing
    for one, same in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, same)


def test_imagenet_weights_are_looked_for_where_the_backbone_says(model, monkeypatch):
    with pytest.raises(UserError, match=r"package with Toy's weights \(1 kB\): pip install toy_weights==1\.0"):
        load_imagenet(model)
    with pytest.raises(UserError, match="which has none of Toy"):
        load_imagenet(model, "vgg16.h5")
    with pytest.raises(UserError, match="holds a VGG-16 trunk; this experiment's backbone is another"):
        load_hed(model)
    monkeypatch.setattr(Toy, "imagenet", None)
    with pytest.raises(UserError, match=r"are there for vgg16, .*efficientnet_lite0.*this network is another \(Toy\)"):
        load_imagenet(model)
