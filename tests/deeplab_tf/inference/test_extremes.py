"""Numbers at the edges: single pixels, one class and 255, float16, constants of the CRF without sense, huge images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.experiments import experiment_config
from deeplab_tf.export.load import load_exported
from deeplab_tf.export.saved_model import export_saved_model
from deeplab_tf.inference import probabilities as inference
from deeplab_tf.inference.probabilities import build_predictor, predict_probabilities
from deeplab_tf.runtime import memory
from deeplab_tf.training.optimizer import build_optimizer, build_schedule
from deeplab_tf.training.step import build_train_step
from tests.tiny import TINY_MULTIPLIERS, tiny_network


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def train_once(model, labels):
    """The loss of a step, and whether all weights are finite after it."""
    optimizer = build_optimizer(
        "sgd",
        build_schedule("poly", 1e-2, 100, 0.9, 1, 0.1),
        momentum=0.9,
        weight_decay=0.0,
        of_layers=TINY_MULTIPLIERS,
    )
    step, _ = build_train_step(model, optimizer, tf.distribute.get_strategy(), 255)
    batch = {
        "image": tf.constant(picture(*labels.shape)[np.newaxis, np.newaxis], tf.float32),
        "labels": tf.constant(labels[np.newaxis, np.newaxis], tf.int32),
        "seeds": tf.zeros([1, 1, 2], tf.int32),
    }
    return step(batch).numpy(), all(np.isfinite(variable.numpy()).all() for variable in model.variables)


@pytest.mark.parametrize("num_classes", [1, 2, 255])
def test_one_class_and_255_are_trained_and_answered(num_classes):
    model = tiny_network(num_classes)
    labels = np.arange(33 * 33).reshape(33, 33) % num_classes
    losses, finite = train_once(model, labels)
    assert finite and np.isfinite(losses).all() and (num_classes > 1 or losses[0] == 0)
    probabilities = predict_probabilities(model, picture(17, 23))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    refined = dense_crf(picture(17, 23), probabilities, CrfParams(iterations=2))
    np.testing.assert_allclose(refined.sum(-1), 1, atol=1e-5)
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.full((17, 23), num_classes - 1), refined.argmax(-1).astype(np.uint8))
    names = [str(index) for index in range(num_classes)]
    assert 0 <= matrix.summary(names)["miou"] <= 1


@pytest.mark.parametrize(("place", "counts"), [((16, 8), True), ((17, 9), False)])
def test_an_object_of_one_pixel_counts_where_a_score_cell_sees_it(place, counts):
    """Scores meet every eighth label: a pixel between them is not there for the loss, which is 0 then and not NaN."""
    labels = np.full((33, 33), 255)
    labels[place] = 2
    losses, finite = train_once(tiny_network(), labels)
    assert finite and (losses[0] > 0) == counts


def test_an_image_of_one_pixel_has_an_answer_with_and_without_the_crf_tiles_and_mirror():
    model = tiny_network(scales=(1.0, 0.75, 0.5))
    image = picture(1, 1)
    wanted = predict_probabilities(model, image)
    for options in (InferenceConfig(flip=True), InferenceConfig(tile=97, tile_overlap=32)):
        np.testing.assert_allclose(build_predictor(model, options)(image), wanted, atol=1e-5)
    assert dense_crf(image, wanted).shape == (1, 1, 3)


@pytest.mark.parametrize(
    "constants",
    [
        {"w1": 1e30, "w2": 0.0},
        {"w1": 0.0, "w2": 1e30},
        {"w1": 0.0, "w2": 0.0},
        {"sigma_alpha": 1e30, "sigma_beta": 1e30, "sigma_gamma": 1e30},
        {"sigma_alpha": 1e-2, "sigma_gamma": 1e-2},
        {"sigma_beta": 0.1},
        {"iterations": 200},
    ],
    ids=str,
)
def test_probabilities_stay_probabilities_with_any_constants(constants):
    image = picture(9, 11)
    probabilities = np.random.default_rng(1).dirichlet([0.5, 0.5, 0.5], (9, 11)).astype(np.float32)
    refined = dense_crf(image, probabilities, CrfParams(**constants), min_probability=0.0)
    assert np.isfinite(refined).all() and refined.min() >= 0
    np.testing.assert_allclose(refined.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("constants", [{"sigma_alpha": 1e-9}, {"sigma_beta": 1e-9}, {"sigma_gamma": 1e-30}], ids=str)
def test_constants_that_no_lattice_can_hold_are_a_user_error(constants):
    probabilities = np.full((9, 11, 2), 0.5, np.float32)
    with pytest.raises(UserError, match="sigmas are too small for an image"):
        dense_crf(picture(9, 11), probabilities, CrfParams(**constants))


@pytest.mark.parametrize("name", ["w1", "w2", "sigma_alpha", "sigma_beta", "sigma_gamma", "iterations"])
def test_constants_beyond_float32_are_refused(name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(CrfParams(), **{name: 1e39})


# Huge images


def test_bytes_per_pixel_are_those_of_the_greediest_operation():
    kernel = tf.Variable(tf.ones([1, 1, 3, 16]))

    def compute(x):
        wide = tf.nn.conv2d(x, kernel, 1, "SAME")  # 3 floats in and 16 out; the kernel is not of the image
        return tf.reduce_sum(tf.cast(tf.nn.max_pool2d(wide, 2, 2, "SAME"), tf.float16))

    assert memory.bytes_per_pixel(compute, 64) == 16 * 4 + 4 * 4  # the pool: 16 in, a quarter of that out


def test_the_free_memory_is_known_and_plausible():
    free = memory.available_bytes()
    assert free is None or 1e6 < free < 1e15


@pytest.fixture
def little_memory(monkeypatch):
    """100 kB are free, and every image counts as large."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    monkeypatch.setattr(memory, "SMALL_PIXELS", 0)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])


def test_an_image_that_the_memory_cannot_hold_is_refused_and_tiles_are_suggested(little_memory):
    model = tiny_network()
    for predict in (build_predictor(model), lambda image: predict_probabilities(model, image)):
        with pytest.raises(UserError, match=r"image of 300x200 pixels takes .* in one piece.*free.*--tile=1025"):
            predict(picture(200, 300))


def test_what_fits_in_tiles_is_answered_and_what_does_not_is_refused(little_memory, monkeypatch):
    model = tiny_network()
    predict = build_predictor(model, InferenceConfig(tile=33, tile_overlap=16))
    with pytest.raises(UserError, match=r"image of 300x200 pixels takes .* even in tiles, with 3 classes"):
        predict(picture(200, 300))
    monkeypatch.setattr(memory, "available_bytes", lambda: 3_000_000)
    assert predict(picture(200, 300)).shape == (200, 300, 3)
    with pytest.raises(UserError, match="in one piece"):
        build_predictor(model)(picture(200, 300))


def test_where_the_memory_is_not_known_nothing_is_refused(little_memory, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert predict_probabilities(tiny_network(), picture(20, 30)).shape == (20, 30, 3)


def test_the_crf_of_an_image_that_the_memory_cannot_hold_is_refused(monkeypatch):
    probabilities = np.full((20, 30, 2), 0.5, np.float32)
    monkeypatch.setattr(memory, "SMALL_PIXELS", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    for backend in ("tf", "pydensecrf"):
        with pytest.raises(UserError, match=r"dense CRF of an image of 30x20 pixels takes .* free.*Leave the CRF out"):
            dense_crf(picture(20, 30), probabilities, backend=backend)
    needed = {"tf": 1_020_000, "pydensecrf": 378_000}  # (1600 + 2 * 50) * 600 and (500 + 2 * 65) * 600
    for backend, free in needed.items():
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free - 1)
        with pytest.raises(UserError, match="Leave the CRF out"):
            dense_crf(picture(20, 30), probabilities, backend=backend)
    for free in (needed["tf"], None):
        monkeypatch.setattr(memory, "available_bytes", lambda free=free: free)
        assert dense_crf(picture(20, 30), probabilities).shape == (20, 30, 2)


def test_an_exported_model_knows_how_much_memory_an_image_takes(little_memory, monkeypatch, tmp_path):
    info = DatasetInfo("toy", ("background", "cat", "dog"), pascal_palette(3))
    config = dataclasses.replace(experiment_config("vgg16_large_fov"), dataset=info)
    path = export_saved_model(tiny_network(), config, str(tmp_path), crf=True)
    ask = load_exported(path).probabilities_of
    with pytest.raises(UserError, match=r"image of 300x200 pixels takes .* in one piece.*free.*Export .*--tile=1025"):
        ask(picture(200, 300))
    needed = 1.25 * inference.bytes_per_pixel(tiny_network(), config.inference) * 60_000 + 4 * 3 * 60_000 * 3
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    with pytest.raises(UserError, match=r"the dense CRF of an image of 300x200 pixels takes .* free"):
        ask(picture(200, 300))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1e12)
    assert ask(picture(20, 30)).shape == (20, 30, 3)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    with pytest.raises(UserError, match=r"a batch of 4 images of 30x20 pixels takes .* in one piece"):
        ask(np.stack([picture(20, 30)] * 4))
    # One size only: larger images are scaled down to it.
    path = export_saved_model(tiny_network(), config, str(tmp_path / "one_size"), size=(33, 41))
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert load_exported(path).probabilities_of(picture(200, 300)).shape == (200, 300, 3)
