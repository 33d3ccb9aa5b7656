"""Every pair of export options goes together, or is refused with a line."""

import dataclasses
import importlib
import itertools

import numpy as np
import pytest

from deeplab_tf.config import InferenceConfig
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import FORMATS
from deeplab_tf.export.compare import made_up_picture
from deeplab_tf.export.kind import Job
from deeplab_tf.export.load import load_exported
from deeplab_tf.export.saved_model import export_saved_model
from deeplab_tf.inference.probabilities import predict_probabilities
from deeplab_tf.layers.atrous import IMPLEMENTATIONS
from deeplab_tf.networks.deeplab import build_network
from tests.tiny import tiny_network

INFO = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
CONFIG = dataclasses.replace(EXPERIMENTS["vgg16_large_fov"], dataset=INFO)
SIZE = (65, 97)  # of the form 32k + 1, which TensorFlow Lite needs for two scales
OPTIONS = {
    "format": list(FORMATS),
    "size": [(None, None), SIZE],
    "atrous": list(IMPLEMENTATIONS),
    "precision": ["float32", "bfloat16", "float16"],
    "crf": [False, True],
    "probabilities": [False, True],
    "flip": [False, True],
    "tile": [0, 33],
    "winograd": [True, False],
    "scales": [(1.0,), (1.0, 0.5)],
    "align_corners": [True, False],
}
PICTURES = [made_up_picture(SIZE), np.roll(made_up_picture(SIZE), 30, axis=1)]
# Of the pixels. The network has 3 classes and random weights: in int8 many are close.
LEAST_EQUAL = {"float32": 0.999, "bfloat16": 0.97, "float16": 0.97, "int8": 0.85}


def allowed(chosen):
    return not (chosen["tile"] and not chosen["align_corners"])


def refusal(chosen):
    """What export.py says of a combination, or nothing."""
    kind = FORMATS[chosen["format"]]
    if kind == "tflite" and chosen["size"] == (None, None):
        return "needs the size of the images"
    return "no tiles inside" if kind != "saved_model" and chosen["tile"] else ""


def pairs_of(chosen):
    return set(itertools.combinations(sorted(chosen.items(), key=lambda item: item[0]), 2))


def rows():
    """Picks combinations that export and hold every pair of values that can; then one of each that is refused."""
    every = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
    every = [chosen for chosen in every if allowed(chosen)]
    waiting = [(pairs_of(chosen), chosen) for chosen in every if not refusal(chosen)]
    left, picked = set().union(*(pairs for pairs, _ in waiting)), []
    while left:
        pairs, best = max(waiting, key=lambda one: len(one[0] & left))  # with most new pairs
        left -= pairs
        picked.append(best)
    refused = {(chosen["format"], refusal(chosen)): chosen for chosen in every if refusal(chosen)}
    return [*picked, *refused.values()]


@pytest.mark.slow
@pytest.mark.parametrize("chosen", rows(), ids=lambda chosen: "-".join(map(str, chosen.values())))
def test_every_pair_of_options_exports_and_answers_as_the_network(tmp_path, chosen):
    for package in {"onnx": ["tf2onnx"], "openvino": ["tf2onnx", "openvino"]}.get(FORMATS[chosen["format"]], []):
        pytest.importorskip(package)
    model = network(chosen["atrous"], chosen["precision"], chosen["scales"])
    tile = chosen["tile"] and (65 if model.size_multiple > 16 else chosen["tile"])
    inference = InferenceConfig(
        flip=chosen["flip"],
        tile=tile,
        tile_overlap=8 if tile else InferenceConfig().tile_overlap,
        winograd=chosen["winograd"],
        align_corners=chosen["align_corners"],
    )
    config = dataclasses.replace(CONFIG, inference=inference)
    kind = importlib.import_module(f"deeplab_tf.export.{FORMATS[chosen['format']]}").KIND
    job = Job(model, config, str(tmp_path), chosen["size"], PICTURES, chosen["crf"], chosen["probabilities"])
    if says := refusal(chosen):
        with pytest.raises(UserError, match=says):
            list(kind.write(job, [chosen["format"]]))
        return
    list(kind.write(job, [chosen["format"]]))
    exported = load_exported(kind.path_of(str(tmp_path), config, chosen["format"]))
    least = LEAST_EQUAL["int8" if chosen["format"].endswith(("int8", "dynamic")) else chosen["precision"]]
    for picture in PICTURES:
        wanted = predict_probabilities(model, picture, inference)
        if chosen["crf"] and chosen["format"] == "saved_model":
            wanted = dense_crf(picture, wanted, config.crf, backend="tf")
        if exported.probabilities_of is not None:
            probabilities = exported.probabilities_of(picture)
            assert probabilities.shape == (*SIZE, 3) and np.isfinite(probabilities).all()
            if chosen["format"] == "saved_model" and (chosen["precision"] == "float32" or not chosen["crf"]):
                # The CRF amplifies the rounding of what it is given.
                atol = (1e-4 if chosen["crf"] else 1e-5) if chosen["precision"] == "float32" else 0.05
                np.testing.assert_allclose(probabilities, wanted, atol=atol)
        assert (exported.labels_of(picture) == wanted.argmax(-1)).mean() > least


def network(atrous, precision, scales):
    model = tiny_network(scales=scales)
    for layer in model._flatten_layers():
        if hasattr(layer, "implementation"):
            layer.implementation = atrous
    if precision != "float32":
        model.backbone.dtype_policy = f"mixed_{precision}"
        model.backbone.conv1_1.dtype_policy = f"mixed_{precision}"
    return model


@pytest.mark.parametrize("size", [(None, None), (65, 65)])
def test_auto_of_a_whole_network_is_exported(tmp_path, size):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, atrous="auto", output_stride=8))
    model = build_network(dataclasses.replace(config.model, hidden_units=16), 3, "bfloat16")
    path = export_saved_model(model, config, str(tmp_path), size=size)
    image = np.random.default_rng(0).integers(0, 256, (65, 65, 3), np.uint8)
    probabilities = load_exported(path).probabilities_of(image)
    np.testing.assert_allclose(probabilities, predict_probabilities(model, image), atol=0.01)
