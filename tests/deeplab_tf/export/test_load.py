"""One loader for every kind of model."""

import dataclasses
import re

import numpy as np
import pytest

from deeplab_tf.config import InferenceConfig
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import experiment_config
from deeplab_tf.export import load
from deeplab_tf.export.description import Description, Exported
from deeplab_tf.export.load import BACKENDS, Backend, Loaded, load_segmenter
from deeplab_tf.inference.probabilities import predict_probabilities
from tests.tiny import tiny_network

INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))
CONFIG = dataclasses.replace(experiment_config("vgg16_large_fov"), dataset=INFO)
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def probabilities_of(image):
    scores = np.exp(image / 64.0, dtype=np.float32)
    return scores / scores.sum(axis=-1, keepdims=True)


def labels_of(image):
    return probabilities_of(image).argmax(axis=-1).astype(np.uint8)


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A function from what a backend loads to a path that it knows."""

    def add(exported):
        monkeypatch.setitem(BACKENDS, "made up", Backend(lambda path: path.endswith(".made_up"), lambda _: exported))
        return str(tmp_path / "a.made_up")

    return add


def test_a_file_is_loaded_by_the_backend_that_knows_it(path):
    loaded = load_segmenter(path(Exported(Description(CONFIG, (0, 0, 0)), labels_of, probabilities_of, True)))
    assert loaded.config is CONFIG and loaded.segmenter.takes_batches and loaded.segmenter.info == INFO
    np.testing.assert_array_equal(loaded.segmenter.segment(IMAGE).probabilities, probabilities_of(IMAGE))
    refined = loaded.with_crf().segment(IMAGE).probabilities
    np.testing.assert_array_equal(refined, dense_crf(IMAGE, probabilities_of(IMAGE), CONFIG.crf))


def test_a_file_of_one_size_takes_images_of_any_size_one_by_one(path):
    def of_its_size(image):
        assert image.shape == (16, 16, 3)
        return labels_of(image)

    description = Description(CONFIG, (0, 0, 0), size=(16, 16))
    segmenter = load_segmenter(path(Exported(description, of_its_size, takes_batches=True))).segmenter
    assert segmenter.segment(IMAGE).labels.shape == (20, 30) and not segmenter.takes_batches


@pytest.mark.parametrize(
    ("has_tiles", "remedy"),
    [(True, "Export the network with --tile=1025"), (False, "Export the network as a SavedModel with --tile=1025")],
)
def test_an_image_beyond_the_memory_is_refused_with_a_remedy_that_the_format_has(monkeypatch, has_tiles, remedy):
    exported = Exported(Description(CONFIG, (0, 0, 0), bytes_per_pixel=1e9), labels_of)
    monkeypatch.setitem(BACKENDS, "made up", Backend(lambda path: path == "a.made_up", lambda _: exported, has_tiles))
    segmenter = load_segmenter("a.made_up").segmenter
    with pytest.raises(UserError, match=re.escape(f"{remedy}, or make the image smaller.")):
        segmenter.segment(np.zeros((2001, 2001, 3), np.uint8))


def test_only_the_constants_of_an_exports_crf_change_with_the_configuration(path):
    crf = dataclasses.replace(CONFIG.crf, w1=9.0)
    exported = Exported(Description(CONFIG, (0, 0, 0)), labels_of, probabilities_of)
    loaded = load_segmenter(path(exported), lambda config: dataclasses.replace(config, crf=crf))
    assert loaded.with_crf("pydensecrf").crf == crf and loaded.with_crf("pydensecrf").crf_backend == "pydensecrf"
    assert loaded.segmenter.crf is None


def test_a_crf_after_labels_or_after_another_crf_is_refused(path):
    inside = load_segmenter(path(Exported(Description(CONFIG, (0, 0, 0), crf=True), labels_of, probabilities_of)))
    with pytest.raises(UserError, match=r"a\.made_up has the CRF inside: leave --crf out"):
        inside.with_crf()
    of_labels = load_segmenter(path(Exported(Description(CONFIG, (0, 0, 0)), labels_of)))
    with pytest.raises(UserError, match=r"a\.made_up answers labels, and the CRF needs probabilities"):
        of_labels.with_crf()


def test_what_no_backend_knows_is_a_workdir(monkeypatch, tmp_path):
    model, asked = tiny_network(), []
    inference = InferenceConfig(flip=True)
    monkeypatch.setattr(load.workdir, "read_config", lambda path: CONFIG)
    monkeypatch.setattr(load.workdir, "load", lambda path, config, best: asked.append((path, best)) or (model, config))
    loaded = load_segmenter(str(tmp_path), lambda config: dataclasses.replace(config, inference=inference), best=True)
    assert isinstance(loaded, Loaded) and asked == [(str(tmp_path), True)] and loaded.config.inference == inference
    found = loaded.segmenter.segment(IMAGE).probabilities
    np.testing.assert_allclose(found, predict_probabilities(model, IMAGE, inference), atol=1e-5)
    both = loaded.segmenter.run_network(np.stack([IMAGE, IMAGE[::-1]]))
    np.testing.assert_allclose(both[0], found, atol=1e-5)
    np.testing.assert_allclose(both[1], predict_probabilities(model, IMAGE[::-1].copy(), inference), atol=1e-5)


def test_a_wrong_path_points_to_the_right_one(tmp_path):
    saved_model = tmp_path / "mine" / "saved_model" / "1"
    saved_model.mkdir(parents=True)
    (saved_model / "saved_model.pb").write_bytes(b"")
    (tmp_path / "model.WEIGHTS.h5").write_bytes(b"")
    (tmp_path / "other.bin").write_bytes(b"")
    (tmp_path / "files").mkdir()
    files = [tmp_path / "files" / name for name in ("a.tflite", "a.onnx", "a_int8.onnx", "a.xml")]
    for file in (*files, tmp_path / "files" / "a.bin"):
        file.write_bytes(b"")
    for path, says in (
        (tmp_path / "mine", f"name {saved_model}"),
        (tmp_path / "files", f"name {' or '.join(map(str, files))}."),
        (saved_model.parent, f"name {saved_model}"),
        (tmp_path / "model.WEIGHTS.h5", "is a weights file: give it as --weights="),
        (tmp_path / "other.bin", "name a workdir, a SavedModel, or a file that ends in .tflite or .onnx or .xml."),
        (tmp_path / "nowhere", "does not exist; name a workdir"),
        (tmp_path, "is not a workdir of train.py"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            load_segmenter(str(path))
