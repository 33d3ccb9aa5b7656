import importlib
import pathlib
import subprocess
import sys
import tomllib

import pytest

import deeplab_tf

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOMES = {
    "AtrousConv2D": "layers.atrous",
    "AtrousDepthwiseConv2D": "layers.atrous_depthwise",
    "CrfParams": "crf.params",
    "EXPERIMENTS": "experiments",
    "History": "training.history",
    "Prediction": "inference.prediction",
    "Segmenter": "inference.segmenter",
    "UserError": "errors",
    "build_model": "networks.deeplab",
    "dense_crf": "crf.dense_crf",
    "list_experiments": "experiments",
    "list_pretrained": "shipped",
    "load": "workdir",
    "load_pretrained": "shipped",
    "load_weights": "weights",
    "predict_probabilities": "inference.probabilities",
    "restride": "networks.restride",
    "train": "commands.trainer",
}


@pytest.mark.parametrize("name", sorted(HOMES))
def test_public_name_is_the_object_of_its_module(name):
    module = importlib.import_module(f"deeplab_tf.{HOMES[name]}")
    assert getattr(deeplab_tf, name) is getattr(module, name)


def test_all_and_dir_list_every_public_name():
    assert set(deeplab_tf.__all__) == {*HOMES, "__version__"}
    assert set(deeplab_tf.__all__) <= set(dir(deeplab_tf))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'build_modell'"):
        _ = deeplab_tf.build_modell


def test_version_is_that_of_the_package():
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert deeplab_tf.__version__ == tomllib.load(file)["project"]["version"]


# These are on the way to a complaint about a flag, which is to come at once.
@pytest.mark.parametrize(
    "module", ["deeplab_tf", "deeplab_tf.errors", "deeplab_tf.runtime.command_line", "deeplab_tf.model_flags"]
)
def test_import_leaves_tensorflow_out(module):
    code = f"import sys, {module}; print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_submodules_can_still_be_reached_and_imported():
    code = "import deeplab_tf.dataset_info as d, deeplab_tf; assert deeplab_tf.dataset_info is d; print(d.IGNORE_LABEL)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "255"


IMPORT = "import os, sys, types; {before}; import deeplab_tf; print(os.environ['KERAS_BACKEND'])"


def test_keras_runs_on_tensorflow_whatever_its_settings_say():
    other = "os.environ['KERAS_BACKEND'] = 'jax'"
    done = subprocess.run([sys.executable, "-c", IMPORT.format(before=other)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "tensorflow", done.stderr
    loaded = "sys.modules['keras'] = types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: 'jax'))"
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(before=loaded)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and "Keras runs on jax here, and deeplab_tf needs TensorFlow" in done.stderr
