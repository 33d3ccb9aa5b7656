"""The Python clients of docs/serving.md and docs/tflite.md, run as printed, against files of a small network."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import FORMATS
from deeplab_tf.export.compare import made_up_picture
from deeplab_tf.export.kind import Job
from deeplab_tf.inference.probabilities import predict_probabilities
from tests.test_documentation import blocks
from tests.tiny import tiny_network

DOCS = Path(__file__).resolve().parents[3] / "docs"
CONFIG = dataclasses.replace(
    EXPERIMENTS["vgg16_large_fov"], dataset=DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
)
SIZE = (65, 97)
CLIENTS = {
    # page, what its block imports, the format that it opens, probabilities: the packages that both need
    ("serving", "import tensorflow", "saved_model", False): (),
    ("serving", "import onnxruntime", "onnx", False): ("tf2onnx", "onnxruntime"),
    ("serving", "import openvino", "openvino", False): ("tf2onnx", "openvino"),
    ("tflite", "tf.lite.Interpreter", "tflite_int8", False): (),
    ("tflite", "import mediapipe", "tflite_float16", True): ("mediapipe",),
}


def client(page, text):
    [found] = [block for _, block in blocks(DOCS / f"{page}.md", "python") if text in block]
    return found


@pytest.mark.parametrize("chosen", CLIENTS, ids=lambda chosen: chosen[2])
# TensorFlow Lite's own interpreter says that it will move to another package.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_a_printed_client_gives_the_labels_of_the_network(tmp_path, monkeypatch, chosen):
    page, text, name, probabilities = chosen
    for package in CLIENTS[chosen]:
        pytest.importorskip(package)
    size = SIZE if name.startswith("tflite") else (None, None)
    pictures = [made_up_picture(SIZE)] if size == SIZE else []
    model, out = tiny_network(), tmp_path / "exported" / "mine"
    kind = importlib.import_module(f"deeplab_tf.export.{FORMATS[name]}").KIND
    list(kind.write(Job(model, CONFIG, str(out), size, pictures, probabilities=probabilities), [name]))

    monkeypatch.chdir(tmp_path)
    # A PNG by its content, because a JPEG has other pixels; every reader goes by the content.
    Image.fromarray(made_up_picture(SIZE)).save("cat.jpg", format="PNG")
    variables = {}
    if name == "saved_model":  # it tells TensorFlow for good that no weights change, and other tests train in here
        subprocess.run([sys.executable, "-W", "ignore", "-c", client(page, text)], check=True)
    else:
        exec(compile(client(page, text), f"{page}.md", "exec"), variables)

    wanted = predict_probabilities(model, made_up_picture(SIZE))
    labels = np.squeeze(variables["labels"]) if probabilities else np.asarray(Image.open("cat.png"))
    assert labels.shape == SIZE and labels.dtype == np.uint8 and len(np.unique(labels)) > 1
    least = {"tflite_int8": 0.97, "tflite_float16": 0.99}.get(name, 0.999)
    assert (labels == wanted.argmax(-1)).mean() >= least
    if probabilities:
        np.testing.assert_allclose(np.squeeze(np.stack(variables["confidences"], -1)), wanted, atol=0.02)
