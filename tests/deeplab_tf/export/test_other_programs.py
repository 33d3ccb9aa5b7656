"""ONNX and OpenVINO files, where their packages are installed (requirements-export.txt)."""

import dataclasses

import numpy as np
import pytest

from deeplab_tf.config import InferenceConfig
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import onnx, onnx_graph, openvino
from deeplab_tf.export.compare import made_up_picture, pictures_of_two_sizes
from deeplab_tf.export.interchange import PortableNetwork
from deeplab_tf.export.load import load_exported, load_segmenter
from deeplab_tf.inference.probabilities import predict_probabilities
from tests.tiny import tiny_network

INFO = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
CONFIG = dataclasses.replace(EXPERIMENTS["vgg16_large_fov"], dataset=INFO)
ANY = (None, None)
PICTURES = pictures_of_two_sizes([], 8)


def export(model, out_dir, name, size=ANY, config=CONFIG, **kwargs):
    pictures = PICTURES if size == ANY else [made_up_picture(size)]
    for package in ("tf2onnx", "onnxruntime", *(["openvino"] if name in openvino.FORMATS else [])):
        pytest.importorskip(package)
    write = openvino.export_openvino if name in openvino.FORMATS else onnx.export_onnx
    kwargs = {"calibration": pictures} | kwargs
    [written] = write(model, config, str(out_dir), [name], size=size, pictures=pictures, **kwargs)
    return written


@pytest.mark.parametrize("size", [ANY, (41, 60)], ids=["any size", "one size"])
@pytest.mark.parametrize("name", [*onnx.FORMATS, *openvino.FORMATS])
def test_a_file_answers_the_labels_of_the_network(tmp_path, name, size):
    model = tiny_network(scales=(1.0, 0.5))
    written = export(model, tmp_path, name, size)
    exported = load_exported(written.path)
    assert exported.description.config == CONFIG and exported.description.size == size
    for picture in PICTURES if size == ANY else [made_up_picture(size)]:
        probabilities = predict_probabilities(model, picture)
        gap = 1e-3 if name in ("onnx", "openvino") else 0.05
        sure = np.diff(np.sort(probabilities, axis=-1)[..., -2:])[..., 0] > gap
        labels = exported.labels_of(picture)
        assert labels.dtype == np.uint8 and len(np.unique(labels)) > 1 and sure.mean() > 0.8
        agreeing = (labels == probabilities.argmax(-1))[sure].mean()
        # OpenVINO rounds the averages of 9x9 pixels to the levels of a pixel, before the tiny network scales them.
        assert agreeing >= {"onnx_int8": 0.97, "openvino_int8": 0.92}.get(name, 1)
    assert exported.takes_batches == (size == ANY)
    if size == ANY:
        both = exported.labels_of(np.stack([picture, picture[::-1]]))
        np.testing.assert_array_equal(both[0], labels)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_mirrored_images_can_be_inside(tmp_path, name):
    config = dataclasses.replace(CONFIG, inference=InferenceConfig(flip=True))
    assert export(tiny_network(), tmp_path, name, config=config).agreement > 0.999


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_that_computes_something_else_is_never_written(tmp_path, monkeypatch, name):
    other = PortableNetwork(tiny_network(seed=2), CONFIG.inference, ANY)
    monkeypatch.setattr(onnx_graph, "PortableNetwork", lambda *_: other)
    with pytest.raises(UserError, match=f"{name} was not written"):
        export(tiny_network(seed=1), tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_an_existing_file_is_kept_and_a_damaged_one_refused(tmp_path, name):
    model = tiny_network()
    path = tmp_path / ("vgg16_large_fov.xml" if name == "openvino" else "vgg16_large_fov.onnx")
    path.write_text("mine")
    with pytest.raises(UserError, match="exists; add --overwrite"):
        export(model, tmp_path, name)
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match=r"is not an (ONNX|OpenVINO) file of export\.py, or is damaged"):
        load_segmenter(str(path))
    export(model, tmp_path, name, overwrite=True)
    with pytest.raises(UserError, match="returns labels only, and the CRF needs probabilities"):
        load_segmenter(str(path)).with_crf()


def test_an_onnx_file_names_its_classes_and_pads_in_numbers(tmp_path):
    path = export(tiny_network(), tmp_path, "onnx").path
    model = pytest.importorskip("onnx").load(path)
    assert {entry.key: entry.value for entry in model.metadata_props}["class_names"] == "background\ncat\ndog"
    assert {node.domain for node in model.graph.node} == {""}
    assert not {"SpaceToDepth", "DepthToSpace"} & {node.op_type for node in model.graph.node}
    rules = [attribute.s for node in model.graph.node for attribute in node.attribute if attribute.name == "auto_pad"]
    assert set(rules) <= {b"NOTSET", b"VALID"}
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "labels", "confidence"]


def test_tiles_are_refused():
    with pytest.raises(UserError, match="no tiles inside"):
        PortableNetwork(tiny_network(), InferenceConfig(tile=33, tile_overlap=8), ANY)


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_missing_runtime_is_a_line_that_names_the_requirements(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("")
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=r"is not installed: pip install -r requirements-export\.txt"):
        load_segmenter(str(tmp_path / name))
