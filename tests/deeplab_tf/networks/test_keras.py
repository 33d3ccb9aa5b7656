"""Every experiment's network as a Keras user meets it: saved, loaded, copied, cut, nested, shown and trained.

In the manner of KerasHub's tests of its models. The hidden layers of VGG-16 are narrow here.
"""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf as dl
from deeplab_tf import registration
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.layers.conv_batch_norm import measuring_statistics
from deeplab_tf.networks.deeplab import DeepLab, build_network
from tests.tiny import tiny_network

ROOT = Path(__file__).resolve().parents[3]
FAST = {("vgg16_large_fov", "float16"), ("resnet50_aspp_msc", "bfloat16"), ("efficientnet_lite0_aspp", "float32")}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 33, 49, 3), np.uint8)


def network(name, precision="float32", num_classes=3):
    keras.utils.set_random_seed(0)
    config = EXPERIMENTS[name].model
    narrow = dataclasses.replace(config, hidden_units=min(config.hidden_units, 8))
    model = build_network(narrow, num_classes, precision)
    for number, variable in enumerate(model.variables):  # batch normalisation too
        noise = np.random.default_rng(number).uniform(0.8, 1.2, variable.shape)
        variable.assign(variable * noise if variable.name == "kernel" else noise)
    # With made-up statistics the blocks of a ResNet double what they are given: float16 ends at 65504.
    with measuring_statistics():
        model(IMAGES)
    return model


def values(path):
    """Every array of an HDF5 file, by its path."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, marks=[] if (name, precision) in FAST else pytest.mark.slow)
        for name in EXPERIMENTS
        for precision in ("float32", "bfloat16", "float16")
    ],
)
def test_a_network_is_saved_copied_nested_and_trained_in_every_precision(name, precision, tmp_path):
    model = network(name, precision)
    scores = model(IMAGES).numpy()
    cells = [(side - 1) // model.output_stride + 1 for side in IMAGES.shape[1:3]]
    assert scores.shape == (2, *cells, 3) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert model.input_shape == (None, None, None, 3) and model.output_shape == (None, None, None, 3)
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    assert model.dtype_policy.name == model.backbone.dtype_policy.name == policy

    def assert_same(other):
        np.testing.assert_array_equal(other(IMAGES), scores)

    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert_same(loaded)
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    assert loaded.dtype_policy.name == loaded.backbone.dtype_policy.name == policy and loaded.scales == model.scales

    # The functional form computes what `call` does; it can be saved too.
    functional = keras.Model(model.input, model.output)
    assert_same(functional)
    functional.save(tmp_path / "functional.keras")
    assert_same(keras.saving.load_model(tmp_path / "functional.keras"))

    for copy in (keras.models.clone_model(model), keras.models.model_from_json(model.to_json())):
        copy.set_weights(model.get_weights())
        assert_same(copy)

    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.Softmax()(model(inputs))).save(tmp_path / "nested.keras")
    probabilities = keras.saving.load_model(tmp_path / "nested.keras")(IMAGES)
    np.testing.assert_array_equal(probabilities, tf.nn.softmax(scores))

    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-4), dl.SegmentationLoss(), metrics=[dl.MeanIoU(3)])
    labels = np.random.default_rng(1).integers(0, 3, IMAGES.shape[:3])
    scaled = precision == "float16"  # there small gradients would be 0 without it
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == scaled
    for _ in range(12 if scaled else 1):  # the scale is halved, and the update left out, until the gradients fit
        history = model.fit(IMAGES, labels, batch_size=2, verbose=0).history
        assert np.isfinite(history["loss"]).all() and 0 <= history["mean_iou"][0] <= 1
        if any(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True)):
            return
    pytest.fail("no update changed the weights")


@pytest.fixture(scope="module")
def small():
    return network("efficientnet_lite0_aspp")


def test_the_table_of_registered_classes_is_the_classes_that_register_themselves():
    found = {}
    for path in (ROOT / "deeplab_tf").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and "register_keras_serializable" in map(_called, node.decorator_list):
                module = ".".join(path.relative_to(ROOT / "deeplab_tf").with_suffix("").parts)
                found.setdefault(module, set()).add(node.name)
    assert {module: set(names) for module, names in registration.CLASSES.items()} == found


def _called(decorator):
    return getattr(decorator.func, "attr", "") if isinstance(decorator, ast.Call) else ""


LOOK_FIRST = "import deeplab_tf, importlib.util; assert importlib.util.find_spec('keras'); import keras"


@pytest.mark.parametrize("imports", ["import deeplab_tf, keras", "import keras, deeplab_tf", LOOK_FIRST])
def test_a_process_that_imports_only_the_package_loads_saved_models(small, tmp_path, imports):
    small.save(tmp_path / "x.keras")
    small.save(tmp_path / "x.h5")
    keras.Model(small.input, small.get_layer("block10").output).save(tmp_path / "features.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    script = f"""
{imports}
import sys
import numpy as np
assert "deeplab_tf.networks.deeplab" not in sys.modules
for name in sys.argv[1:]:
    np.save(name + ".npy", keras.saving.load_model(name)(np.load("images.npy")))
"""
    names = ["features.keras", "x.h5", "x.keras"]
    command = [sys.executable, "-W", "ignore", "-c", script, *names]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names[1:]:
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), small(IMAGES))
    assert np.load(tmp_path / "features.keras.npy").shape == (2, 3, 4, 112)


def test_a_file_of_weights_has_the_places_that_it_always_had(small, tmp_path):
    published = values(ROOT / "models" / "voc_animals" / "model.weights.h5")
    model = dl.build_model("efficientnet_lite2_aspp", 7)
    model.load_weights(ROOT / "models" / "voc_animals" / "model.weights.h5")
    model.save_weights(tmp_path / "again.weights.h5")
    again = values(tmp_path / "again.weights.h5")
    assert again.keys() == published.keys()
    for place, array in published.items():
        np.testing.assert_array_equal(again[place], array)


def test_a_network_is_cut_at_the_layers_that_the_documentation_names():
    vgg, resnet = network("vgg16_large_fov"), network("resnet50_aspp_msc")
    x, floats = IMAGES[:1], tf.constant(IMAGES[:1], tf.float32)
    conv5_3 = keras.Model(vgg.input, vgg.get_layer("conv5_3").output)(x)
    assert conv5_3.shape == (1, 5, 7, 512)
    np.testing.assert_array_equal(conv5_3, vgg.backbone(vgg.backbone.normalize(floats), before_pool5=True))
    res5c = keras.Model(resnet.input, resnet.get_layer("res5c").output)(x)  # at the first scale, 1
    np.testing.assert_array_equal(res5c, resnet.backbone(resnet.backbone.normalize(floats)))
    assert res5c.shape == (1, 5, 7, 2048) and np.min(res5c) == 0
    assert vgg.get_layer("backbone") is vgg.backbone and vgg.get_layer(index=0) is vgg.layers[0]
    with pytest.raises(ValueError, match="No such layer: conv6"):
        vgg.get_layer("conv6")


def test_a_summary_shows_every_layer_with_its_shape(small):
    lines = []
    small.summary(line_length=120, print_fn=lines.append)
    text = "\n".join(lines)
    for layer in small.layers:
        assert layer.name in text
    assert "?" not in text and "(None, None, None, 1280)" in text
    assert f"Total params: {small.count_params():,}" in text
    pytest.importorskip("pydot")
    assert len(keras.utils.model_to_dot(small, show_shapes=True).get_nodes()) >= len(small.layers)


def test_frozen_weights_stay_frozen_when_a_network_is_saved(small, tmp_path):
    model = keras.models.model_from_json(small.to_json())
    model.backbone.stem.kernel.trainable = False
    model.backbone.top.trainable = False
    model.head.trainable = False
    model.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    assert isinstance(loaded, DeepLab)
    learning = [v.path for v in loaded.trainable_variables]
    assert learning == [v.path for v in model.trainable_variables]
    assert 0 < len(learning) < len(small.trainable_variables) - 9


def test_dropout_is_active_in_training_alone():
    model = tiny_network(hidden_units=16)
    plain = model(IMAGES)
    np.testing.assert_array_equal(model(IMAGES), plain)
    keras.utils.set_random_seed(1)
    first, second = model(IMAGES, training=True), model(IMAGES, training=True)
    assert np.any(first != plain) and np.any(first != second)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(model(IMAGES, training=True), first)
    nested = keras.Model(inputs := keras.Input((None, None, 3)), model(inputs))
    assert np.any(nested(IMAGES, training=True) != plain)


ALPHA = np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1)
MISTAKES = {
    "alpha": (ALPHA, r"got \[2, 33, 49, 4\]; without the fourth channel \(alpha\): images\[\.\.\., :3\]"),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), r"channels come last: images\.transpose\(0, 2, 3, 1\)"),
    "one image": (IMAGES[0], r"one image is a batch of one: images\[None\]"),
    "grey": (IMAGES[..., :1], r"grey images repeat their channel"),
    "fractions": (IMAGES / 255.0, r"values from 0\.00 to 1\.00, fractions of 1: multiply them by 255"),
    "minus mean": (IMAGES - 115.0, r"levels down to -115, as after a mean was subtracted"),
    "normalised": (IMAGES / 127.5 - 1.0, r"values from -1\.00 to 1\.00, as after a normalisation"),
    "16 bit": (IMAGES * 257.0, r"levels up to 65535: scale them to 0\.\.255"),
}


@pytest.fixture(scope="module")
def compiled():
    model = tiny_network(hidden_units=4)
    model.compile(keras.optimizers.SGD(0.0), dl.SegmentationLoss())
    return model


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_images_are_one_line_with_the_mend_wherever_they_come_in(compiled, mistake):
    images, line = MISTAKES[mistake]
    labels = np.zeros(images.shape[:3] if images.ndim == 4 else (33, 33, 49), np.int32)
    for call in (
        lambda: compiled(images),
        lambda: compiled.predict(images, verbose=0),
        lambda: compiled.fit(images, labels, verbose=0),
        lambda: compiled.evaluate(tf.data.Dataset.from_tensors((images, labels)), verbose=0),
    ):
        with pytest.raises(ValueError, match=line) as error:
            call()
        assert "\n" not in str(error.value)


def test_images_of_any_type_are_levels_however_dark(compiled):
    expected = compiled(IMAGES.astype(np.float32)).numpy()
    for images in (IMAGES, IMAGES.astype(np.int64), IMAGES.astype(np.float64), tf.constant(IMAGES)):
        np.testing.assert_array_equal(compiled(images), expected)
    np.testing.assert_allclose(compiled.predict(IMAGES, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(compiled(np.eye(33, dtype=np.float32)[None, :, :, None].repeat(3, -1))).all()
